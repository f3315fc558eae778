"""What is told of a route that is back on the fast lane."""

from datetime import datetime

from pulse_contracts.subjects import RouteAddress
from pulse_runtime.clock import Clock
from pulse_runtime.events import ROUTE_RECOVERED
from pulse_runtime.logging import get_logger
from pulse_runtime.metrics import DeliveryMetrics

_log = get_logger(__name__)


def report_recovery(
    address: RouteAddress, since: datetime, succeeded_at: float | None, metrics: DeliveryMetrics, clock: Clock
) -> None:
    """Say how long the route was troubled, and how long its backlog took from the first success on."""
    troubled_s = (clock.now() - since).total_seconds()
    recovery_s = 0.0 if succeeded_at is None else clock.monotonic() - succeeded_at
    metrics.recovery_seconds.observe(recovery_s)
    _log.info(
        ROUTE_RECOVERED,
        route_id=address.route,
        tenant_id=address.tenant,
        troubled_s=round(troubled_s, 3),
        recovery_s=round(recovery_s, 3),
    )
