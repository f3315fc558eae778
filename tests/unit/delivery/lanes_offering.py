"""Lanes to which numbers are offered."""

from pulse_contracts.ids import RouteId, TenantId
from pulse_contracts.routes import Rate
from pulse_delivery.domain.lanes import Lanes, Refused, Start, Waiting
from pulse_delivery.domain.limits import LaneLimits
from pulse_delivery.domain.rates import Rates

A, B = RouteId("a"), RouteId("b")
LIMITS = LaneLimits(
    slots=8,
    lane_in_flight=4,
    lane_waiting=3,
    stuck_in_flight=2,
    stuck_after_s=0.5,
    stuck_untold_s=0.5,
    stuck_factor=4.0,
)
BOUND = 16


class Offering:
    """Lanes, and what was offered to them with a number each."""

    def __init__(self, limits: LaneLimits = LIMITS, **rates: Rate) -> None:
        self.now = 0.0
        """What the permits go by."""
        self.rates = {RouteId(name): rate for name, rate in rates.items()}
        self.lanes: Lanes[int] = Lanes(limits, Rates(self.rates.get, lambda: self.now))
        self.tickets: list[int] = []
        self._items = 0

    def offer(self, route: RouteId, now: float = 0.0, *, in_flight: int = BOUND, tenant: TenantId | None = None) -> str:
        """Offer the next number; without a *tenant* the route is the only one of its own."""
        self._items += 1
        match self.lanes.offer(route, self._items, now, tenant=tenant or TenantId(route), in_flight=in_flight):
            case Start(ticket=ticket):
                self.tickets.append(ticket)
                return "start"
            case Waiting():
                return "wait"
            case Refused(reason=reason):
                return reason

    def offers(self, route: RouteId, count: int, now: float = 0.0) -> list[str]:
        return [self.offer(route, now) for _ in range(count)]

    def finish(self, now: float = 0.0, *, took_s: float | None = None) -> list[int]:
        starts = self.lanes.finish(self.tickets.pop(0), now, took_s=took_s, in_flight=BOUND)
        self.tickets += [start.ticket for start in starts]
        return [start.item for start in starts]

    def proceed(self, now: float) -> tuple[list[int], list[tuple[int, str]]]:
        """Let the time come and do what is due."""
        self.now = now
        begun: list[int] = []
        back: list[tuple[int, str]] = []
        for route in self.lanes.take_due():
            starts, refused = self.lanes.proceed(route, now, in_flight=BOUND)
            self.tickets += [start.ticket for start in starts]
            begun += [start.item for start in starts]
            back += [(each.item, each.reason) for each in refused]
        return begun, back
