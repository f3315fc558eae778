"""Keeps the table of routes in step with PostgreSQL."""

from pulse_router.domain.table import RouteTable, build_table
from pulse_runtime.clock import Clock
from pulse_runtime.events import ROUTE_SKIPPED, ROUTES_LOADED
from pulse_runtime.logging import get_logger
from pulse_runtime.metrics import RouterMetrics
from pulse_storage import routes
from pulse_storage.feed import Feed
from pulse_storage.pool import Connection
from pulse_storage.route_listing import for_matching

_log = get_logger(__name__)


class RouteTableFeed:
    """Holds the table of the moment, which is replaced as a whole."""

    def __init__(self, dsn: str, metrics: RouterMetrics, clock: Clock) -> None:
        self._metrics = metrics
        self.table = RouteTable()
        self._listing = for_matching()
        self.feed = Feed(dsn, routes.CHANNEL, self._refresh, service="router", clock=clock)

    async def _refresh(self, connection: Connection) -> None:
        self.table = build_table(await self._listing.refresh(connection), self.table)
        for fault in self.table.faults:
            _log.warning(ROUTE_SKIPPED, route_id=fault.route_id, error=fault.error)
        self._metrics.routes.set(len(self.table.compiled))
        self._metrics.routes_invalid.set(len(self.table.faults))
        _log.debug(ROUTES_LOADED, routes=len(self.table.compiled))
