"""A late failure on the fast lane emptied a lane that a turn held; the lane was never held again.

While the last messages of a siding are delivered, new ones gather in the route's lane. An attempt of the lane that had
begun before the trouble and failed now emptied it, and the turn's next success, which should have held it again,
changed nothing: new messages overtook the siding, and tried a half-open destination as often as they came.
"""

from typing import Any

from prometheus_client import CollectorRegistry

from pulse_bus.notices import TurnNotices
from pulse_bus.publisher import Publisher
from pulse_contracts.ids import RouteId, TenantId
from pulse_contracts.subjects import RouteAddress
from pulse_delivery.adapters.attempt_spans import AttemptSpans
from pulse_delivery.adapters.attempts import Attempts
from pulse_delivery.adapters.route_book import RouteBook
from pulse_delivery.adapters.settler import Settler
from pulse_delivery.adapters.shunts import Shunts
from pulse_delivery.domain.lanes import Lanes, Waiting
from pulse_delivery.domain.limits import LaneLimits
from pulse_delivery.domain.memory import DeliveredMemory
from pulse_delivery.domain.rates import Rates
from pulse_delivery.domain.room import SidingRoom
from pulse_delivery.domain.troubles import Troubles
from pulse_delivery.lanes.fast_lane import FastLane, Held
from pulse_delivery.lanes.outage import Outage
from pulse_delivery.siding.gate import FastLaneGate
from pulse_runtime.clock import SystemClock
from pulse_runtime.metrics import BusMetrics, DeliveryMetrics
from pulse_runtime.spans import OFF
from pulse_storage.sealing import KeyRing
from pulse_testkit.nats import Bus

ROUTE = RouteAddress(kind="webhook", tenant=TenantId("acme"), route=RouteId("r-1"))


async def test_a_lane_that_a_failure_emptied_is_held_again_by_the_turns_next_success(bus: Bus) -> None:
    lanes = Lanes[Held](LaneLimits(), Rates(lambda _route: None, lambda: 0.0))
    gate = await _gate(bus, lanes)
    gate.hold(ROUTE)
    lanes.withdraw(ROUTE.route)
    gate.hold(ROUTE)
    only_moved: Any = object()
    found = lanes.offer(ROUTE.route, only_moved, 0.0, tenant=ROUTE.tenant, in_flight=16)
    assert isinstance(found, Waiting), "a new message overtook the siding"


async def _gate(bus: Bus, lanes: Lanes[Held]) -> FastLaneGate:
    connection = await bus.connect("delivery")
    clock, registry = SystemClock(), CollectorRegistry()
    metrics, bus_metrics = DeliveryMetrics(registry), BusMetrics(registry)
    siding, dead_letters, attempts = (
        Publisher(connection, stream, clock=clock, metrics=bus_metrics, linger_s=0)
        for stream in ("SIDING", "DEADLETTER", "ATTEMPT")
    )
    troubles, outage = Troubles(), Outage(clock, metrics)
    fast_lane = FastLane(
        {},
        lanes=lanes,
        limits=LaneLimits(),
        troubles=troubles,
        book=RouteBook("postgresql://127.0.0.1:1/", KeyRing.parse("k:" + "A" * 43 + "="), clock),
        attempts=Attempts({}, DeliveredMemory(), clock, outage.note, AttemptSpans(OFF, clock)),
        settler=Settler(
            shunts=Shunts(siding, SidingRoom(0.5), troubles, metrics=metrics, clock=clock),
            dead_letters=dead_letters,
            attempts=attempts,
            descriptors={},
            secret_fields=lambda _route: (),
            metrics=metrics,
            clock=clock,
        ),
        outage=outage,
        metrics=metrics,
        clock=clock,
        lag_s=lambda: 0.0,
    )
    return FastLaneGate(fast_lane, lanes, troubles, TurnNotices(connection, "me"), clock)
