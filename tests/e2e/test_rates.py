"""A route's rate is kept, whichever way its messages come; what exceeds it waits, and nothing is lost."""

import time
from functools import partial
from operator import eq

import pytest
from support.pulse import Pulse
from support.receiver import Receiver
from support.tenant import Tenant
from support.waiting import eventually

pytestmark = pytest.mark.alone

PER_S, BURST = 20, 5
SLACK = 5
"""Attempts that began apart may arrive together on a busy machine."""
LONG_ENOUGH_S = 30.0


async def test_burst_is_delivered_at_the_routes_rate_and_delays_no_other_route(
    pulse: Pulse, receiver: Receiver
) -> None:
    tenant = await pulse.tenant()
    paced = await tenant.webhook(
        receiver.url("/paced"), name="paced", policy={"rate": {"per_s": PER_S, "burst": BURST}}
    )
    await tenant.webhook(receiver.url("/free"), name="free")
    began = time.monotonic()
    sent = await _burst(tenant, 60)

    await eventually(lambda: len(receiver.of("/free")) >= 60, what="the free route")
    free_s = receiver.of("/free")[-1].at - began
    await eventually(lambda: len(receiver.of("/paced")) >= 60, LONG_ENOUGH_S, what="the paced route")
    times = [request.at for request in receiver.tried("/paced")]
    print(f"free: all after {free_s:.2f} s; paced: {times[-1] - times[0]:.2f} s, {_most_within_a_second(times)} in 1 s")
    assert sorted(request.message_id for request in receiver.tried("/paced")) == sorted(sent)
    assert _most_within_a_second(times) <= BURST + PER_S + SLACK
    assert times[-1] - times[0] >= (60 - BURST - SLACK) / PER_S
    assert free_s < (60 - BURST - SLACK) / PER_S
    assert {request.message_id for request in receiver.of("/free")} == sent
    assert pulse.log("delivery", "messages_shunted", route_id=paced.route_id, reason="rate_limited")
    assert not await tenant.dead_letters()
    await eventually(paced.waiting, until=partial(eq, 0))


async def test_message_without_a_permit_is_delivered_when_it_has_one(pulse: Pulse, receiver: Receiver) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device()
    route = await tenant.webhook(receiver.url("/next"), policy={"rate": {"per_s": 2, "burst": 1}})
    await device.accepted({"n": 1})
    await eventually(lambda: receiver.of("/next"))
    # Nothing of the route is in flight now, whose end would have this one started.
    await device.accepted({"n": 2})
    await eventually(lambda: len(receiver.of("/next")) == 2)
    first, second = (request.at for request in receiver.tried("/next"))
    print(f"next: {second - first:.3f} s after the first")
    assert 0.4 < second - first < 1.0
    assert not pulse.log("delivery", "messages_shunted", route_id=route.route_id)


async def test_backlog_is_drained_at_the_rate_until_an_edit_lifts_it(pulse: Pulse, receiver: Receiver) -> None:
    tenant = await pulse.tenant()
    await receiver.close()
    route = await tenant.webhook(receiver.url("/backlog"), policy={"rate": {"per_s": 4, "burst": 1}})
    sent = await _burst(tenant, 60)
    await eventually(route.waiting, until=partial(eq, 60))

    await receiver.open()
    await eventually(lambda: len(receiver.of("/backlog")) >= 8, LONG_ENOUGH_S)
    times = [request.at for request in receiver.tried("/backlog")]
    assert _most_within_a_second(times) <= 1 + 4 + 2

    edited = time.monotonic()
    await route.update(policy={"rate": None}, config={"url": receiver.url("/elsewhere")})
    await eventually(lambda: len(receiver.tried("/backlog") + receiver.of("/elsewhere")) >= 60, LONG_ENOUGH_S)
    lifted_s = receiver.of("/elsewhere")[-1].at - edited
    print(f"backlog: {_most_within_a_second(times)} in 1 s; the rest {lifted_s:.2f} s after the edit")
    assert lifted_s < 6  # at the old rate 13
    # Until delivery has learned of the edit too they go on coming at the old rate, and one may be under way then.
    learned_s = receiver.of("/elsewhere")[0].at - edited
    late = [request for request in receiver.tried("/backlog") if request.at > edited]
    assert len(late) <= 4 * learned_s + 2, "messages that waited for a permit went the old way"
    arrived = [request.message_id for path in ("/backlog", "/elsewhere") for request in receiver.tried(path)]
    assert sorted(arrived) == sorted(sent)


async def test_message_that_grows_too_old_waiting_for_a_permit_is_a_dead_letter(
    pulse: Pulse, receiver: Receiver
) -> None:
    tenant = await pulse.tenant()
    policy = {"rate": {"per_s": 0.01, "burst": 1}, "max_age_s": 2}
    await tenant.webhook(receiver.url("/old"), policy=policy)
    sent = await _burst(tenant, 5)
    dead = await eventually(tenant.dead_letters, LONG_ENOUGH_S, until=lambda rows: len(rows) == 4)
    assert {(row.reason, row.attempts) for row in dead} == {("max_age", 0)}
    [delivered] = receiver.tried("/old")
    assert {delivered.message_id, *(row.message_id for row in dead)} == sent


async def test_stop_does_not_wait_for_the_rate_and_what_waits_is_delivered_later(
    pulse: Pulse, receiver: Receiver
) -> None:
    tenant = await pulse.tenant()
    route = await tenant.webhook(receiver.url("/stop"), policy={"rate": {"per_s": 0.1, "burst": 10}})
    sent = await _burst(tenant, 30)
    await eventually(route.waiting, until=partial(eq, 20))
    await eventually(lambda: pulse.log("delivery", "route_troubled", route_id=route.route_id), what="the turn")

    began = time.monotonic()
    await pulse.restart("delivery")
    restarted_s = time.monotonic() - began
    print(f"stop: restarted within {restarted_s:.2f} s")
    assert restarted_s < 8  # a drain that waits takes 10
    await route.update(policy={"rate": None})
    await eventually(lambda: len(receiver.of("/stop")) >= 30, LONG_ENOUGH_S)
    assert sorted(request.message_id for request in receiver.tried("/stop")) == sorted(sent)


async def _burst(tenant: Tenant, count: int) -> set[str]:
    """Send so many messages at once; returns their ids."""
    device = await tenant.device()
    items = [
        {"tenant_id": tenant.tenant_id, "device_id": device.device_id, "type": "data", "payload": {"n": number}}
        for number in range(count)
    ]
    answer = await tenant.pulse.http.post(
        "/ingest/v1/batch", json=items, headers={"authorization": f"Bearer {tenant.key}"}
    )
    assert answer.status_code == 202, answer.text
    return {result["message_id"] for result in answer.json()["results"]}


def _most_within_a_second(times: list[float]) -> int:
    return max(sum(since <= at < since + 1 for at in times) for since in times)
