"""The siding on the server: what waits there, and the consumer of a troubled route whose turn it is (ADR 0005)."""

import secrets
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pulse_bus.api import CONSUMER_NOT_FOUND, NANOSECONDS, api_request
from pulse_bus.connection import Connection
from pulse_bus.errors import ApiError
from pulse_bus.inspection import Standing, next_message
from pulse_contracts.ids import RouteId, TenantId
from pulse_contracts.routes import LONGEST_PAUSE_S
from pulse_contracts.subjects import RouteAddress, siding
from pulse_contracts.tokens import encode_token
from pulse_contracts.topology import SIDING
from pulse_contracts.turns import HeadTries, TurnListing, TurnState

TURN_ACK_WAIT_S: Final = 12.0
"""Of a turn's consumer; the kinds' consumers have `topology.ACK_WAIT_S`."""
PULL_EXPIRES_S: Final = 2.0
"""A turn that is pulled at is not adopted; the pull requests of a process that is frozen must therefore expire soon."""
_INACTIVE_THRESHOLD_S: Final = LONGEST_PAUSE_S + 600
"""Longer than the longest pause: a paused consumer without pulls is deleted by it all the same."""
_MESSAGE_GONE: Final = frozenset({10037, 10043})
"""No such message, no such sequence."""
_DELETE_FAILED: Final = 10057
_SUBJECT_IS_CLAIMED: Final = 10100
"""On a work queue no two consumers may share a subject."""
_TOO_MANY_CONSUMERS: Final = 10026
"""The stream takes no more."""
_TURN: Final = "turn-"
_RESUME_AFTER: Final = timedelta(seconds=0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The siding as the server counts it. Bytes it counts for the whole only, not by subject."""

    waiting: dict[str, int]
    """Messages by subject: a route is troubled exactly when its subject is in here."""
    used_bytes: int
    most_bytes: int
    """``max_bytes``; not positive without a bound."""
    most_per_route: int
    """``max_msgs_per_subject``; not positive without a bound."""
    first_seq: int
    last_seq: int


class Siding:
    """Reads the siding and manages the consumers of turns. Every method may raise `ApiError` or `BusUnavailable`."""

    def __init__(self, connection: Connection, owner: str = "") -> None:
        """*owner* names this process in the consumers that it makes; who only reads needs none."""
        self._connection = connection
        self.owner = owner

    async def survey(self) -> Survey:
        """Return what waits, and how much room there is."""
        counts: dict[str, int] = {}
        offset = 0
        while True:
            info = await api_request(
                self._connection, f"STREAM.INFO.{SIDING.name}", {"subjects_filter": "siding.>", "offset": offset}
            )
            page: dict[str, int] = info["state"].get("subjects") or {}
            counts |= page
            offset += len(page)
            if not page or offset >= info.get("total", 0):
                return _survey(counts, info)

    async def waiting_of(self, address: RouteAddress) -> int:
        """Return how many messages of one route wait."""
        subject = siding(address.kind, address.tenant, address.route)
        info = await api_request(self._connection, f"STREAM.INFO.{SIDING.name}", {"subjects_filter": subject})
        counts: dict[str, int] = info["state"].get("subjects") or {}
        return counts.get(subject, 0)

    async def turns(self) -> dict[RouteAddress, TurnListing]:
        """Return every turn of every process."""
        listings = [_listing(info) async for info in self._consumers()]
        return {listing.address: listing for listing in listings if listing}

    async def turn_names(self) -> set[str]:
        """Return the names of all turns' consumers: a twentieth of what the server has to say of them."""
        names: set[str] = set()
        async for page in self._pages("CONSUMER.NAMES"):
            names.update(name for name in page if name.startswith(_TURN))
        return names

    async def turn_info(self, address: RouteAddress) -> dict[str, Any] | None:
        """Return the server's account of the route's consumer, or None if it has none."""
        async for info in self._consumers():
            if (listing := _listing(info)) and listing.address == address:
                return info
        return None

    async def _consumers(self) -> AsyncGenerator[dict[str, Any]]:
        async for page in self._pages("CONSUMER.LIST"):
            for info in page:
                yield info

    async def _pages(self, request: str) -> AsyncGenerator[list[Any]]:
        offset = 0
        while True:
            answer = await api_request(self._connection, f"{request}.{SIDING.name}", {"offset": offset})
            page: list[Any] = answer.get("consumers") or []
            yield page
            offset += len(page)
            if not page or offset >= answer.get("total", 0):
                return

    async def open_turn(
        self, address: RouteAddress, state: TurnState, paused_until: datetime | None = None
    ) -> str | None:
        """Make the route's consumer and return its name; None when the route has one, or the stream takes no more.

        With *paused_until* it is never seen without its pause.

        The claim is the subject, which a work queue gives to one consumer at a time. The name is new each time, so
        that nothing a process does late, be it an ack, a pause or a deletion, reaches the turn of its successor.
        """
        name = turn_name(address, secrets.token_hex(3))
        try:
            await self._create(address, name, "create", state, paused_until)
        except ApiError as exc:
            if exc.err_code not in {_SUBJECT_IS_CLAIMED, _TOO_MANY_CONSUMERS}:
                raise
            return None
        return name

    async def change_turn(self, address: RouteAddress, name: str, state: TurnState) -> None:
        """Let as many messages of the route be tried at once as *state* says, and show it."""
        await self._create(address, name, "update", state)

    async def pause(self, name: str, until: datetime) -> None:
        """Have the server deliver nothing of a turn before *until*; a moment that has passed resumes it."""
        # A pause that runs out wakes the pulls that wait; one that is lifted leaves them until they end.
        soonest = datetime.now(UTC) + _RESUME_AFTER
        await api_request(
            self._connection,
            f"CONSUMER.PAUSE.{SIDING.name}.{name}",
            {"pause_until": max(until, soonest).astimezone(UTC).isoformat()},
        )

    async def close_turn(self, name: str) -> None:
        """Delete a turn's consumer, if it is still there; its messages stay."""
        try:
            await api_request(self._connection, f"CONSUMER.DELETE.{SIDING.name}.{name}")
        except ApiError as exc:
            if exc.err_code != CONSUMER_NOT_FOUND:
                raise

    async def peek(self, address: RouteAddress, from_seq: int = 1) -> Standing | None:
        """Return the route's first message at or after *from_seq* without taking it."""
        subject = siding(address.kind, address.tenant, address.route)
        return await next_message(self._connection, SIDING.name, subject, from_seq)

    async def first(self) -> Standing | None:
        """Return the message that has been in the siding for longest, whatever route it is of, without taking it."""
        return await next_message(self._connection, SIDING.name, "siding.>", 1)

    async def remove(self, stream_seq: int) -> None:
        """Delete one message that has become a dead letter; one already gone is fine."""
        try:
            await api_request(
                self._connection, f"STREAM.MSG.DELETE.{SIDING.name}", {"seq": stream_seq, "no_erase": True}
            )
        except ApiError as exc:
            is_gone = exc.err_code in _MESSAGE_GONE
            # At the ends of the stream the server only says that it failed, and why in words.
            if not is_gone and not (exc.err_code == _DELETE_FAILED and "no message found" in exc.description):
                raise

    async def remove_through(self, address: RouteAddress, stream_seq: int) -> None:
        """Delete a route's messages up to this one and with it, all at once: they have become dead letters.

        Each deletion is a commit of its own that everybody's requests wait behind; a purge is one. Of what was given
        back of the route and stays, the server forgets that it was: it comes again after `ack_wait`.
        """
        subject = siding(address.kind, address.tenant, address.route)
        await api_request(self._connection, f"STREAM.PURGE.{SIDING.name}", {"filter": subject, "seq": stream_seq + 1})

    async def _create(
        self, address: RouteAddress, name: str, action: str, state: TurnState, paused_until: datetime | None = None
    ) -> None:
        subject = siding(address.kind, address.tenant, address.route)
        config: dict[str, Any] = {
            "name": name,
            "durable_name": name,
            "filter_subject": subject,
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": int(TURN_ACK_WAIT_S * NANOSECONDS),
            "max_deliver": -1,
            "max_ack_pending": state.in_flight,
            "mem_storage": True,
            "inactive_threshold": int(_INACTIVE_THRESHOLD_S * NANOSECONDS),
            "metadata": {
                "service": "delivery",
                "tenant": address.tenant,
                "route": address.route,
                "kind": address.kind,
                "owner": self.owner,
                **state.as_metadata(),
            },
        }
        if paused_until:
            # Of a consumer that is there the server ignores it.
            config["pause_until"] = paused_until.astimezone(UTC).isoformat()
        body = {"stream_name": SIDING.name, "config": config, "action": action}
        await api_request(self._connection, f"CONSUMER.CREATE.{SIDING.name}.{name}.{subject}", body)


def _survey(waiting: dict[str, int], info: dict[str, Any]) -> Survey:
    state, config = info["state"], info["config"]
    return Survey(
        waiting=waiting,
        used_bytes=state["bytes"],
        most_bytes=config["max_bytes"],
        most_per_route=config["max_msgs_per_subject"],
        first_seq=state["first_seq"],
        last_seq=state["last_seq"],
    )


def turn_name(address: RouteAddress, token: str) -> str:
    """Return the name of a route's siding consumer: readable, and by its *token* unlike that of any other turn."""
    return f"{_TURN}{encode_token(address.tenant)}-{encode_token(address.route)}-{token}"


def _listing(info: Mapping[str, Any]) -> TurnListing | None:
    """Return the turn that a consumer is, or None for one that somebody else made."""
    metadata: dict[str, str] = info["config"].get("metadata") or {}
    if not metadata.keys() >= {"kind", "tenant", "route", "owner"}:
        return None
    return TurnListing(
        address=RouteAddress(
            kind=metadata["kind"], tenant=TenantId(metadata["tenant"]), route=RouteId(metadata["route"])
        ),
        name=info["name"],
        owner=metadata["owner"],
        is_pulled=info.get("num_waiting", 0) > 0,
        progress=(info["delivered"]["consumer_seq"], info["ack_floor"]["consumer_seq"]),
        failures=int(failures) if (failures := metadata.get("failures", "")).isdecimal() else 0,
        paused_until=_moment(info["config"].get("pause_until")) if info.get("paused") else None,
        since=_moment(metadata.get("since")),
        error=metadata.get("error", ""),
        head=HeadTries.from_text(metadata.get("head", "")),
    )


def _moment(text: str | None) -> datetime | None:
    """Read a moment; None also for what somebody else wrote into metadata."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else None
