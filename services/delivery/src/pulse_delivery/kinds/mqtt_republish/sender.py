"""Republishes to MQTT: QoS 1, delivered when the broker confirmed it."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final

import aiomqtt

from pulse_contracts.outcome import Delivered, Failed, Outcome, Reach, Rejected
from pulse_contracts.routes import Route
from pulse_delivery.domain.parcel import Parcel
from pulse_delivery.domain.ports import Sender
from pulse_delivery.kinds.context import MqttTarget, SenderContext
from pulse_delivery.kinds.mqtt_republish.descriptor import check_topic, expand
from pulse_runtime.cancellation import heed_cancellation
from pulse_runtime.clock import Clock
from pulse_runtime.logging import get_logger
from pulse_runtime.socket_watch import socket_watch

_log = get_logger(__name__)
_RECONNECT_S: Final = 0.5
_CONNECT_TIMEOUT_S: Final = 4.0
"""aiomqtt waits this long for a CONNACK even if the connection was reset meanwhile, as by a broker that starts."""


class MqttRepublisher:
    """Keeps one connection to the broker and publishes over it."""

    def __init__(self, target: MqttTarget | None, clock: Clock) -> None:
        self._target = target
        self._clock = clock
        self._client: aiomqtt.Client | None = None

    async def attempt(self, parcel: Parcel, route: Route, secrets: Mapping[str, object]) -> Outcome:  # noqa: ARG002 - the port's signature
        envelope = parcel.envelope
        try:
            topic = expand(str(route.config["topic"]), envelope.tenant_id, envelope.device_id, envelope.type)
            check_topic(envelope.tenant_id, topic)
        except ValueError as exc:
            return Rejected(reason="config_invalid", error=f"topic: {exc}")
        client = self._client
        if client is None:
            return Failed(error="not connected to the MQTT broker", answered=False, reach=Reach.NOWHERE)
        try:
            await client.publish(topic, envelope.payload, qos=1, timeout=route.policy.deadline_s)
        except (aiomqtt.MqttError, ValueError) as exc:
            return Failed(error=f"the MQTT broker did not confirm: {exc}", answered=False)
        return Delivered()

    async def run(self) -> None:
        """Stay connected until cancelled."""
        while self._target is not None:
            try:
                async with self._open(self._target) as client:
                    heed_cancellation()
                    self._client = client
                    # Nothing is subscribed to: this waits for the end of the connection.
                    async for _ in client.messages:
                        pass
            except Exception as exc:  # noqa: BLE001 - whatever ended the connection, only a new one helps
                _log.warning("broker_disconnected", broker=f"{self._target.host}:{self._target.port}", error=str(exc))
            finally:
                self._client = None
            heed_cancellation()
            await self._clock.sleep(_RECONNECT_S)

    @staticmethod
    def _open(target: MqttTarget) -> aiomqtt.Client:
        client = aiomqtt.Client(
            target.host,
            target.port,
            username=target.user,
            password=target.password,
            identifier=target.client_id,
            keepalive=15,
            timeout=_CONNECT_TIMEOUT_S,
        )
        # It warns of each publication beyond ten under way; here the slots bound them.
        client.pending_calls_threshold = sys.maxsize
        client._loop = socket_watch()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - it takes no loop
        return client


@asynccontextmanager
async def open_sender(context: SenderContext) -> AsyncGenerator[Sender, None]:
    """Yield the republisher, connected as long as the broker lets it."""
    sender = MqttRepublisher(context.mqtt, context.clock)
    task = asyncio.create_task(sender.run(), name="delivery.mqtt_republish")
    try:
        yield sender
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
