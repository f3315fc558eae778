"""Two processes of each service join, share the work, and leave under load; whatever was acknowledged arrives once."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count

import httpx
import pytest
from support.pulse import SERVICE_NAMES, Pulse, running
from support.receiver import Receiver, takes
from support.replicas import Replica, replica
from support.tenant import Device
from support.waiting import eventually

from pulse_bus.api import api_request
from pulse_contracts.ids import DeviceId, supplied_message_id

WORK = {
    "ingest": "pulse_ingest_messages_total",
    "router": "pulse_router_matches_total",
    "delivery": "pulse_delivery_attempts_total",
}
"""What each service counts of its work."""
SHARED = {"PULSE_DELIVERY_REPLICAS": "2"}
MORE: dict[str, dict[str, str]] = {"router": {}, "delivery": SHARED, "ingest": {"PULSE_MQTT_HOST": ""}}
"""Settings of the second processes. The embedded broker has no shared subscriptions (docs/operating/broker.md), so the
second ingest serves HTTP only; MQTT goes through the first, which leaves and comes back to its session meanwhile."""
PATHS = ("/all", "/slow")
ENOUGH = 30
INTERVAL_S = 0.05
SETTLED_WITHIN_S = 60.0

pytestmark = pytest.mark.timeout(240)


class Load:
    """Devices that post to any ingest there is, each message with an id of its own until it is acknowledged."""

    def __init__(self, devices: list[Device], publisher: Device, first: str) -> None:
        self.addresses = [first]
        self.acknowledged: set[str] = set()
        self.over_mqtt = 0
        """How many of those the broker acknowledged."""
        self._devices = devices
        self._publisher = publisher
        self._stopping = asyncio.Event()
        self._turns = count()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Send within the block, which ends when the last message is acknowledged."""
        async with httpx.AsyncClient(timeout=10) as client, asyncio.TaskGroup() as group:
            for device in self._devices:
                group.create_task(self._send(client, device), name=f"test.{device.device_id}")
            group.create_task(self._publish(), name=f"test.{self._publisher.device_id}")
            try:
                yield
            finally:
                self._stopping.set()

    async def more(self, messages: int = ENOUGH) -> None:
        """Wait until so many more are acknowledged."""
        wanted = len(self.acknowledged) + messages
        await eventually(lambda: len(self.acknowledged) >= wanted, 60, what=f"{wanted} acknowledgements")

    async def _send(self, client: httpx.AsyncClient, device: Device) -> None:
        for number in count():
            if self._stopping.is_set():
                return
            async with asyncio.timeout(60):
                while not await self._post(client, device, number):  # noqa: ASYNC110 - what a device does
                    await asyncio.sleep(INTERVAL_S)
            await asyncio.sleep(INTERVAL_S)  # the pace of a device

    async def _publish(self) -> None:
        device = self._publisher
        async with device.mqtt() as client:
            for number in count():
                if self._stopping.is_set():
                    return
                body = json.dumps({"message_id": str(number)})
                await client.publish(device.topic(), body, qos=1)
                self.acknowledged.add(
                    supplied_message_id(device.tenant.tenant_id, DeviceId(device.device_id), str(number))
                )
                self.over_mqtt += 1
                await asyncio.sleep(INTERVAL_S)  # the pace of a device

    async def _post(self, client: httpx.AsyncClient, device: Device, number: int) -> bool:
        address = self.addresses[next(self._turns) % len(self.addresses)]
        path = f"/ingest/v1/tenant/{device.tenant.tenant_id}/device/{device.device_id}/data"
        fields = {"authorization": f"Bearer {device.token}", "idempotency-key": str(number)}
        try:
            answer = await client.post(f"{address}{path}", json={"n": number}, headers=fields)
        except httpx.TransportError:
            return False
        if answer.status_code == 202:
            self.acknowledged.add(answer.json()["message_id"])
        return answer.status_code == 202


async def total(pulse: Pulse, service: str) -> float:
    """Return what the stack's own process has done, summed over labels."""
    text = (await pulse.admin(service, "/metrics")).text
    name = WORK[service]
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith((f"{name} ", name + "{")))


async def until_shared(pulse: Pulse, joined: dict[str, Replica]) -> None:
    """Wait until both processes of each service have done some of the work since now."""
    own = {service: await total(pulse, service) for service in SERVICE_NAMES}
    for service in SERVICE_NAMES:
        new = joined[service]
        await eventually(lambda new=new, s=service: new.metric(WORK[s]), 60, until=lambda done: done >= ENOUGH)
        await eventually(lambda s=service: total(pulse, s), 60, until=lambda done, s=service: done >= own[s] + ENOUGH)


async def test_processes_join_share_and_leave_under_load(
    tmp_path_factory: pytest.TempPathFactory, receiver: Receiver
) -> None:
    async with running(tmp_path_factory.mktemp("pulse"), only={"delivery": SHARED}) as pulse:
        tenant = await pulse.tenant()
        receiver.behaviour["/slow"] = takes(0.1)
        routes = {path: await tenant.webhook(receiver.url(path), name=path.strip("/")) for path in PATHS}
        publisher, *posting = await pulse.devices(tenant, *(f"d{n}" for n in range(7)))
        load = Load(posting, publisher, str(pulse.http.base_url).rstrip("/"))
        async with load.running():
            await load.more()
            async with AsyncExitStack() as stack:
                joined = {
                    service: await stack.enter_async_context(replica(pulse, f"{service}-2", **more))
                    for service, more in MORE.items()
                }
                load.addresses.append(joined["ingest"].http.url("http"))
                await until_shared(pulse, joined)
                for service in SERVICE_NAMES:
                    await pulse.stack.restart(service)
                    await load.more()
            await load.more()

        def missing() -> set[str]:
            arrived = [{request.message_id for request in receiver.of(path)} for path in PATHS]
            return {sent for sent in load.acknowledged if not all(sent in there for there in arrived)}

        assert load.over_mqtt >= ENOUGH
        await eventually(missing, SETTLED_WITHIN_S, until=lambda lost: not lost, what="delivery of all")
        await eventually(tenant.stored, SETTLED_WITHIN_S, until=lambda rows: len(rows) >= len(load.acknowledged))
        assert Counter(row["message_id"] for row in await tenant.stored()) == Counter(load.acknowledged)
        for path, route in routes.items():
            delivered = Counter(request.webhook_id for request in receiver.of(path))
            assert delivered == Counter(f"{message_id}:{route.route_id}" for message_id in load.acknowledged), path
        assert await tenant.dead_letters() == []
        await eventually(lambda: left(pulse), until=lambda owed: not any(owed.values()), what="empty streams")


async def left(pulse: Pulse) -> dict[str, int]:
    """Return what nobody has acknowledged yet: delivered is not enough, nothing may come again."""
    async with pulse.bus() as bus:
        fast = await api_request(bus, "CONSUMER.INFO.DELIVERY.deliver-webhook")
        siding = await api_request(bus, "STREAM.INFO.SIDING")
    return {"DELIVERY": fast["num_pending"] + fast["num_ack_pending"], "SIDING": siding["state"]["messages"]}
