"""Killed and restarted in mid-flow: whatever was acknowledged is stored once, and every match has a fate."""

import asyncio
import json
import operator
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass

import aiomqtt
import pytest
from support.flood import Flood
from support.pulse import Pulse, running
from support.receiver import Receiver, always, open_receiver
from support.tenant import Route, Tenant
from support.waiting import eventually

from pulse_bus.inspection import unacknowledged
from pulse_contracts.envelope import decode_envelope
from pulse_contracts.ids import DeviceId, MessageId, supplied_message_id
from pulse_contracts.subjects import parse_route_address

Pair = tuple[str, str]
"""Message id and route name."""

FAULTS = ("ingest", "router", "delivery", "nats", "postgres", "postgres-restart")
_BEFORE = 100
_AFTER = 60
_DRAINED_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """One fault, and what was sent around it."""

    tenant: Tenant
    flood: Flood
    routes: Mapping[str, Route]
    receiver: Receiver
    mirrored: Counter[str]
    pids: tuple[int, int]
    """Before and after."""
    acked_at_fault: int

    def expected(self) -> set[Pair]:
        """Every match of what was acknowledged."""
        numbers = self.flood.numbers
        return {
            (message_id, name)
            for message_id in self.flood.acked
            for name in self.routes
            if name != "even" or numbers[message_id] % 2 == 0
        }

    def delivered(self) -> Counter[Pair]:
        names = {route.route_id: name for name, route in self.routes.items()}
        webhooks = (request.webhook_id.partition(":") for request in self.receiver.accepted)
        found = Counter((message_id, names[route_id]) for message_id, _, route_id in webhooks if route_id in names)
        return found + Counter({(message_id, "mirror"): times for message_id, times in self.mirrored.items()})

    async def dead_lettered(self) -> set[Pair]:
        names = {route.route_id: name for name, route in self.routes.items()}
        rows = await self.tenant.dead_letters(most=100_000)
        return {(row.message_id, names[row.route_id]) for row in rows}

    async def waiting(self) -> set[Pair]:
        """What stands in the siding."""
        names = {route.route_id: name for name, route in self.routes.items()}
        async with self.tenant.pulse.bus() as bus:
            standing = await unacknowledged(bus, "SIDING", f"siding.*.{self.tenant.tenant_id}.*", None)
        return {
            (decode_envelope(message.data).message_id, names[parse_route_address(message.subject).route])
            for message in standing
        }


@pytest.fixture(scope="module")
async def campaigns(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[dict[str, Campaign]]:
    """All faults one after the other, so that what each of them delays comes back while the next ones happen."""
    async with running(tmp_path_factory.mktemp("pulse")) as pulse, open_receiver() as receiver:
        subscribers: set[asyncio.Task[None]] = set()
        try:
            yield {fault: await _campaign(pulse, receiver, fault, subscribers) for fault in FAULTS}
        finally:
            for subscriber in subscribers:
                subscriber.cancel()
            await asyncio.wait(subscribers)


@pytest.mark.parametrize("fault", FAULTS)
async def test_process_was_another_one_and_enough_was_sent_around_it(
    campaigns: dict[str, Campaign], fault: str
) -> None:
    campaign = campaigns[fault]
    before, after = campaign.pids
    assert before != after
    assert campaign.acked_at_fault >= _BEFORE
    assert len(campaign.flood.acked) >= campaign.acked_at_fault + _AFTER
    for protocol in ("http", "mqtt"):
        assert len(campaign.flood.acknowledged[protocol]) >= 50


@pytest.mark.parametrize("fault", FAULTS)
async def test_acknowledged_messages_are_stored_once(campaigns: dict[str, Campaign], fault: str) -> None:
    campaign = campaigns[fault]

    async def missing() -> set[MessageId]:
        return campaign.flood.acked - {row["message_id"] for row in await campaign.tenant.stored()}

    await eventually(missing, _DRAINED_WITHIN_S, what="storing all", until=operator.not_)
    stored = Counter(row["message_id"] for row in await campaign.tenant.stored())
    assert set(stored.values()) == {1}
    assert set(stored) <= set(campaign.flood.numbers)


@pytest.mark.parametrize("fault", FAULTS)
async def test_every_match_is_delivered_dead_lettered_or_waiting(campaigns: dict[str, Campaign], fault: str) -> None:
    campaign = campaigns[fault]
    expected = campaign.expected()
    fate_of: dict[str, set[Pair]] = {}

    async def unsettled() -> set[Pair]:
        """What is nowhere, and what waits although its destination answers."""
        fate_of["waiting"] = await campaign.waiting()
        fate_of["delivered"] = set(campaign.delivered())
        fate_of["dead"] = await campaign.dead_lettered()
        lost = expected - fate_of["waiting"] - fate_of["delivered"] - fate_of["dead"]
        return lost | {pair for pair in fate_of["waiting"] if pair[1] != "down"}

    await eventually(unsettled, _DRAINED_WITHIN_S, what="a fate for every match", until=operator.not_)
    assert {name for _, name in fate_of["dead"]} == {"gone"}
    assert {name for _, name in fate_of["delivered"]} == {"all", "even", "mirror"}
    odd = {message_id for message_id, number in campaign.flood.numbers.items() if number % 2}
    assert not odd & {message_id for message_id, name in fate_of["delivered"] if name == "even"}
    assert {message_id for message_id, _ in fate_of["delivered"]} <= set(campaign.flood.numbers)


async def _campaign(pulse: Pulse, receiver: Receiver, fault: str, subscribers: set[asyncio.Task[None]]) -> Campaign:
    tenant = await pulse.tenant(fault)
    routes = await _routes(tenant, receiver)
    mirrored: Counter[str] = Counter()
    subscribed = asyncio.Event()
    subscribers.add(asyncio.create_task(_mirror(tenant, mirrored, subscribed), name=f"test.subscriber[{fault}]"))
    await asyncio.wait_for(subscribed.wait(), 10)
    devices = await pulse.devices(tenant, *(f"d{number}" for number in range(8)))
    flood = Flood(devices[:4], devices[4:], interval_s=0.05)
    name = fault.partition("-")[0]
    async with flood.running():
        await eventually(lambda: len(flood.acked) >= _BEFORE, 20, what="the first acknowledgements")
        acked, before = len(flood.acked), pulse.stack.pid(name)
        await _strike(pulse, fault)
        enough = len(flood.acked) + _AFTER
        await eventually(lambda: len(flood.acked) >= enough, 30, what="acknowledgements after the fault")
    return Campaign(
        tenant=tenant,
        flood=flood,
        routes=routes,
        receiver=receiver,
        mirrored=mirrored,
        pids=(before, pulse.stack.pid(name)),
        acked_at_fault=acked,
    )


async def _strike(pulse: Pulse, fault: str) -> None:
    name, _, restart = fault.partition("-")
    if restart:
        await pulse.stack.restart(name)
    else:
        pulse.stack.kill(name)
        await asyncio.wait_for(pulse.stack.until_ready(name), 30)


async def _routes(tenant: Tenant, receiver: Receiver) -> dict[str, Route]:
    receiver.behaviour["/gone"] = always(404)
    return {
        "all": await tenant.webhook(receiver.url("/all"), name="all"),
        "even": await tenant.webhook(receiver.url("/even"), name="even", payload_filter={"parity": 0}),
        "gone": await tenant.webhook(receiver.url("/gone"), name="gone"),
        "down": await tenant.webhook("http://127.0.0.1:9/", name="down"),
        "mirror": await tenant.republish(f"tenant/{tenant.tenant_id}/mirror/{{device_id}}", name="mirror"),
    }


async def _mirror(tenant: Tenant, mirrored: Counter[str], subscribed: asyncio.Event) -> None:
    """Keep a persistent session and count what it gets, across the broker's crash too."""
    host, port = tenant.pulse.mqtt
    while True:
        client = aiomqtt.Client(
            host,
            port,
            username=tenant.tenant_id,
            password=tenant.key,
            identifier=f"{tenant.tenant_id}-mirror",
            clean_session=False,
        )
        try:
            async with client:
                await client.subscribe(f"tenant/{tenant.tenant_id}/mirror/#", qos=1)
                subscribed.set()
                async for message in client.messages:
                    device = str(message.topic).rpartition("/")[2]
                    supplied = json.loads(bytes(message.payload))["message_id"]
                    mirrored[supplied_message_id(tenant.tenant_id, DeviceId(device), supplied)] += 1
        except aiomqtt.MqttError:
            await asyncio.sleep(0.1)
