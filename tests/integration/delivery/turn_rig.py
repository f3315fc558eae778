"""Turns of one process on real streams, a route that they serve, and its destination."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry

from pulse_bus.api import api_request
from pulse_bus.consumer import PullConsumer
from pulse_bus.inspection import unacknowledged
from pulse_bus.notices import TurnNotices
from pulse_bus.outgoing import Outgoing
from pulse_bus.publisher import Publisher
from pulse_bus.siding import PULL_EXPIRES_S, Siding
from pulse_contracts import headers, subjects
from pulse_contracts.envelope import Envelope
from pulse_contracts.ids import DeviceId, MessageId, RouteId, TenantId
from pulse_contracts.records import DeadLetterRecord
from pulse_contracts.routes import Route, RoutePolicy
from pulse_contracts.subjects import RouteAddress
from pulse_contracts.topology import ACK_WAIT_S, deliver_consumer
from pulse_delivery.adapters.attempt_spans import AttemptSpans
from pulse_delivery.adapters.attempts import Attempts
from pulse_delivery.adapters.route_book import RouteBook
from pulse_delivery.adapters.settler import Settler
from pulse_delivery.adapters.shunts import Shunts
from pulse_delivery.domain.bodies import Bodies
from pulse_delivery.domain.lanes import Lanes
from pulse_delivery.domain.limits import LaneLimits
from pulse_delivery.domain.memory import DeliveredMemory
from pulse_delivery.domain.rates import Rates
from pulse_delivery.domain.room import SidingRoom
from pulse_delivery.domain.roster import Rest, Roster
from pulse_delivery.domain.troubles import Troubles
from pulse_delivery.kinds.context import SenderContext
from pulse_delivery.kinds.webhook.sender import open_sender
from pulse_delivery.lanes.fast_lane import FastLane, Held
from pulse_delivery.lanes.outage import Outage
from pulse_delivery.siding.gate import FastLaneGate
from pulse_delivery.siding.keeper import TurnKeeper
from pulse_delivery.siding.places import Places
from pulse_delivery.siding.roll_call import RollCall
from pulse_delivery.siding.stocktaking import Stocktaking
from pulse_delivery.siding.sweep import Sweep
from pulse_delivery.siding.tools import TurnTools
from pulse_delivery.siding.turn import Turn
from pulse_egress.policy import AddressPolicy
from pulse_runtime.clock import SystemClock
from pulse_runtime.metrics import BusMetrics, DeliveryMetrics
from pulse_runtime.spans import OFF
from pulse_storage.routes import StoredRoute
from pulse_storage.sealing import KeyRing
from pulse_testkit.background import running
from pulse_testkit.nats import Bus
from pulse_testkit.receiver import WebhookReceiver

_LOOPBACK = AddressPolicy.from_ranges(["127.0.0.0/8"], allow_http=True, ports=None)
NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
ONE = RouteAddress(kind="webhook", tenant=TenantId("acme"), route=RouteId("r-1"))
PATH = "/hook"


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRig:
    """What a turn works with, and what it works on."""

    bus: Bus
    tools: TurnTools
    book: RouteBook
    siding: Siding
    receiver: WebhookReceiver
    registry: CollectorRegistry
    publisher: Publisher
    fast_lane: FastLane
    keeper: TurnKeeper
    """Of these turns; it does not run by itself."""
    deliveries: PullConsumer
    """What the fast lane takes from; neither runs by itself."""

    async def wait_in_siding(
        self, *numbers: int, copy: str = "", age_s: float = 0.0, address: RouteAddress = ONE
    ) -> None:
        """Put messages into the siding; a *copy* is one that the stream does not recognise as the same."""
        await self.publisher.publish(*(_standing(address, number, copy, age_s) for number in numbers))

    async def wait_unreadable(self, data: bytes) -> None:
        """Put something into the siding that is no message."""
        await self.publisher.publish(replace(_standing(ONE, 0, "unreadable", 0.0), data=data))

    async def know(
        self, policy: RoutePolicy, *, enabled: bool = True, addresses: Sequence[RouteAddress] = (ONE,)
    ) -> None:
        """Have the book know these routes, with this policy."""
        routes = [self._route(address, policy, enabled=enabled) for address in addresses]
        await self.book.learn([StoredRoute(route=route, secrets=None) for route in routes])

    def _route(self, address: RouteAddress, policy: RoutePolicy, *, enabled: bool) -> Route:
        return Route(
            route_id=address.route,
            tenant_id=address.tenant,
            name="r",
            revision=1,
            topic_filter="#",
            payload_filter=None,
            expression=None,
            kind="webhook",
            config={"url": self.receiver.url(PATH)},
            policy=policy,
            enabled=enabled,
        )

    @asynccontextmanager
    async def serving(
        self, rest: Rest | None = None, left_behind: str | None = None, *, close: bool = False
    ) -> AsyncGenerator[Turn]:
        """Run a turn of the route; with *close* its consumer goes at the end, without it is left behind."""
        turn = Turn(ONE, self.tools, rest=rest, left_behind=left_behind)
        self.book.on_change(lambda _routes: turn.stir())
        task = asyncio.create_task(turn.run(), name="test.turn")
        try:
            yield turn
        finally:
            turn.leave(close=close)
            async with asyncio.timeout(15):
                await asyncio.gather(task, return_exceptions=True)

    def attempts(self, outcome: str) -> float:
        labels = {"kind": "webhook", "outcome": outcome}
        return self.registry.get_sample_value("pulse_delivery_attempts_total", labels) or 0.0

    def uncommitted(self, stream: str) -> float:
        return self.registry.get_sample_value("pulse_bus_uncommitted_messages", {"stream": stream}) or 0.0

    async def dead(self) -> int:
        info = await api_request(self.bus.control, "STREAM.INFO.DEADLETTER")
        return info["state"]["messages"]

    async def died_of(self) -> Counter[str]:
        """Return the reasons of the dead letters."""
        standing = await unacknowledged(self.bus.control, "DEADLETTER", "deadletter.>", None)
        return Counter(DeadLetterRecord.decode(message.data).reason for message in standing)


async def until(condition: Callable[[], object], limit_s: float = 15) -> None:
    """Wait for what happens in other tasks of this loop."""
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 - what is waited for is told by a server or comes of a timer
            await asyncio.sleep(0.01)


async def eventually(condition: Callable[[], Awaitable[object]], limit_s: float = 15) -> None:
    """Wait for what a server tells when it is asked."""
    async with asyncio.timeout(limit_s):
        while not await condition():  # noqa: ASYNC110 - see the first line
            await asyncio.sleep(0.02)


@asynccontextmanager
async def open_turns(
    bus: Bus, places: Places | None = None, turn_bytes: int = LaneLimits().turn_bytes, *, buries: bool = True
) -> AsyncGenerator[TurnRig]:
    """Yield a rig; one that does not bury publishes its dead letters never, and whoever waits for that waits on."""
    registry, clock, connection = CollectorRegistry(), SystemClock(), await bus.connect("delivery")
    metrics, bus_metrics = DeliveryMetrics(registry), BusMetrics(registry)
    troubles, outage, siding = Troubles(), Outage(clock, metrics), Siding(connection, "me")
    book = RouteBook("", KeyRing.parse(f"k:{'A' * 43}="), clock)
    lanes = Lanes[Held](LaneLimits(), Rates(book.rate_of, clock.monotonic, replicas=1))
    async with AsyncExitStack() as stack:
        streams: dict[str, Publisher] = {}
        for stream in ("SIDING", "DEADLETTER", "ATTEMPT"):
            made = streams[stream] = Publisher(connection, stream, clock=clock, metrics=bus_metrics, linger_s=0)
            if buries or stream != "DEADLETTER":
                await stack.enter_async_context(running(made.run()))
        receiver = await stack.enter_async_context(WebhookReceiver())
        context = SenderContext(clock=clock, egress=_LOOPBACK, names_kept_s=60, bus=connection, mqtt=None)
        sender = await stack.enter_async_context(open_sender(context))
        attempts = Attempts({"webhook": sender}, DeliveredMemory(), clock, outage.note, AttemptSpans(OFF, clock))
        settler = Settler(
            shunts=Shunts(streams["SIDING"], SidingRoom(0.5), troubles, metrics=metrics, clock=clock),
            dead_letters=streams["DEADLETTER"],
            attempts=streams["ATTEMPT"],
            descriptors={},
            secret_fields=book.secret_fields,
            metrics=metrics,
            clock=clock,
        )
        name = deliver_consumer("webhook").name
        deliveries = PullConsumer(connection, "DELIVERY", name, clock=clock, capacity=100)
        fast_lane = FastLane(
            {"webhook": deliveries},
            lanes=lanes,
            limits=LaneLimits(),
            troubles=troubles,
            book=book,
            attempts=attempts,
            settler=settler,
            outage=outage,
            metrics=metrics,
            clock=clock,
            lag_s=lambda: 0.0,
        )
        gate = FastLaneGate(fast_lane, lanes, troubles, TurnNotices(connection, "me"), clock, places=places)
        tools = TurnTools(
            siding=siding,
            sweep=Sweep(siding, book, attempts, settler, clock),
            book=book,
            troubles=troubles,
            attempts=attempts,
            outage=outage,
            settler=settler,
            gate=gate,
            bodies=Bodies(turn_bytes),
            metrics=metrics,
            clock=clock,
            random=lambda: 1.0,
            stopping=asyncio.Event(),
            open_consumer=lambda name: PullConsumer(
                connection, "SIDING", name, clock=clock, capacity=1, ack_wait_s=ACK_WAIT_S, expires_s=PULL_EXPIRES_S
            ),
        )
        keeper = TurnKeeper(
            siding,
            troubles,
            book,
            tools,
            gate,
            roster=Roster("me"),
            roll_call=RollCall(siding),
            stocktaking=Stocktaking(siding, SidingRoom(0.5), metrics=metrics, random=lambda: 0.5),
            metrics=metrics,
            clock=clock,
        )
        rig = TurnRig(
            bus=bus,
            tools=tools,
            book=book,
            siding=siding,
            receiver=receiver,
            registry=registry,
            publisher=streams["SIDING"],
            fast_lane=fast_lane,
            keeper=keeper,
            deliveries=deliveries,
        )
        await rig.know(RoutePolicy())
        yield rig


def _standing(address: RouteAddress, number: int, copy: str, age_s: float) -> Outgoing:
    routed_at_ms = int((datetime.now(UTC).timestamp() - age_s) * 1000)
    return Outgoing(
        subject=subjects.siding(address.kind, address.tenant, address.route),
        data=body(number),
        message_id=f"m-{number}:{address.route}:s{copy}",
        headers={headers.ROUTE_REVISION: "1", headers.ROUTED_AT: str(routed_at_ms), headers.CAUSE: "attempt_failed"},
    )


def body(number: int) -> bytes:
    return Envelope(
        message_id=MessageId(f"m-{number}"),
        tenant_id=ONE.tenant,
        device_id=DeviceId("d"),
        type="weather",
        topic=f"tenant/{ONE.tenant}/device/d/weather",
        time=NOW,
        received_at=NOW,
        supplied_id=False,
        traceparent=None,
        payload=b"{}",
    ).encode()
