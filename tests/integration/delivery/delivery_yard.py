"""A settler on real streams, for tests that fill them."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry

from pulse_bus.api import api_request
from pulse_bus.consumer import PullConsumer
from pulse_bus.incoming import Incoming
from pulse_bus.inspection import Standing, unacknowledged
from pulse_bus.outgoing import Outgoing
from pulse_bus.publisher import Publisher
from pulse_bus.siding import Siding
from pulse_contracts import subjects
from pulse_contracts.envelope import Envelope
from pulse_contracts.ids import DeviceId, MessageId
from pulse_contracts.records import DeadLetterRecord
from pulse_contracts.subjects import RouteAddress
from pulse_contracts.topology import deliver_consumer
from pulse_contracts.turns import TurnState
from pulse_delivery.adapters.parcels import parcel_of
from pulse_delivery.adapters.settler import Settler
from pulse_delivery.adapters.shunts import Shunts
from pulse_delivery.domain.room import SidingRoom
from pulse_delivery.domain.troubles import Troubles
from pulse_delivery.siding.stocktaking import Stocktaking
from pulse_runtime.clock import SystemClock
from pulse_runtime.metrics import BusMetrics, DeliveryMetrics
from pulse_testkit.nats import Bus

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
MIB = 1024 * 1024
BODY_BYTES = 100_000
SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Yard:
    """A settler on real streams, the messages it settles, and what it came to."""

    bus: Bus
    siding: Siding
    room: SidingRoom
    troubles: Troubles
    settler: Settler
    stocktaking: Stocktaking
    metrics: DeliveryMetrics
    incoming: PullConsumer
    publisher: Publisher
    pull: Callable[[str, str], PullConsumer]

    async def arrive(self, address: RouteAddress, count: int, first: int = 0) -> list[Incoming]:
        """Route so many messages and take them off DELIVERY."""
        await self.publisher.publish(*(delivery_of(address, first + n) for n in range(count)))
        return await self.take(count)

    async def take(self, count: int) -> list[Incoming]:
        taken: list[Incoming] = []
        async with asyncio.timeout(15):
            while len(taken) < count:
                taken += await self.incoming.take(count)
        return taken

    async def shunt(self, messages: list[Incoming]) -> None:
        for message in messages:
            await self.settler.shunt(message, parcel_of(message), None, "behind")

    async def waiting(self) -> list[Standing]:
        return await unacknowledged(self.bus.control, "SIDING", "siding.>", None)

    async def dead(self) -> list[DeadLetterRecord]:
        standing = await unacknowledged(self.bus.control, "DEADLETTER", "deadletter.>", None)
        return [DeadLetterRecord.decode(message.data) for message in standing]

    async def head(self, address: RouteAddress) -> Incoming:
        """Take the first message of a route's siding, as a turn does."""
        turn = await self.siding.open_turn(address, TurnState(phase="probing", in_flight=1))
        assert turn is not None
        pull = self.pull("SIDING", turn)
        async with _running(pull.run()), asyncio.timeout(15):
            [head] = await pull.take(1)
        return head

    async def limit(self, stream: str, **limits: int) -> None:
        info = await api_request(self.bus.control, f"STREAM.INFO.{stream}")
        await api_request(self.bus.control, f"STREAM.UPDATE.{stream}", {**info["config"], **limits})
        await self.stocktaking.count()

    async def unsettled(self) -> int:
        """Messages of DELIVERY that count against what may be pulled."""
        info = await api_request(self.bus.control, "CONSUMER.INFO.DELIVERY.deliver-webhook")
        return info["num_ack_pending"]

    def refused(self, bound: str) -> float:
        [family] = self.metrics.siding_full_total.collect()
        return next(s.value for s in family.samples if s.labels == {"bound": bound} and s.name.endswith("_total"))


@asynccontextmanager
async def _running(work: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
    task = asyncio.create_task(work, name="test[running]")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


@asynccontextmanager
async def open_yard(bus: Bus) -> AsyncGenerator[Yard]:
    registry, clock = CollectorRegistry(), SystemClock()
    metrics, bus_metrics = DeliveryMetrics(registry), BusMetrics(registry)
    delivery, router = await bus.connect("delivery"), await bus.connect("router")
    siding, room, troubles = Siding(delivery), SidingRoom(SHARE), Troubles()
    async with AsyncExitStack() as stack:

        async def publisher(stream: str) -> Publisher:
            made = Publisher(
                router if stream == "DELIVERY" else delivery, stream, clock=clock, metrics=bus_metrics, linger_s=0
            )
            await stack.enter_async_context(_running(made.run()))
            return made

        incoming = PullConsumer(delivery, "DELIVERY", deliver_consumer("webhook").name, clock=clock, capacity=100)
        await stack.enter_async_context(_running(incoming.run()))
        settler = Settler(
            shunts=Shunts(await publisher("SIDING"), room, troubles, metrics=metrics, clock=clock),
            dead_letters=await publisher("DEADLETTER"),
            attempts=await publisher("ATTEMPT"),
            descriptors={},
            secret_fields=lambda _route: (),
            metrics=metrics,
            clock=clock,
        )
        stocktaking = Stocktaking(siding, room, metrics=metrics, random=lambda: 0.5)
        made = Yard(
            bus=bus,
            siding=siding,
            room=room,
            troubles=troubles,
            settler=settler,
            stocktaking=stocktaking,
            metrics=metrics,
            incoming=incoming,
            publisher=await publisher("DELIVERY"),
            pull=lambda stream, name: PullConsumer(delivery, stream, name, clock=clock, capacity=1),
        )
        await made.limit("SIDING", max_bytes=5 * MIB)
        yield made


def delivery_of(address: RouteAddress, number: int, body_bytes: int = BODY_BYTES) -> Outgoing:
    envelope = Envelope(
        message_id=MessageId(f"m-{number}"),
        tenant_id=address.tenant,
        device_id=DeviceId("d"),
        type="weather",
        topic=f"tenant/{address.tenant}/device/d/weather",
        time=NOW,
        received_at=NOW,
        supplied_id=False,
        traceparent=None,
        payload=json.dumps({"blob": "x" * body_bytes}).encode(),
    )
    return Outgoing(
        subject=subjects.delivery(address.kind, address.tenant, address.route),
        data=envelope.encode(),
        message_id=f"m-{number}:{address.route}",
    )
