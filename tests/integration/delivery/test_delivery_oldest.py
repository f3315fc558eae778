import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from pulse_bus.connection import Connection
from pulse_bus.siding import Siding
from pulse_contracts import headers, subjects
from pulse_contracts.ids import RouteId, TenantId
from pulse_contracts.subjects import RouteAddress, parse_route_address
from pulse_delivery.siding.oldest import OldestWaiting
from pulse_runtime.metrics import DeliveryMetrics
from pulse_testkit.clock import ManualClock
from pulse_testkit.nats import Bus

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
BUSY = [RouteAddress(kind="webhook", tenant=TenantId("acme"), route=RouteId(f"busy-{n}")) for n in range(30)]
QUIET = RouteAddress(kind="webhook", tenant=TenantId("acme"), route=RouteId("quiet"))
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


class Watch:
    """The figure, and the siding that it is about."""

    def __init__(self, bus: Connection) -> None:
        self.bus = bus
        self.siding = Siding(bus)
        self.clock = ManualClock(NOW)
        self.parked: set[RouteAddress] = set()
        self.metrics = DeliveryMetrics(CollectorRegistry())
        self.oldest = OldestWaiting(self.siding, lambda address: address in self.parked, self.metrics, self.clock)

    async def fill(self, *routes: RouteAddress, age: timedelta) -> None:
        """Put a message of each route into the siding that was routed so long ago."""
        routed_at = str(int((NOW - age).timestamp() * 1000))
        for route in routes:
            subject = subjects.siding(route.kind, route.tenant, route.route)
            answer = await self.bus.request(subject, b"{}", timeout_s=5, headers={headers.ROUTED_AT: routed_at})
            assert "error" not in json.loads(answer.data)

    async def look(self) -> dict[str, float]:
        """Look once as the keeper does, and return what is shown then."""
        waiting = (await self.siding.survey()).waiting
        await self.oldest.measure([parse_route_address(subject) for subject in waiting])
        return self.shown()

    def shown(self) -> dict[str, float]:
        [family] = self.metrics.oldest_undelivered_age_seconds.collect()
        return {sample.labels["cause"]: sample.value for sample in family.samples if sample.value}


@pytest.fixture
async def watch(bus: Bus) -> Watch:
    return Watch(await bus.connect("delivery"))


def about(age: timedelta) -> Any:
    return pytest.approx(age.total_seconds(), abs=1)


async def test_an_empty_siding_has_no_age(watch: Watch) -> None:
    assert await watch.look() == {}


async def test_one_old_message_of_a_quiet_route_is_seen_behind_many_busy_routes(watch: Watch) -> None:
    for _ in range(2):
        await watch.fill(*BUSY, age=MINUTE)
    await watch.fill(QUIET, age=DAY)

    await watch.look()
    assert await watch.look() == {"siding": about(DAY)}


async def test_the_first_message_of_the_siding_is_seen_at_once(watch: Watch) -> None:
    await watch.fill(QUIET, age=DAY)
    await watch.fill(*BUSY, age=MINUTE)
    assert await watch.look() == {"siding": about(DAY)}


async def test_what_was_oldest_and_has_gone_is_not_shown_any_more(watch: Watch) -> None:
    await watch.fill(QUIET, age=DAY)
    await watch.fill(QUIET, *BUSY, age=MINUTE)
    await watch.look()
    await watch.siding.remove(1)
    assert await watch.look() == {"siding": about(MINUTE)}


async def test_parked_routes_have_an_age_of_their_own(watch: Watch) -> None:
    await watch.fill(QUIET, age=DAY)
    await watch.fill(BUSY[0], age=MINUTE)
    watch.parked.add(QUIET)
    assert await watch.look() == {"siding": about(MINUTE), "parked": about(DAY)}


async def test_an_age_that_cannot_be_measured_grows_until_it_can(watch: Watch) -> None:
    await watch.fill(QUIET, age=MINUTE)
    await watch.look()

    await watch.clock.advance(30)
    watch.oldest.could_not_look()

    assert watch.shown() == {"siding": about(MINUTE + timedelta(seconds=30)), "parked": about(timedelta(seconds=30))}
    assert await watch.look() == {"siding": about(MINUTE + timedelta(seconds=30))}
