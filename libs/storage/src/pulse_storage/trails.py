"""What the tables say of one message, read in its tenant's own context."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg

from pulse_contracts.envelope import format_time
from pulse_contracts.ids import MessageId, TenantId
from pulse_contracts.records import AttemptRecord
from pulse_contracts.storing import StorageUnavailable
from pulse_storage.errors import translated_transaction
from pulse_storage.pool import Pool
from pulse_storage.queries import sql

_SEARCH_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMessage:
    """The row of ``telemetry``, without the payload."""

    device_id: str
    type: str
    topic: str
    time: datetime
    received_at: datetime
    stored_at: datetime | None
    """On record where the device supplied the id, for as long as a re-send is recognised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Which generation of the routes judged the message."""

    generation: int
    judged_at: datetime
    """At the latest: judgements are gathered for half a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedRoute:
    """What a route is called, and whether it is in use."""

    route_id: str
    name: str
    enabled: bool
    deleted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One message in the tables, but for its dead letters."""

    stored: StoredMessage | None
    is_searched: bool
    """Whether all of ``telemetry`` was looked through; it has no index by message."""
    judged: Judged | None
    attempts: Sequence[AttemptRecord]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """When a message may have been accepted, and what times its device may have given it, the likely ones first."""

    accepted_from: datetime
    measured: Sequence[tuple[datetime, datetime]]


async def read(pool: Pool, tenant: TenantId, message_id: MessageId, span: Span) -> Recorded:
    """Read one tenant's rows about the message; of another tenant's message there are none."""
    async with translated_transaction(pool, tenant) as connection:
        judged = await connection.fetchrow(sql("trail_judged"), tenant, message_id, span.accepted_from)
        attempts = await connection.fetch(sql("trail_attempts"), tenant, message_id)
    stored, is_searched = await _find_stored(pool, tenant, message_id, span)
    return Recorded(
        stored=stored,
        is_searched=is_searched,
        judged=Judged(**dict(judged)) if judged else None,
        attempts=[_attempt(row) for row in attempts],
    )


async def _find_stored(
    pool: Pool, tenant: TenantId, message_id: MessageId, span: Span
) -> tuple[StoredMessage | None, bool]:
    """Return the row, and whether the search for it has ended: after so long it is given up."""
    try:
        async with translated_transaction(pool, tenant) as connection:
            for first, last in span.measured:
                search = connection.fetchrow(sql("trail_stored"), tenant, message_id, first, last, timeout=_SEARCH_S)
                if row := await search:
                    return StoredMessage(**dict(row)), True
    except StorageUnavailable as exc:
        if isinstance(exc.__cause__, TimeoutError):
            return None, False
        raise
    return None, True


async def name_routes(pool: Pool, tenant: TenantId, route_ids: Collection[str]) -> dict[str, NamedRoute]:
    """Return the tenant's routes of these ids, deleted ones included."""
    async with translated_transaction(pool, tenant) as connection:
        rows = await connection.fetch(sql("trail_routes"), tenant, list(route_ids))
    return {row["route_id"]: NamedRoute(**dict(row)) for row in rows}


def _attempt(row: asyncpg.Record) -> AttemptRecord:
    fields: dict[str, Any] = dict(row)
    fields["at"] = format_time(row["at"])
    return AttemptRecord(**fields)
