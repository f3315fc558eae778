"""One connection to the broker: a persistent session whose messages are acknowledged by hand, in order.

aiomqtt 2.5 has no public manual acknowledgement; the paho client inside has. A PUBACK goes out only when the message
is durable, and in the order of receipt (MQTT-4.6.0-2): the contiguous prefix of what is done.
"""

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Final

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from pulse_contracts.topics import SUBSCRIPTION
from pulse_ingest.settings import IngestSettings
from pulse_runtime.cancellation import heed_cancellation
from pulse_runtime.socket_watch import socket_watch

QOS: Final = 1
WINDOW: Final = 1024
"""Messages on the way at once, where the protocol lets us say so (MQTT 5 Receive Maximum)."""
_SESSION_EXPIRY_S: Final = 7 * 86_400


class SubscriptionRefused(Exception):
    """The broker did not grant the subscription at QoS 1: promise 1 would not hold over it."""

    def __init__(self, granted: object) -> None:
        super().__init__(f"the broker granted {granted} to {SUBSCRIPTION} instead of QoS {QOS}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One message as it came from the broker."""

    topic: str
    body: bytes
    retained: bool
    is_owed: bool = True
    """Whether the sender gets an acknowledgement. At QoS 0 it gets none, and nothing is promised."""
    user_properties: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Open:
    """A message in the order of its receipt, until its PUBACK."""

    task: asyncio.Task[None]
    mid: int
    qos: int


class MqttSession:
    """Receives from one broker and acknowledges what *handle* has returned from."""

    def __init__(self, settings: IngestSettings, handle: Callable[[Arrival], Coroutine[None, None, None]]) -> None:
        self._settings = settings
        self._handle = handle
        self._unpromised = asyncio.Semaphore(WINDOW)
        """Messages of QoS 0 on the way at once."""
        self._open: set[int] = set()
        """Packet ids of this connection that are not acknowledged yet."""

    async def run(self, on_subscribed: Callable[[], None]) -> None:
        """Receive until the connection breaks (`aiomqtt.MqttError`) or the task is cancelled.

        Whatever was not acknowledged by then is sent again by the broker: handling it twice is not this class's worry.
        """
        client = self._client()
        # The one place that reaches into aiomqtt: issue 345 there, open since 2024.
        paho = client._client  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - no public way in 2.5
        client._loop = socket_watch()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - it takes no loop
        paho.manual_ack_set(True)
        async with client:
            heed_cancellation()
            granted = await client.subscribe(self._filter(), qos=QOS)
            heed_cancellation()
            if [code if isinstance(code, int) else code.value for code in granted] != [QOS]:
                raise SubscriptionRefused(granted)
            on_subscribed()
            # Unbounded here, because the broker's window bounds it: it sends no more than that unacknowledged.
            acks: asyncio.Queue[_Open] = asyncio.Queue()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._acknowledge(acks, paho.ack), name="ingest.mqtt.acknowledge")
                async for message in client.messages:
                    if message.qos and message.mid in self._open:
                        # Sent again because we took long: a packet id is not reused before its PUBACK (MQTT-2.3.1-4).
                        continue
                    if not message.qos:
                        # The broker's window does not bound these: ours does.
                        await self._unpromised.acquire()
                        group.create_task(self._handle_unpromised(_arrival(message)), name="ingest.mqtt.handle")
                        continue
                    self._open.add(message.mid)
                    task = group.create_task(self._handle(_arrival(message)), name="ingest.mqtt.handle")
                    acks.put_nowait(_Open(task=task, mid=message.mid, qos=message.qos))

    async def _handle_unpromised(self, arrival: Arrival) -> None:
        try:
            await self._handle(arrival)
        finally:
            self._unpromised.release()

    async def _acknowledge(self, acks: asyncio.Queue[_Open], ack: Callable[[int, int], object]) -> None:
        while True:
            first = await acks.get()
            await first.task
            self._open.discard(first.mid)
            ack(first.mid, first.qos)

    def _filter(self) -> str:
        group = self._settings.mqtt_share_group
        return f"$share/{group}/{SUBSCRIPTION}" if group else SUBSCRIPTION

    def _client(self) -> aiomqtt.Client:
        settings = self._settings
        password = settings.mqtt_password.get_secret_value() if settings.mqtt_password else None
        v5 = settings.mqtt_protocol == "5"
        return aiomqtt.Client(
            settings.mqtt_host or "",
            settings.mqtt_port,
            username=settings.mqtt_user,
            password=password,
            identifier=settings.mqtt_client_id.get_secret_value(),
            protocol=aiomqtt.ProtocolVersion.V5 if v5 else aiomqtt.ProtocolVersion.V311,
            clean_session=None if v5 else False,
            clean_start=False if v5 else 3,
            properties=_connect_properties() if v5 else None,
            tls_context=ssl.create_default_context() if settings.mqtt_tls else None,
            keepalive=15,
            timeout=10,
        )


def _connect_properties() -> Properties:
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = _SESSION_EXPIRY_S
    properties.ReceiveMaximum = WINDOW
    return properties


def _arrival(message: aiomqtt.Message) -> Arrival:
    pairs: list[tuple[str, str]] = getattr(message.properties, "UserProperty", None) or []
    return Arrival(
        topic=str(message.topic),
        body=message.payload,
        retained=message.retain,
        is_owed=message.qos > 0,
        user_properties=dict(pairs),
    )
