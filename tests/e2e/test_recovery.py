"""Destinations heal while others stay sick, and the server forgets the consumers of turns: routes are served again."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from support.pulse import Pulse
from support.receiver import Answer, Receiver, Request, always
from support.tenant import Device, Route, Tenant
from support.turns import turns
from support.waiting import eventually

from pulse_bus.api import NANOSECONDS, api_request
from pulse_bus.provision import provision
from pulse_contracts.kinds import installed_kinds
from pulse_contracts.turns import TurnListing
from pulse_control import routes
from pulse_control.route_state import route_state
from pulse_runtime.events import ROUTE_RECOVERED
from pulse_testkit.processes import frozen

BACKLOG, NEW = 60, 20
AT_ONCE = 16
"""A turn tries so many at once, and their order is the receiver's."""
SICK, HEALED = ("s0", "s1", "s2"), ("h0", "h1", "h2")
SERVED_AGAIN_WITHIN_S = 10.0
RETRY_AFTER_S = 12
EXAMINED_S = 0.05
_A_MOMENT = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Town:
    """Destinations of one tenant, each with a type of messages of its own."""

    pulse: Pulse
    receiver: Receiver
    tenant: Tenant
    device: Device
    routes: dict[str, Route] = field(default_factory=dict[str, Route])
    sent: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    concurrent: Counter[str] = field(default_factory=Counter[str])
    most_concurrent: Counter[str] = field(default_factory=Counter[str])

    async def add(self, *names: str) -> None:
        for name in names:
            self.sent[name] = []
            url, topic_filter = self.receiver.url(f"/{name}"), f"tenant/+/device/+/{name}"
            policy = {"max_attempts": 1000}
            self.routes[name] = await self.tenant.webhook(url, name=name, topic_filter=topic_filter, policy=policy)

    async def send(self, count: int, *names: str) -> None:
        """Send so many to each, in turns."""
        for _ in range(count):
            for name in names:
                self.sent[name].append(await self.device.accepted({}, name))

    def break_down(self, *names: str, **headers: str) -> None:
        for name in names:
            self.receiver.behaviour[f"/{name}"] = always(503, **headers)

    def heal(self, *names: str) -> None:
        for name in names:
            self.receiver.behaviour.pop(f"/{name}", None)

    def heal_slowly(self, name: str) -> None:
        """Answer with success after a moment, and note how many are tried at once before the first has come back."""

        async def examine(request: Request) -> Answer:
            self.concurrent[name] += 1
            if not self.got(name):
                self.most_concurrent[name] = max(self.most_concurrent[name], self.concurrent[name])
            await asyncio.sleep(EXAMINED_S)
            self.concurrent[name] -= 1
            return Answer()

        self.receiver.behaviour[f"/{name}"] = examine

    def got(self, name: str) -> list[str]:
        return [request.message_id for request in self.receiver.of(f"/{name}")]

    def recovered(self, name: str) -> list[float]:
        """How long each recovery of the route took from the first success on, as reported."""
        events = self.pulse.log("delivery", ROUTE_RECOVERED, route_id=self.routes[name].route_id)
        return [event["recovery_s"] for event in events]

    async def shunts_off_the_fast_lane(self) -> float:
        """All but the heads of sick routes: they go to their tails, and are counted too."""
        return await self.pulse.metric_sum("delivery", "pulse_delivery_shunts_total", but='reason="head_failed"')

    async def lane(self, name: str) -> str:
        stored = await routes.find_route(self.pulse.control, self.tenant.tenant_id, name)
        async with self.pulse.bus() as bus:
            return (await route_state(bus, stored.route)).lane

    async def turn(self, name: str) -> TurnListing | None:
        listed = await turns(self.pulse)
        route_id = self.routes[name].route_id
        return next((turn for address, turn in listed.items() if address.route == route_id), None)

    async def paused_turn(self, name: str, *, but: str = "") -> TurnListing | None:
        """Return the route's turn if it sits out a pause of more than a moment, and is not the one named *but*."""
        turn = await self.turn(name)
        if turn is None or turn.name == but or not turn.paused_until:
            return None
        return turn if turn.paused_until - datetime.now(UTC) > _A_MOMENT else None

    async def all_delivered(self, name: str) -> bool:
        return set(self.got(name)) == set(self.sent[name]) and not await self.routes[name].waiting()


@pytest.fixture
async def town(pulse: Pulse, receiver: Receiver) -> Town:
    tenant = await pulse.tenant()
    return Town(pulse=pulse, receiver=receiver, tenant=tenant, device=await tenant.device())


async def test_a_living_process_delivers_nothing_again_of_which_the_broker_forgot_the_ack(town: Town) -> None:
    await town.add("once")
    await town.send(NEW, "once")
    await eventually(lambda: town.all_delivered("once"), what="delivery")

    consumer = "DELIVERY.deliver-webhook"
    async with town.pulse.bus() as bus:
        await api_request(bus, f"CONSUMER.DELETE.{consumer}")
        await provision(bus, [kind.name for kind in installed_kinds().values() if kind.emits])

        async def settled() -> int:
            info = await api_request(bus, f"CONSUMER.INFO.{consumer}")
            return 0 if info["num_pending"] or info["num_ack_pending"] else info["delivered"]["consumer_seq"]

        assert await eventually(settled, 20, what="all of it coming again") >= NEW
    assert sorted(town.got("once")) == sorted(town.sent["once"])


async def test_each_destination_that_heals_is_back_on_the_fast_lane_its_backlog_first(town: Town) -> None:
    await town.add(*SICK, *HEALED)
    town.break_down(*SICK, *HEALED)
    await town.send(BACKLOG, *SICK, *HEALED)
    reported = await town.pulse.metric("delivery", "pulse_delivery_recovery_seconds_count")

    town.heal(*HEALED)
    healed_at = time.monotonic()
    await town.send(NEW, *HEALED)

    took_s: dict[str, float] = {}
    for name in HEALED:
        await eventually(lambda name=name: town.recovered(name), 20, what=f"the recovery of {name}")
        took_s[name] = time.monotonic() - healed_at
        await eventually(lambda name=name: town.all_delivered(name), 20, what=f"delivery of all of {name}")
        order = [town.sent[name].index(message_id) for message_id in town.got(name)]
        assert len(order) == BACKLOG + NEW
        assert max(number - position for position, number in enumerate(order)) <= AT_ONCE
        [recovery_s] = town.recovered(name)
        print(f"{name}: back {took_s[name]:.2f} s after it healed, {recovery_s:.2f} s after its first success")
        assert 0 < recovery_s <= took_s[name]
    assert await town.pulse.metric("delivery", "pulse_delivery_recovery_seconds_count") >= reported + len(HEALED)
    assert not any(town.recovered(name) or town.got(name) for name in SICK)

    shunts = await town.shunts_off_the_fast_lane()
    assert [await town.lane(name) for name in (*HEALED, *SICK)] == ["fast"] * len(HEALED) + ["siding"] * len(SICK)
    await town.send(1, *HEALED)
    await eventually(lambda: all(town.got(name)[-1] == town.sent[name][-1] for name in HEALED), 2, what="the fast lane")
    assert await town.shunts_off_the_fast_lane() == shunts


@pytest.mark.timeout(180)
async def test_a_route_whose_consumer_the_server_forgot_is_served_again_gently(town: Town) -> None:
    """Deleted by hand; gone with a restart of the server; gone by its threshold while the process stood still."""
    await town.add("hand", "broker", "threshold")
    await _broken_and_paused(town, "hand", "broker", "threshold")

    lost = await _lost_by_hand(town, "hand")
    again, after_s = await _served_again(town, "hand", lost)
    print(f"deleted by hand: served again after {after_s:.1f} s")
    assert (again.paused_until, again.failures, again.since) == (lost.paused_until, lost.failures, lost.since)

    lost = await town.turn("broker")
    assert lost
    town.pulse.stack.kill("nats")
    await asyncio.wait_for(town.pulse.stack.until_ready("nats"), 30)
    again, after_s = await _served_again(town, "broker", lost)
    print(f"broker restarted: served again after {after_s:.1f} s")
    assert (again.failures >= lost.failures, again.since) == (True, lost.since)

    lost = await _lost_by_threshold(town, "threshold")
    again, after_s = await _served_again(town, "threshold", lost)
    print(f"threshold passed: served again after {after_s:.1f} s")
    assert (again.failures >= lost.failures, again.since) == (True, lost.since)

    for name in town.routes:
        town.heal_slowly(name)
    for name in town.routes:
        await eventually(lambda name=name: town.all_delivered(name), 40, what=f"delivery of all of {name}")
        assert town.most_concurrent[name] == 1


async def _broken_and_paused(town: Town, *names: str) -> None:
    town.break_down(*names, retry_after=str(RETRY_AFTER_S))
    await town.send(5, *names)
    for name in names:
        await eventually(lambda name=name: town.paused_turn(name), 20, what=f"a pause of {name}")


async def _lost_by_hand(town: Town, name: str) -> TurnListing:
    turn = await town.paused_turn(name)
    assert turn
    async with town.pulse.bus() as bus:
        await api_request(bus, f"CONSUMER.DELETE.SIDING.{turn.name}")
    return turn


async def _served_again(town: Town, name: str, lost: TurnListing) -> tuple[TurnListing, float]:
    began = time.monotonic()
    again = await eventually(
        lambda: town.paused_turn(name, but=lost.name), SERVED_AGAIN_WITHIN_S, what="being served again"
    )
    assert again
    return again, time.monotonic() - began


async def _lost_by_threshold(town: Town, name: str) -> TurnListing:
    """Let the consumer go as it would after an hour, with a shorter threshold; its process wakes when it is gone."""
    turn = await eventually(lambda: town.paused_turn(name), 20, what="another pause")
    assert turn
    async with frozen(town.pulse.stack.pid("delivery")):
        async with town.pulse.bus() as bus:
            info = await api_request(bus, f"CONSUMER.INFO.SIDING.{turn.name}")
            config = {**info["config"], "inactive_threshold": NANOSECONDS}
            body = {"stream_name": "SIDING", "config": config, "action": "update"}
            await api_request(bus, f"CONSUMER.CREATE.SIDING.{turn.name}.{config['filter_subject']}", body)
        await eventually(lambda: _is_gone(town, name), 20, what="the end of the consumer")
    return turn


async def _is_gone(town: Town, name: str) -> bool:
    return await town.turn(name) is None
