"""Destinations of every kind on real servers, each behind a network that fails on command."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from nats.aio.msg import Msg

from pulse_bus.api import api_request
from pulse_bus.connection import Connection
from pulse_bus.inspection import unacknowledged
from pulse_contracts.ids import MessageId
from pulse_contracts.routes import Route, RoutePolicy
from pulse_delivery.domain.parcel import Parcel
from pulse_delivery.domain.ports import Sender
from pulse_delivery.kinds.context import MqttTarget, SenderContext
from pulse_delivery.kinds.mqtt_republish.sender import open_sender as open_republisher
from pulse_delivery.kinds.nats.sender import open_sender as open_nats_sender
from pulse_delivery.kinds.webhook.sender import open_sender as open_webhook_sender
from pulse_egress.policy import AddressPolicy
from pulse_runtime.clock import SystemClock
from pulse_testkit.nats import TESTER, Bus
from pulse_testkit.proxy import TcpProxy
from pulse_testkit.receiver import WebhookReceiver

DEADLINE_S: Final = 1.0
_LOOPBACK: Final = AddressPolicy.from_ranges(["127.0.0.0/8"], allow_http=True, ports=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """A sender, a route of its kind, the way there, and what has arrived."""

    sender: Sender
    route: Route
    network: TcpProxy
    taken: Callable[[], Awaitable[list[bytes]]]
    """The bodies that the destination has."""
    body: Callable[[Parcel], bytes]
    """What a destination of this kind gets."""
    unobeyable: Mapping[str, object] | None
    """A configuration that no attempt can obey; None where the descriptor alone decides."""
    secrets: Mapping[str, object] = field(default_factory=dict[str, object])

    async def attempt(self, parcel: Parcel) -> Any:
        return await self.sender.attempt(parcel, self.route, self.secrets)


def numbered(parcel: Parcel, number: int) -> Parcel:
    """Return the parcel with another message in it."""
    envelope = replace(parcel.envelope, message_id=MessageId(f"m-{number}"), payload=b'{"n":%d}' % number)
    return replace(parcel, envelope=envelope)


@asynccontextmanager
async def webhook_rig(bus: Bus, route: Route) -> AsyncGenerator[Rig]:
    async with (
        WebhookReceiver() as receiver,
        TcpProxy(receiver.port) as network,
        open_webhook_sender(_context(bus.control)) as sender,
    ):

        async def taken() -> list[bytes]:
            return [request.body for request in receiver.requests]

        yield Rig(
            sender=sender,
            route=_of(route, "webhook", {"url": f"http://127.0.0.1:{network.port}/hook"}),
            network=network,
            taken=taken,
            body=lambda parcel: parcel.envelope.public_body(),
            unobeyable={"url": "http://169.254.169.254/latest/meta-data"},
            secrets={"signing": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]},
        )


@asynccontextmanager
async def republish_rig(bus: Bus, route: Route) -> AsyncGenerator[Rig]:
    got: list[bytes] = []

    def on_message(message: Msg) -> None:
        got.append(message.data)

    async def taken() -> list[bytes]:
        # What was sent to the tester before the broker confirmed it comes before this answer.
        await tester.request("$JS.API.INFO", timeout_s=5)
        return got

    tester = await bus.connect(TESTER)
    await tester.subscribe("tenant.acme.copy", on_message)
    async with TcpProxy(bus.nats.mqtt_port) as network:
        target = MqttTarget(
            host="127.0.0.1",
            port=network.port,
            user="delivery-mqtt",
            password=bus.nats.password("delivery-mqtt"),
            client_id="republisher",
        )
        async with open_republisher(_context(bus.control, target)) as sender:
            yield Rig(
                sender=sender,
                route=_of(route, "mqtt_republish", {"topic": "tenant/{tenant_id}/copy"}),
                network=network,
                taken=taken,
                body=lambda parcel: parcel.envelope.payload,
                unobeyable={"topic": "tenant/globex/copy"},
            )


@asynccontextmanager
async def nats_rig(bus: Bus, route: Route) -> AsyncGenerator[Rig]:
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(TcpProxy(bus.nats.port))
        tester = await bus.connect(TESTER)
        export = {"name": "EXPORT", "subjects": ["export.>"], "allow_direct": True}
        await api_request(bus.control, "STREAM.CREATE.EXPORT", export)

        async def taken() -> list[bytes]:
            return [standing.data for standing in await unacknowledged(tester, "EXPORT", "export.acme.copy", None)]

        connection = await bus.connect("delivery", port=network.port)
        sender = await stack.enter_async_context(open_nats_sender(_context(connection)))
        yield Rig(
            sender=sender,
            route=_of(route, "nats", {"subject": "copy"}),
            network=network,
            taken=taken,
            body=lambda parcel: parcel.envelope.public_body(),
            unobeyable=None,
        )


RIGS: Final[Mapping[str, Callable[[Bus, Route], AbstractAsyncContextManager[Rig]]]] = {
    "webhook": webhook_rig,
    "mqtt_republish": republish_rig,
    "nats": nats_rig,
}
"""By kind. A kind that emits and is not in here fails the suite."""


def _context(bus: Connection, mqtt: MqttTarget | None = None) -> SenderContext:
    return SenderContext(clock=SystemClock(), egress=_LOOPBACK, names_kept_s=60, bus=bus, mqtt=mqtt)


def _of(route: Route, kind: str, config: Mapping[str, object]) -> Route:
    return replace(route, kind=kind, config=config, policy=RoutePolicy(deadline_s=DEADLINE_S))
