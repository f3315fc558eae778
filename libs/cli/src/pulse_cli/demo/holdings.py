"""Reads what the system has: rows as each tenant sees them, and what stands unacknowledged in the streams."""

from collections.abc import Iterable

from pulse_bus.connection import Connection
from pulse_bus.inspection import Standing, unacknowledged
from pulse_cli.demo.ledger import Holdings, Pair
from pulse_contracts.envelope import decode_envelope
from pulse_contracts.ids import TenantId
from pulse_contracts.kinds import installed_kinds
from pulse_contracts.records import DeadLetterRecord
from pulse_contracts.subjects import parse_route_address
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
from pulse_storage.pool import Pool


async def read_holdings(pool: Pool, bus: Connection, tenants: Iterable[TenantId]) -> Holdings:
    """Read the streams first: what moves on meanwhile is then found further down, not nowhere."""
    unstored = {decode_envelope(message.data).message_id for message in await _of(bus, STORE)}
    unrouted = {decode_envelope(message.data).message_id for message in await _of(bus, ROUTER)}
    pairs: set[Pair] = set()
    for kind in installed_kinds().values():
        if kind.emits:
            pairs |= {_pair(message) for message in await _of(bus, deliver_consumer(kind.name))}
    pairs |= {_pair(message) for message in await unacknowledged(bus, SIDING.name, "siding.>", None)}
    for message in await _of(bus, DEAD_LETTER_WRITER):
        record = DeadLetterRecord.decode(message.data)
        pairs.add((record.envelope.message_id, record.route_id))
    quarantining = await _of(bus, QUARANTINE_WRITER)
    stored: dict[str, int] = {}
    dead: set[Pair] = set()
    quarantined = 0
    for tenant in tenants:
        counted = await census.count(pool, tenant)
        stored |= counted.stored
        dead |= counted.dead_lettered
        quarantined += counted.quarantined
    return Holdings(
        stored=stored,
        quarantined=quarantined,
        dead_lettered=frozenset(dead),
        unstored=frozenset(unstored),
        unrouted=frozenset(unrouted),
        in_streams=frozenset(pairs),
        is_idle=not (unstored or unrouted or pairs or quarantining),
    )


async def _of(bus: Connection, consumer: ConsumerSpec) -> list[Standing]:
    return await unacknowledged(bus, consumer.stream, consumer.filter_subject, consumer.name)


def _pair(message: Standing) -> Pair:
    return decode_envelope(message.data).message_id, parse_route_address(message.subject).route
