"""Devices at the broker of deploy/mqtt, and what it has acknowledged to them."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import aiomqtt
from deploy_mosquitto import Broker
from support.tenant import Tenant
from support.waiting import eventually

from pulse_contracts.ids import DeviceId, supplied_message_id


class Fleet:
    """Devices that send until told to stop, each message again until it is acknowledged."""

    def __init__(self, broker: Broker, tenant: Tenant, *devices: str) -> None:
        self.acknowledged: set[str] = set()
        """Message ids."""
        self._broker = broker
        self._tenant = tenant
        self._next = dict.fromkeys(devices, 0)
        """Numbers of the messages that the devices send next."""
        self._stopping = asyncio.Event()

    @asynccontextmanager
    async def sending(self) -> AsyncGenerator[None]:
        """Send within the block, which ends when the last message is acknowledged. Again, it goes on."""
        self._stopping.clear()
        async with asyncio.TaskGroup() as group:
            for device in self._next:
                group.create_task(self._send(device), name=f"test.{device}")
            try:
                yield
            finally:
                self._stopping.set()

    async def until_more_are_acknowledged(self, count: int = 50) -> None:
        wanted = len(self.acknowledged) + count
        await eventually(lambda: len(self.acknowledged) >= wanted, 30, what=f"{wanted} acknowledged")

    async def until_all_are_stored(self) -> None:
        """Wait for a row of each message that was acknowledged; fails if a message of the tenant has two."""

        async def missing() -> set[str]:
            return self.acknowledged - {row["message_id"] for row in await self._tenant.stored()}

        assert await eventually(missing, 60, until=lambda lost: not lost) == set()
        stored = Counter(row["message_id"] for row in await self._tenant.stored())
        assert set(stored.values()) == {1}

    async def _send(self, device: str) -> None:
        tenant = self._tenant.tenant_id
        while not self._stopping.is_set():
            try:
                async with self._broker.device(f"{tenant}/device/{device}") as client:
                    while not self._stopping.is_set():
                        topic, number = f"tenant/{tenant}/device/{device}/reading", self._next[device]
                        await client.publish(topic, f'{{"message_id": "{number}"}}', qos=1, timeout=2)
                        self.acknowledged.add(supplied_message_id(tenant, DeviceId(device), str(number)))
                        self._next[device] += 1
            except aiomqtt.MqttError:
                await asyncio.sleep(0.05)  # as any device would before it connects again
