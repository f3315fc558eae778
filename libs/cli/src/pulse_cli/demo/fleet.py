"""The fleet: ordinary MQTT and HTTP clients that send until they are acknowledged."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Final

import aiomqtt
import httpx

from pulse_cli.demo.scenario import DemoDevice
from pulse_cli.demo.series import Reading
from pulse_cli.ledger.facts import Sendings, Sent, sent_garbage, sent_message
from pulse_runtime.cancellation import heed_cancellation

INTERVAL_S: Final = 1.0
_ACK_TIMEOUT_S: Final = 10.0
_RETRY_S: Final = 0.5
_GIVE_UP_S: Final = 60.0
_ACCEPTED: Final = 202


class NotAccepted(Exception):
    """A device sent a message again and again, and gave up."""

    def __init__(self, entry: str) -> None:
        self.entry = entry
        super().__init__(f"{entry} was not accepted within {_GIVE_UP_S:g} s")


class Fleet:
    """Replays the series: each device is one place in it and moves on by a day with every message."""

    def __init__(
        self,
        devices: Sequence[DemoDevice],
        series: Sequence[Reading],
        http: str,
        mqtt: tuple[str, int],
        sendings: Sendings,
    ) -> None:
        self._devices = devices
        self._series = series
        self._http = http
        self._mqtt = mqtt
        self.sendings = sendings

    async def run(self, seconds: float) -> None:
        """Send for *seconds*, then wait for the acknowledgements that are due."""
        async with (
            httpx.AsyncClient(base_url=self._http, timeout=_ACK_TIMEOUT_S) as client,
            asyncio.TaskGroup() as group,
        ):
            for index, device in enumerate(self._devices):
                work = (
                    self._run_http(device, index, seconds, client)
                    if device.protocol == "http"
                    else self._run_mqtt(device, index, seconds)
                )
                group.create_task(work, name=f"demo.device[{device.device}]")

    async def _run_http(self, device: DemoDevice, index: int, seconds: float, client: httpx.AsyncClient) -> None:
        path = f"/ingest/v1/tenant/{device.tenant}/device/{device.device}/weather"
        fields = {"authorization": f"Bearer {device.token}"}
        async for sent in self._messages(device, index, seconds):
            await _post_until_accepted(client, path, sent, fields)
            self._acknowledge(sent)

    async def _run_mqtt(self, device: DemoDevice, index: int, seconds: float) -> None:
        messages = self._messages(device, index, seconds)
        sent = await anext(messages, None)
        while sent is not None:
            try:
                async with self._client(device) as client:
                    heed_cancellation()
                    if index == 0:
                        await self._publish(client, self._garbage(device, sent.topic))
                        index = -1
                    while sent is not None:
                        await self._publish(client, sent)
                        sent = await anext(messages, None)
            except aiomqtt.MqttError as exc:
                heed_cancellation()
                if sent is None:
                    return
                if time.monotonic() - sent.first_sent_at > _GIVE_UP_S:
                    raise NotAccepted(sent.entry) from exc
                await asyncio.sleep(_RETRY_S)

    async def _publish(self, client: aiomqtt.Client, sent: Sent) -> None:
        await publish(client, sent.topic, sent.body)
        self._acknowledge(sent)

    def _acknowledge(self, sent: Sent) -> None:
        self.sendings.acknowledged[sent.entry] = time.monotonic()

    def _attempt(self, sent: Sent) -> Sent:
        return self.sendings.attempted.setdefault(sent.entry, sent)

    def _garbage(self, device: DemoDevice, topic: str) -> Sent:
        return self._attempt(
            sent_garbage(tenant=device.tenant, topic=topic, body=b"not json", first_sent_at=time.monotonic())
        )

    def _client(self, device: DemoDevice) -> aiomqtt.Client:
        host, port = self._mqtt
        return aiomqtt.Client(
            host,
            port,
            username=f"{device.tenant}/{device.device}",
            password=device.token,
            identifier=f"demo-{device.device}",
        )

    async def _messages(self, device: DemoDevice, index: int, seconds: float) -> AsyncGenerator[Sent, None]:
        started = time.monotonic()
        # Spread over the interval, so that fifty devices are no burst.
        await asyncio.sleep(INTERVAL_S * index / len(self._devices))
        number = 0
        while time.monotonic() - started < seconds:
            yield self._attempt(self._compose(device, index, number))
            number += 1
            due = started + INTERVAL_S * (index / len(self._devices) + number)
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _compose(self, device: DemoDevice, index: int, number: int) -> Sent:
        reading = self._series[(index * 29 + number) % len(self._series)]
        message = f"{device.device}-{number}"
        payload = {
            "metrics": reading.metrics,
            "weather": reading.weather,
            "day": reading.day,
            "seq": number,
            "message_id": message,
        }
        return sent_message(
            tenant=device.tenant,
            device=device.device,
            supplied=message,
            topic=f"tenant/{device.tenant}/device/{device.device}/weather",
            payload=payload,
            first_sent_at=time.monotonic(),
        )


async def publish(client: aiomqtt.Client, topic: str, body: bytes) -> None:
    """Return when the broker has acknowledged it; raises `MqttError` when it does not in time."""
    try:
        # Not aiomqtt's own time-out: before Python 3.12 its `wait_for` swallows a cancellation that meets the answer,
        # and the device would go on sending.
        async with asyncio.timeout(_ACK_TIMEOUT_S):
            await client.publish(topic, body, qos=1, timeout=math.inf)
    except TimeoutError as exc:
        raise aiomqtt.MqttError(f"not acknowledged within {_ACK_TIMEOUT_S:g} s") from exc


async def _post_until_accepted(client: httpx.AsyncClient, path: str, sent: Sent, fields: dict[str, str]) -> None:
    """Send again until it is accepted: the message carries its id, so it stays one message."""
    give_up_at = sent.first_sent_at + _GIVE_UP_S
    while not await _post(client, path, sent, fields):
        if time.monotonic() > give_up_at:
            raise NotAccepted(sent.entry)
        await asyncio.sleep(_RETRY_S)


async def _post(client: httpx.AsyncClient, path: str, sent: Sent, fields: dict[str, str]) -> bool:
    try:
        answer = await client.post(path, content=sent.body, headers=fields)
    except httpx.TransportError:
        return False
    return answer.status_code == _ACCEPTED
