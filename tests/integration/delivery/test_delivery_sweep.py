"""What waits too long of a route that nobody serves, on a real server."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from turn_rig import ONE, PATH, TurnRig, eventually, open_turns, until

from pulse_contracts.ids import RouteId, TenantId
from pulse_contracts.routes import RoutePolicy
from pulse_contracts.subjects import RouteAddress
from pulse_delivery.adapters.remains import UNREADABLE
from pulse_delivery.domain.heads import Heads
from pulse_delivery.siding.sweep import PAGE
from pulse_delivery.siding.sweeping import Sweeping
from pulse_runtime.clock import SystemClock
from pulse_testkit.background import running
from pulse_testkit.nats import Bus

PATIENT = RoutePolicy(max_age_s=60)
OLD_S = 120.0
HOGS, PAGES_OF_A_TENANT = 20, 8


@pytest.fixture
async def rig(bus: Bus) -> AsyncGenerator[TurnRig]:
    async with open_turns(bus) as rig:
        await rig.know(PATIENT)
        yield rig


async def test_what_is_too_old_or_unreadable_at_the_head_of_an_unserved_route_becomes_a_dead_letter(
    rig: TurnRig,
) -> None:
    await rig.wait_unreadable(b"no message")
    await rig.wait_in_siding(*range(PAGE + 5), age_s=OLD_S)
    await rig.wait_in_siding(PAGE + 5, PAGE + 6)

    async def is_swept() -> bool:
        return await rig.siding.waiting_of(ONE) == 2

    async with running(Sweeping(lambda: [ONE], rig.keeper.sweep, SystemClock()).run()):
        await eventually(is_swept)

    assert await rig.died_of() == {"max_age": PAGE + 5, UNREADABLE: 1}


async def test_what_grows_too_old_while_its_route_is_parked_stays(rig: TurnRig) -> None:
    await rig.know(PATIENT, enabled=False)
    await rig.wait_in_siding(0, age_s=OLD_S)
    assert not await rig.keeper.sweep(ONE)
    assert (await rig.siding.waiting_of(ONE), await rig.dead()) == (1, 0)


async def test_what_was_delivered_here_is_no_dead_letter_when_the_server_forgets_the_acknowledgement(
    rig: TurnRig,
) -> None:
    await rig.wait_in_siding(0, 1)
    async with rig.serving(close=True):
        await rig.receiver.wait_for(2, path=PATH)
        await eventually(lambda: _is_waiting(rig, 0))
    await rig.wait_in_siding(0, 1, 2, copy="again", age_s=OLD_S)

    assert not await rig.keeper.sweep(ONE)

    assert await rig.siding.waiting_of(ONE) == 0
    assert await rig.died_of() == {"max_age": 1}


async def test_who_has_nothing_to_bury_does_not_wait_for_those_who_have(bus: Bus) -> None:
    hogs = [replace(ONE, route=RouteId(f"hog-{number}")) for number in range(HOGS)]
    patient = replace(ONE, tenant=TenantId("globex"), route=RouteId("patient"))
    late = replace(ONE, tenant=TenantId("globex"), route=RouteId("late"))
    async with open_turns(bus, buries=False) as rig, AsyncExitStack() as stack:
        await rig.know(PATIENT, addresses=[*hogs, patient, late])
        for address in [*hogs, late]:
            await rig.wait_in_siding(0, age_s=OLD_S, address=address)
        await rig.wait_in_siding(0, address=patient)

        for address in hogs:
            await stack.enter_async_context(running(_sweep(rig, address)))
        await until(lambda: rig.uncommitted("DEADLETTER") == PAGES_OF_A_TENANT)

        async with asyncio.timeout(5):
            assert await rig.tools.sweep.of_turn(patient, Heads()).in_pause()
        # Nor does one of another tenant that has something to bury.
        await stack.enter_async_context(running(_sweep(rig, late)))
        await until(lambda: rig.uncommitted("DEADLETTER") == PAGES_OF_A_TENANT + 1)


async def _sweep(rig: TurnRig, address: RouteAddress) -> None:
    await rig.tools.sweep.of_turn(address, Heads()).in_pause()


async def _is_waiting(rig: TurnRig, count: int) -> bool:
    return await rig.siding.waiting_of(ONE) == count
