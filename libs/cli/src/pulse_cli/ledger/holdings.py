"""Reads what the system has: rows as each tenant sees them, and what stands unacknowledged in the streams."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from pulse_bus.api import STREAM_NOT_FOUND, api_request
from pulse_bus.connection import Connection
from pulse_bus.errors import ApiError
from pulse_bus.inspection import Standing, unacknowledged
from pulse_cli.ledger.facts import Entry, Holdings, Pair, StoredRow, digest_of, garbage_entry
from pulse_contracts.envelope import InvalidEnvelope, decode_envelope
from pulse_contracts.ids import TenantId
from pulse_contracts.kinds import installed_kinds
from pulse_contracts.records import DeadLetterRecord, QuarantineRecord
from pulse_contracts.subjects import parse_route_address
from pulse_contracts.tokens import encode_token
from pulse_contracts.topology import (
    DEAD_LETTER_WRITER,
    QUARANTINE_WRITER,
    ROUTER,
    SIDING,
    STORE,
    ConsumerSpec,
    deliver_consumer,
)
from pulse_storage import census
from pulse_storage.census import Census
from pulse_storage.pool import Pool

_BROKERS_STREAM: Final = "$MQTT_msgs"


@dataclass(slots=True)
class _Rows:
    """What tenants see in the tables."""

    stored: list[StoredRow] = field(default_factory=list[StoredRow])
    quarantined: set[tuple[str, Entry]] = field(default_factory=set[tuple[str, Entry]])
    dead_lettered: set[tuple[str, Pair]] = field(default_factory=set[tuple[str, Pair]])


async def read_holdings(pool: Pool, bus: Connection, tenants: Iterable[TenantId]) -> Holdings:
    """Read the streams first: what moves on meanwhile is then found further down, not nowhere.

    The tables are read in each tenant's own context, and of the siding each tenant's part. May raise `BusError`, and
    what `pulse_storage.pool.UNAVAILABLE` lists.
    """
    tenants = tuple(tenants)
    kept_by_broker = await _kept_by_broker(bus)
    unstored = {decode_envelope(message.data).message_id for message in await _of(bus, STORE)}
    unrouted = {decode_envelope(message.data).message_id for message in await _of(bus, ROUTER)}
    undelivered = await _undelivered(bus)
    set_aside = await _set_aside(bus, tenants)
    unfiled = await _unfiled(bus)
    records = [QuarantineRecord.decode(message.data) for message in await _of(bus, QUARANTINE_WRITER)]
    rows = _Rows()
    for tenant in tenants:
        _add(rows, tenant, await census.read(pool, tenant))
    return Holdings(
        stored=rows.stored,
        quarantined=frozenset(rows.quarantined),
        dead_lettered=frozenset(rows.dead_lettered),
        kept_by_broker=kept_by_broker,
        unstored=frozenset(unstored),
        unrouted=frozenset(unrouted),
        unquarantined=frozenset(_refused_entry(each.tenant_id, each.reason, each.payload) for each in records),
        undelivered=undelivered,
        set_aside=set_aside,
        unfiled=unfiled,
    )


async def _kept_by_broker(bus: Connection) -> int:
    """Return what nats-server's own broker keeps; an external one is not asked."""
    try:
        info = await api_request(bus, f"STREAM.INFO.{_BROKERS_STREAM}")
    except ApiError as exc:
        if exc.err_code != STREAM_NOT_FOUND:
            raise
        return 0
    return info["state"]["messages"]


async def _undelivered(bus: Connection) -> frozenset[Pair]:
    emitting = [kind.name for kind in installed_kinds().values() if kind.emits]
    return frozenset(
        [_pair(message) for name in emitting for message in await _of(bus, deliver_consumer(name))],
    )


async def _set_aside(bus: Connection, tenants: Iterable[TenantId]) -> frozenset[Pair]:
    subjects = [f"siding.*.{encode_token(tenant)}.*" for tenant in tenants]
    return frozenset(
        [_pair(message) for subject in subjects for message in await unacknowledged(bus, SIDING.name, subject, None)]
    )


async def _unfiled(bus: Connection) -> frozenset[Pair]:
    records = [DeadLetterRecord.decode(message.data) for message in await _of(bus, DEAD_LETTER_WRITER)]
    return frozenset((record.envelope.message_id, record.route_id) for record in records)


def _add(rows: _Rows, tenant: str, found: Census) -> None:
    rows.stored += [
        StoredRow(entry=row.message_id, tenant=tenant, topic=row.topic, digest=digest_of(json.loads(row.payload)))
        for row in found.stored
    ]
    rows.quarantined |= {(tenant, _refused_entry(tenant, row.reason, row.payload)) for row in found.quarantined}
    rows.dead_lettered |= {(tenant, pair) for pair in found.dead_lettered}


def _refused_entry(tenant: str, reason: str, payload: bytes) -> Entry:
    """Name what was quarantined: a message if the store refused it, otherwise what the device sent."""
    if reason == "store_refused":
        try:
            return decode_envelope(payload).message_id
        except InvalidEnvelope:  # only its beginning is kept
            return garbage_entry(tenant, payload)
    return garbage_entry(tenant, payload)


async def _of(bus: Connection, consumer: ConsumerSpec) -> list[Standing]:
    return await unacknowledged(bus, consumer.stream, consumer.filter_subject, consumer.name)


def _pair(message: Standing) -> Pair:
    return decode_envelope(message.data).message_id, parse_route_address(message.subject).route
