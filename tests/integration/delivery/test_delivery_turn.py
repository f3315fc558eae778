"""Turns on a real server: what they do to a destination, and what the next turn of the route knows."""

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from turn_rig import ONE, PATH, TurnRig, body, eventually, open_turns, until

from pulse_bus.api import api_request
from pulse_contracts import subjects
from pulse_contracts.disposition import ProbeFailed
from pulse_contracts.ids import RouteId
from pulse_contracts.routes import Rate, RoutePolicy
from pulse_contracts.subjects import RouteAddress
from pulse_contracts.topology import deliver_consumer
from pulse_control.route_state import route_state
from pulse_delivery.domain.limits import LaneLimits
from pulse_delivery.domain.roster import Rest, Roster, after_failure
from pulse_delivery.siding.places import Places
from pulse_testkit.background import running
from pulse_testkit.nats import Bus
from pulse_testkit.receiver import Answer


@pytest.fixture
async def rig(bus: Bus) -> AsyncGenerator[TurnRig]:
    async with open_turns(bus) as rig:
        yield rig


async def test_a_pause_that_the_server_refuses_cuts_no_attempt_off(rig: TurnRig) -> None:
    await rig.wait_in_siding(0)
    rig.receiver.answer(PATH, Answer(delay_s=1))
    async with rig.serving():
        await rig.receiver.wait_for(1)
        rig.bus.nats.kill()
        rig.tools.troubles.rest(ONE, datetime.now(UTC) + timedelta(minutes=1))
        await until(lambda: not rig.receiver.in_flight[PATH])
        await rig.bus.nats.until_ready()
    assert rig.attempts("delivered") == 1


async def failed_once(rig: TurnRig, *, close: bool, pause_s: float = 0.3) -> Rest:
    """Have a turn try the head once, in vain, and end; return what it leaves to the route's next turn here."""
    rig.receiver.answer(PATH, Answer(status=500))
    await rig.know(RoutePolicy(backoff_first_s=pause_s, max_attempts=2))
    await rig.wait_in_siding(0)
    async with rig.serving(close=close) as turn:
        await until(lambda: rig.attempts("failed") and turn.paused_until)
        rest = turn.rest()
    assert rest is not None
    return rest


async def learned(rig: TurnRig) -> Rest:
    """Return what another process knows of the route's turn by looking at the server."""
    roster = Roster("other")
    roster.plan({ONE: 1}, await rig.siding.turns(), {}, datetime.now(UTC))
    rest = roster.recall(ONE)
    assert rest is not None
    return rest


async def test_turns_that_wake_together_try_in_turns(bus: Bus) -> None:
    crowd = [replace(ONE, route=RouteId(f"r-{number}")) for number in range(10)]
    async with open_turns(bus, Places(most=4)) as rig, asyncio.TaskGroup() as group:
        gate, at_work = rig.tools.gate, list[RouteAddress]()

        async def probe(address: RouteAddress) -> None:
            assert await gate.slot(address, lambda: False)
            at_work.append(address)

        for address in crowd:
            group.create_task(probe(address), name="test.probe")
        for done in range(len(crowd)):
            await until(lambda done=done: len(at_work) > done)
            assert len(at_work) - done <= 2, "half of the places, for a tenant alone"
            gate.return_slot(at_work[done])


@pytest.mark.parametrize(("turn_bytes", "grows"), [(LaneLimits().turn_bytes, True), (1, False)])
async def test_a_turn_grows_only_while_there_is_room_for_the_bodies(bus: Bus, turn_bytes: int, *, grows: bool) -> None:
    async with open_turns(bus, turn_bytes=turn_bytes) as rig:
        await rig.wait_in_siding(*range(10))
        rig.receiver.answer(PATH, Answer(delay_s=0.1))
        async with rig.serving():
            await eventually(lambda: emptied(rig))
    assert (rig.receiver.most_in_flight[PATH] > 1) is grows


async def test_a_poison_message_is_counted_across_turns_of_a_process(rig: TurnRig) -> None:
    rest = await failed_once(rig, close=True)
    async with rig.serving(rest):
        await eventually(rig.dead)
    assert rig.attempts("failed") == 2


async def test_a_poison_message_is_counted_across_processes(rig: TurnRig) -> None:
    await failed_once(rig, close=False)
    [left_behind] = (await rig.siding.turns()).values()
    async with rig.serving(await learned(rig), left_behind.name):
        await eventually(rig.dead)
    assert rig.attempts("failed") == 2


async def test_the_error_that_a_route_paused_with_is_shown_by_its_next_turn(rig: TurnRig) -> None:
    await failed_once(rig, close=False, pause_s=60)
    before = await rig.siding.turn_info(ONE)
    left_behind = (await rig.siding.turns())[ONE].name
    async with rig.serving(await learned(rig), left_behind) as turn:
        await until(lambda: turn.consumer)
        after = await rig.siding.turn_info(ONE)
    assert before
    assert after
    assert before["name"] != after["name"]
    assert "500" in after["config"]["metadata"]["error"]
    assert after["config"]["metadata"]["error"] == before["config"]["metadata"]["error"]


async def test_a_route_that_failed_just_now_is_tried_after_its_first_pause(rig: TurnRig) -> None:
    await rig.wait_in_siding(0)
    now = datetime.now(UTC)
    rest = after_failure(ProbeFailed(pause_until=now + timedelta(seconds=0.8), error="answered 503"), now)
    began = time.monotonic()
    async with rig.serving(rest) as turn:
        assert not await rig.siding.turns(), "next to nothing of a pause costs no request"
        [probe] = await rig.receiver.wait_for(1)
        await until(lambda: not turn.consumer)
    assert probe.at - began >= 0.75


async def test_a_copy_that_waited_while_the_first_was_in_flight_is_not_sent(rig: TurnRig) -> None:
    await rig.know(RoutePolicy(rate=Rate(per_s=2, burst=2)))
    rig.receiver.answer(PATH, Answer(delay_s=0.1))
    await rig.wait_in_siding(0, 1)
    await rig.wait_in_siding(1, copy="again")
    async with rig.serving():
        await eventually(lambda: emptied(rig))
    assert len(rig.receiver.requests) == 2


async def test_a_copy_that_waited_in_its_lane_is_not_sent(rig: TurnRig) -> None:
    await rig.know(RoutePolicy(in_flight=1))
    rig.receiver.answer(PATH, Answer(delay_s=0.2))
    await two_copies(rig)
    async with running(rig.deliveries.run()), running(rig.fast_lane.run()):
        await eventually(lambda: settled(rig, 2))
    assert len(rig.receiver.requests) == 1


async def test_a_copy_that_comes_while_the_first_is_in_flight_waits_for_its_end(rig: TurnRig) -> None:
    rig.receiver.answer(PATH, Answer(delay_s=0.2))
    await two_copies(rig)
    async with running(rig.deliveries.run()), running(rig.fast_lane.run()):
        await eventually(lambda: settled(rig, 2))
    assert len(rig.receiver.requests) == 1


async def test_a_copy_of_what_failed_goes_where_the_first_went(rig: TurnRig) -> None:
    rig.receiver.answer(PATH, Answer(status=500, delay_s=0.2))
    await two_copies(rig)
    async with running(rig.deliveries.run()), running(rig.fast_lane.run()):
        await eventually(lambda: settled(rig, 2))
    assert len(rig.receiver.requests) == 1
    assert await rig.siding.waiting_of(ONE) == 1


async def test_a_copy_that_a_turn_takes_beside_the_first_is_not_sent(rig: TurnRig) -> None:
    await rig.wait_in_siding(0, 1)
    await rig.wait_in_siding(1, copy="again")
    rig.receiver.answer(PATH, Answer(delay_s=0.2))
    async with rig.serving():
        await eventually(lambda: emptied(rig))
    assert len(rig.receiver.requests) == 2


async def two_copies(rig: TurnRig) -> None:
    """Route a message and a copy of it that the stream does not recognise as the same."""
    router = await rig.bus.connect("router")
    subject = subjects.delivery(ONE.kind, ONE.tenant, ONE.route)
    for copy in ("", "again"):
        await router.publish(subject, body(0), headers={"Nats-Msg-Id": f"m-0:{ONE.route}{copy}"})


async def emptied(rig: TurnRig) -> bool:
    return not await rig.siding.waiting_of(ONE)


async def test_a_failure_on_the_fast_lane_is_what_the_routes_first_turn_begins_with(rig: TurnRig) -> None:
    rig.receiver.answer(PATH, Answer(status=500))
    router = await rig.bus.connect("router")
    await router.publish(subjects.delivery(ONE.kind, ONE.tenant, ONE.route), body(0), headers={"Nats-Msg-Id": "m-0"})
    began = datetime.now(UTC)
    async with running(rig.deliveries.run()), running(rig.fast_lane.run()):
        await eventually(lambda: settled(rig, 1))
    failed = rig.tools.troubles.take_failure(ONE)
    assert failed
    assert failed.error == "answered 500"
    assert began < failed.pause_until < datetime.now(UTC) + timedelta(seconds=RoutePolicy().backoff_first_s)


async def settled(rig: TurnRig, count: int) -> bool:
    info = await api_request(rig.bus.control, f"CONSUMER.INFO.DELIVERY.{deliver_consumer('webhook').name}")
    return info["ack_floor"]["stream_seq"] == count


async def test_of_an_unserved_route_nothing_is_made_up(rig: TurnRig) -> None:
    await failed_once(rig, close=True)
    known = rig.book.get(ONE.route)
    assert known
    state = await route_state(rig.bus.control, known.route)
    assert (state.phase, state.waiting, state.cause) == ("unserved", 1, "attempt_failed")
    assert (state.failures, state.paused_until, state.last_error, state.served_by) == (None, None, None, None)
