"""The routes as delivery knows them, with their secrets, kept in step with PostgreSQL."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from pulse_contracts.ids import RouteId
from pulse_contracts.routes import Rate, Route
from pulse_runtime.clock import Clock
from pulse_runtime.logging import get_logger
from pulse_storage import routes
from pulse_storage.feed import Feed
from pulse_storage.pool import Connection
from pulse_storage.route_listing import for_delivery
from pulse_storage.sealing import KeyRing, SecretsUnreadable

_log = get_logger(__name__)
_UNKNOWN_WAIT_S: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A route and what its sender needs beyond the configuration."""

    route: Route
    secrets: Mapping[str, object]
    trouble: str | None = None
    """Why the secrets cannot be used, or None."""


class RouteBook:
    """Routes by id. A tombstone stays in the book: only it means that a route is gone."""

    def __init__(self, dsn: str, keys: KeyRing, clock: Clock) -> None:
        self._keys = keys
        self._listing = for_delivery()
        self._destinations: dict[RouteId, Destination] = {}
        self._changed = asyncio.Condition()
        self._on_change: list[Callable[[Collection[RouteId]], None]] = []
        self.feed = Feed(dsn, routes.CHANNEL, self._refresh, service="delivery", clock=clock)

    def get(self, route: RouteId, revision: int = 0) -> Destination | None:
        """Return a route at *revision* or later; None while the book does not know that."""
        found = self._destinations.get(route)
        return found if found and found.route.revision >= revision else None

    def revision_of(self, route: RouteId) -> int:
        """Return the revision of a route that the book has, 0 if it has none."""
        found = self._destinations.get(route)
        return found.route.revision if found else 0

    def is_parked(self, route: RouteId) -> bool:
        """Whether a route is disabled as far as the book knows: what waits of it rests."""
        found = self._destinations.get(route)
        return found is not None and not found.route.enabled and not found.route.deleted

    def rate_of(self, route: RouteId) -> Rate | None:
        """Return the rate in a route's policy as it is now."""
        found = self._destinations.get(route)
        return found.route.policy.rate if found else None

    def secret_fields(self, route: RouteId) -> Iterable[str]:
        """Return the names of what a route keeps secret; none of a route that the book does not know."""
        found = self._destinations.get(route)
        return found.secrets if found else ()

    async def wait_for(self, route: RouteId, revision: int) -> Destination | None:
        """Wait a moment for a revision that the router saw before we did; None if it does not come."""
        try:
            async with asyncio.timeout(_UNKNOWN_WAIT_S), self._changed:
                await self._changed.wait_for(lambda: self.get(route, revision))
        except TimeoutError:
            return None
        return self.get(route, revision)

    def on_change(self, callback: Callable[[Collection[RouteId]], None]) -> None:
        """Call *callback* with the routes that a reading of the table has changed or brought."""
        self._on_change.append(callback)

    async def _refresh(self, connection: Connection) -> None:
        await self.learn(await self._listing.refresh(connection))

    async def learn(self, listed: Iterable[routes.StoredRoute]) -> None:
        """Take *listed* for all routes that there are."""
        known = self._destinations
        self._destinations = {stored.route.route_id: self._open(stored) for stored in listed}
        changed = {route for route, found in self._destinations.items() if known.get(route) is not found}
        for callback in self._on_change:
            callback(changed)
        async with self._changed:
            self._changed.notify_all()

    def _open(self, stored: routes.StoredRoute) -> Destination:
        route = stored.route
        known = self._destinations.get(route.route_id)
        if known and known.route == route:
            return known
        try:
            return Destination(route=route, secrets=self._keys.open(route.tenant_id, route.route_id, stored.secrets))
        except SecretsUnreadable as exc:
            _log.error("secrets_unreadable", route_id=route.route_id, error=str(exc))
            return Destination(route=route, secrets={}, trouble=str(exc))
