"""Failures that come at once, as of names, went unnoticed as an outage unless the last of them came late.

An attempt that hangs is suspected every tick; one that has failed was counted at that moment only, when others had been
reached just before, and each answer of another route forgot it. Their lanes gather, so nothing is tried again that
would count: two seconds later everybody's messages went to the siding.
"""

import asyncio
from dataclasses import replace

from prometheus_client import CollectorRegistry

from pulse_contracts.ids import RouteId, TenantId
from pulse_contracts.outcome import Delivered, Failed, Outcome, Reach
from pulse_contracts.subjects import RouteAddress
from pulse_delivery.lanes.outage import Outage, Verdict
from pulse_runtime.metrics import DeliveryMetrics
from pulse_testkit.clock import ManualClock

CUT = Failed(error="no name server answered", answered=False, reach=Reach.NOWHERE)
ROUTE = RouteAddress(kind="webhook", tenant=TenantId("t"), route=RouteId("r"))
ROUTES = [replace(ROUTE, tenant=TenantId(f"t-{n % 4}"), route=RouteId(f"r-{n}")) for n in range(20)]


async def test_who_fails_at_once_while_the_last_are_still_reached_is_part_of_the_outage(
    manual_clock: ManualClock,
) -> None:
    outage = Outage(manual_clock, DeliveryMetrics(CollectorRegistry()))

    async def attempt(route: RouteAddress, outcome: Outcome) -> Verdict:
        outage.note(route, outcome)
        return await outage.verdict(route, outcome)

    for route in ROUTES:
        await attempt(route, Delivered())
    await manual_clock.advance(1)
    early, late = ROUTES[:8], ROUTES[8:]
    async with asyncio.TaskGroup() as group:
        verdicts = [group.create_task(attempt(route, CUT), name="test.early") for route in early]
        await manual_clock.advance(0)
        for route in late:
            await attempt(route, Delivered())
        await manual_clock.advance(0.25)
        verdicts += [group.create_task(attempt(route, CUT), name="test.late") for route in late]
        for _ in range(20):
            await manual_clock.advance(0.1)
        assert outage.is_down("webhook")
        assert not any(verdict.done() for verdict in verdicts)
        outage.note(ROUTES[0], Delivered())
    assert {verdict.result() for verdict in verdicts} == {Verdict.OVER}
