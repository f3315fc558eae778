"""All tenants' routes, read again in small steps: a change of one of them must not hold up everybody's messages."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import asyncpg

from pulse_contracts.routes import InvalidPolicy, Route
from pulse_runtime.events import ROUTE_SKIPPED
from pulse_runtime.logging import get_logger
from pulse_storage.pool import Connection
from pulse_storage.queries import sql
from pulse_storage.routes import StoredRoute, matched_route, stored_route

R = TypeVar("R")

_log = get_logger(__name__)
_PAGE: Final = 100
"""Rows that are read at once, which holds the event loop for some 5 ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known(Generic[R]):
    version: tuple[int, int]
    """Revision and generation."""
    route: R | None
    """None if this version cannot read it."""


class RouteListing(Generic[R]):
    """The routes of every tenant, tombstones included; of those that did not change since, the same objects again."""

    def __init__(self, query: str, read: Callable[[asyncpg.Record], R]) -> None:
        self._query = query
        self._read = read
        self._known: dict[str, _Known[R]] = {}

    async def refresh(self, connection: Connection) -> list[R]:
        """Return all that this version can read; raises what the database raises.

        One row of one tenant that it cannot read stops nobody else's routes.
        """
        # In one view of the table: a tenant's generation says that everything up to it was read.
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            versions: Sequence[asyncpg.Record] = await connection.fetch(sql("routes_versions"))
            known = {row["route_id"]: self._known.get(row["route_id"]) for row in versions}
            changed = [row["route_id"] for row in versions if not _is_at(known[row["route_id"]], row)]
            for start in range(0, len(changed), _PAGE):
                page = changed[start : start + _PAGE]
                rows: Sequence[asyncpg.Record] = await connection.fetch(sql(self._query), page)
                known |= {row["route_id"]: _Known(version=_version(row), route=self._readable(row)) for row in rows}
                await asyncio.sleep(0)
        self._known = {route_id: one for route_id, one in known.items() if one}
        return [one.route for one in self._known.values() if one.route is not None]

    def _readable(self, row: asyncpg.Record) -> R | None:
        try:
            return self._read(row)
        except InvalidPolicy as exc:
            _log.warning(ROUTE_SKIPPED, tenant_id=row["tenant_id"], route_id=row["route_id"], error=str(exc))
            return None


def for_matching() -> RouteListing[Route]:
    """Return a listing without secrets."""
    return RouteListing("routes_match", matched_route)


def for_delivery() -> RouteListing[StoredRoute]:
    """Return a listing with sealed secrets."""
    return RouteListing("routes_deliver", stored_route)


def _is_at(known: _Known[R] | None, row: asyncpg.Record) -> bool:
    return known is not None and known.version == _version(row)


def _version(row: asyncpg.Record) -> tuple[int, int]:
    return row["revision"], row["generation"]
