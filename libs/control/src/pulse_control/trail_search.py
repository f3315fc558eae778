"""Finding the trail of a message: in the streams first, then in its tenant's tables.

In this order what moves on meanwhile is found further down, not nowhere.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar
from uuid import UUID

from pulse_bus.api import api_request
from pulse_bus.connection import Connection
from pulse_bus.inspection import Standing as Message
from pulse_bus.inspection import each_unacknowledged
from pulse_contracts import headers
from pulse_contracts.envelope import Envelope, InvalidEnvelope, decode_envelope
from pulse_contracts.ids import MessageId, TenantId
from pulse_contracts.records import AttemptRecord, DeadLetterRecord, JudgementRecord
from pulse_contracts.subjects import tenant_token
from pulse_contracts.tokens import InvalidToken, decode_token, encode_token
from pulse_contracts.topology import (
    DEAD_LETTER_WRITER,
    DELIVERY,
    DELIVERY_LOG_WRITER,
    JUDGEMENT_WRITER,
    ROUTER,
    SIDING,
    STORE,
)
from pulse_control.context import Control
from pulse_control.errors import ControlRefused, NotFound
from pulse_control.tenants import known_tenant, list_tenants
from pulse_control.trail import Fate, Match, Standing, Trail, assemble, routes_of
from pulse_storage import dead_letters, trails
from pulse_storage.trails import Judged, Span

R = TypeVar("R")

_MOST_READ: Final = 10_000
"""Messages of one stream: a few seconds' worth."""
_OWN_IDS: Final = 7
"""The version of ids that Pulse makes, which hold their time; supplied ones give theirs away nowhere."""
_CLOCKS: Final = timedelta(minutes=1)
_LIKELY: Final = timedelta(minutes=10)
_YEAR_AND_A_DAY, _TWO_DAYS = timedelta(days=366), timedelta(days=2)
"""What a device may say of its time is at most a year old and a day early."""
_STORED_AT: Final = "Nats-Time-Stamp"
_DELIVER: Final = "deliver-"


async def find_trail(control: Control, bus: Connection, text: str, tenant: str | None) -> Trail:
    """Return the trail of a message, of *tenant* only if one is given.

    Raises `ControlRefused` for what is no id, `NotFound` if nothing is on record of it, `ApiError`, `BusUnavailable`.
    """
    message_id = _message_id(text)
    owner = await known_tenant(control, tenant) if tenant is not None else None
    standing = await _Search(bus, message_id, owner).run()
    owner = owner or standing.tenant
    owners = [owner] if owner else [row.tenant_id for row in await list_tenants(control)]
    for candidate in owners:
        recorded = await trails.read(control.pool, candidate, message_id, _span(message_id))
        dead = await dead_letters.find(control.pool, candidate, message_id=message_id)
        if standing.tenant or recorded.stored or recorded.judged or recorded.attempts or dead:
            names = await trails.name_routes(control.pool, candidate, routes_of(recorded, standing, dead))
            return assemble(message_id, candidate, recorded=recorded, standing=standing, dead=dead, names=names)
    of_tenant = f" of tenant {tenant}" if tenant else ""
    raise NotFound("message_id", f"nothing is on record of a message {message_id}{of_tenant}")


def _message_id(text: str) -> MessageId:
    try:
        return MessageId(str(UUID(text)))
    except ValueError as exc:
        raise ControlRefused("message_id", "must be a UUID, as ingest answers it and webhooks carry it") from exc


def _span(message_id: MessageId) -> Span:
    """Return which times the message can have: a row must be found without looking at every day there is."""
    latest = datetime.now(UTC) + _TWO_DAYS
    accepted = _time_of(message_id)
    if accepted is None or accepted > latest:
        beginning = datetime.fromtimestamp(0, UTC)
        return Span(accepted_from=beginning, measured=[(beginning, latest)])
    likely = (accepted - _LIKELY, accepted + _LIKELY)
    possible = (accepted - _YEAR_AND_A_DAY, accepted + _TWO_DAYS)
    return Span(accepted_from=accepted - _CLOCKS, measured=[likely, possible])


def _time_of(message_id: MessageId) -> datetime | None:
    value = UUID(message_id)
    if value.version != _OWN_IDS:
        return None
    try:
        return datetime.fromtimestamp((value.int >> 80) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


@dataclass(slots=True, eq=False)
class _Search:
    """Looks for one message in all streams, of one tenant or of all."""

    bus: Connection
    message_id: MessageId
    owner: TenantId | None
    _tenant: TenantId | None = None
    _envelope: Envelope | None = None
    _not_searched: list[str] = field(default_factory=list[str])

    async def run(self) -> Standing:
        whose = encode_token(self.owner) if self.owner else "*"
        unstored = [each async for each in self._look(STORE.stream, f"telemetry.{whose}.>", STORE.name)]
        unrouted = [each async for each in self._look(ROUTER.stream, f"telemetry.{whose}.>", ROUTER.name)]
        matches = [
            _match(each, Fate.FAST_LANE)
            for consumer in await self._deliver_consumers()
            async for each in self._look(
                DELIVERY.name, f"delivery.{consumer.removeprefix(_DELIVER)}.{whose}.*", consumer
            )
        ]
        matches += [_match(each, Fate.SIDING) async for each in self._look(SIDING.name, f"siding.*.{whose}.*", None)]
        unfiled = [
            record
            async for each in self._look(DEAD_LETTER_WRITER.stream, f"deadletter.{whose}.*", DEAD_LETTER_WRITER.name)
            if (record := _decoded(DeadLetterRecord.decode, each))
        ]
        attempts = [
            record
            async for each in self._look(DELIVERY_LOG_WRITER.stream, f"attempt.{whose}.*", DELIVERY_LOG_WRITER.name)
            if (record := _decoded(AttemptRecord.decode, each))
        ]
        judged = await self._judged(f"judgement.{whose}")
        return Standing(
            tenant=self._tenant,
            envelope=self._envelope or (unfiled[0].envelope if unfiled else None),
            unstored=bool(unstored),
            unrouted=bool(unrouted),
            judged=judged,
            matches=matches,
            attempts=attempts,
            unfiled=unfiled,
            not_searched=tuple(dict.fromkeys(self._not_searched)),
        )

    async def _deliver_consumers(self) -> list[str]:
        answer = await api_request(self.bus, f"CONSUMER.NAMES.{DELIVERY.name}")
        names: list[str] = answer.get("consumers") or []
        return [name for name in names if name.startswith(_DELIVER)]

    async def _judged(self, subject: str) -> Judged | None:
        async for message in self._read(JUDGEMENT_WRITER.stream, subject, JUDGEMENT_WRITER.name):
            record = _decoded(JudgementRecord.decode, message)
            if record and self.message_id in record.message_ids:
                self._tenant = self._tenant or record.tenant_id
                return Judged(generation=record.generation, judged_at=record.judged_at)
        return None

    async def _look(self, stream: str, subject: str, consumer: str | None) -> AsyncGenerator[Message]:
        async for message in self._read(stream, subject, consumer):
            # `{message_id}` in TELEMETRY; everywhere else more follows after a colon.
            if message.headers.get(headers.MSG_ID, "").partition(":")[0] == self.message_id and self._note(message):
                yield message

    async def _read(self, stream: str, subject: str, consumer: str | None) -> AsyncGenerator[Message]:
        read = 0
        async with aclosing(each_unacknowledged(self.bus, stream, subject, consumer)) as messages:
            async for message in messages:
                yield message
                read += 1
                if read == _MOST_READ:
                    self._not_searched.append(stream)
                    return

    def _note(self, message: Message) -> bool:
        """Remember whose it is and what it says; False for a subject that is none of ours."""
        try:
            tenant = TenantId(decode_token(tenant_token(message.subject)))
            decode_token(message.subject.rpartition(".")[2])
        except InvalidToken:
            return False
        self._tenant = self._tenant or tenant
        self._envelope = self._envelope or _decoded(decode_envelope, message)
        return True


def _decoded(decode: Callable[[bytes], R], message: Message) -> R | None:
    try:
        return decode(message.data)
    except InvalidEnvelope:  # of another version, or somebody else's
        return None


def _match(message: Message, lane: Fate) -> Match:
    routed_at = message.headers.get(headers.ROUTED_AT, "")
    is_known = routed_at.isascii() and routed_at.isdecimal()
    return Match(
        route_id=decode_token(message.subject.rpartition(".")[2]),
        lane=lane,
        since=datetime.fromisoformat(message.headers[_STORED_AT]),
        routed_at=datetime.fromtimestamp(int(routed_at) / 1000, UTC) if is_known else None,
        cause=message.headers.get(headers.CAUSE),
    )
