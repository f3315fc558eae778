"""Devices that keep sending, and send again until they are acknowledged."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from random import Random
from typing import Final

import aiomqtt
import httpx
from support.tenant import Device

from pulse_cli.ledger.facts import Sendings, Sent, sent_garbage, sent_message

_TRY_S: Final = 3.0
_AGAIN_S: Final = 0.1
_GARBAGE_EVERY: Final = 5


class Flood:
    """Sends from several devices at a steady rate; what is sent follows from the seed, when does not."""

    def __init__(
        self, http: Sequence[Device], mqtt: Sequence[Device], *, interval_s: float, random: Random, patience_s: float
    ) -> None:
        """*patience_s*: how long a device goes on with one message; to give up is a failure of the run."""
        self._http = http
        self._mqtt = mqtt
        self._interval_s = interval_s
        self._patience_s = patience_s
        self._randoms = {device.topic(): Random(random.random()) for device in (*http, *mqtt)}  # noqa: S311 - to replay
        self._numbers: Counter[str] = Counter()
        self._stopping = asyncio.Event()
        self.sendings = Sendings()
        self.refusals: Counter[str] = Counter()
        """Answers that told a device to try again, by what they were."""

    @property
    def acked(self) -> int:
        """How much was acknowledged so far."""
        return len(self.sendings.acknowledged)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Send within the block, again if it was entered before; it ends when the last message is acknowledged."""
        self._stopping.clear()
        async with asyncio.TaskGroup() as group:
            for device in self._http:
                group.create_task(self._send_http(device), name="chaos.http_device")
            for device in self._mqtt:
                group.create_task(self._send_mqtt(device), name="chaos.mqtt_device")
            try:
                yield
            finally:
                self._stopping.set()

    async def send(self, device_id: str) -> None:
        """Send one message of each tenant's device of that name, also while nothing runs; returns when acknowledged."""
        for device in self._http:
            if device.device_id == device_id:
                await self._until_accepted(device, self.make(device))

    async def _send_http(self, device: Device) -> None:
        async for sent in self._messages(device):
            await self._until_accepted(device, sent)

    async def _until_accepted(self, device: Device, sent: Sent) -> None:
        async with asyncio.timeout(self._patience_s):
            while not await self._post(device, sent):  # noqa: ASYNC110 - a device sends again until it is accepted
                await asyncio.sleep(_AGAIN_S)
        self._acknowledge(sent)

    async def _post(self, device: Device, sent: Sent) -> bool:
        try:
            answer = await device.post(sent.body)
        except httpx.TransportError as exc:
            self.refusals[type(exc).__name__] += 1
            return False
        if answer.status_code == HTTPStatus.ACCEPTED:
            return True
        if answer.is_client_error:
            raise AssertionError(f"refused: {answer.status_code} {answer.text}")
        again = " with Retry-After" if "Retry-After" in answer.headers else ""
        self.refusals[f"{answer.status_code}{again}"] += 1
        return False

    async def _send_mqtt(self, device: Device) -> None:
        messages = self._messages(device, garbage=True)
        sent = await anext(messages, None)
        while sent is not None:
            try:
                async with device.mqtt(persistent=True) as client:
                    while sent is not None:
                        await client.publish(device.topic(), sent.body, qos=1, timeout=_TRY_S)
                        self._acknowledge(sent)
                        sent = await anext(messages, None)
            except aiomqtt.MqttError as exc:
                if sent is None or time.monotonic() - sent.first_sent_at > self._patience_s:
                    raise
                self.refusals[type(exc).__name__] += 1
                await asyncio.sleep(_AGAIN_S)

    async def _messages(self, device: Device, *, garbage: bool = False) -> AsyncGenerator[Sent, None]:
        while not self._stopping.is_set():
            yield self.make(device, garbage=garbage)
            await asyncio.sleep(self._interval_s)

    def make(self, device: Device, *, garbage: bool = False) -> Sent:
        """Return what a device sends next, or garbage if it is its turn and *garbage* is sent at all."""
        self._numbers[device.topic()] += 1
        number = self._numbers[device.topic()]
        is_garbage = garbage and number % _GARBAGE_EVERY == 0
        sent = _garbage(device, number) if is_garbage else _message(device, number, self._randoms[device.topic()])
        self.sendings.attempted[sent.entry] = sent
        return sent

    def _acknowledge(self, sent: Sent) -> None:
        self.sendings.acknowledged[sent.entry] = time.monotonic()


def _message(device: Device, number: int, random: Random) -> Sent:
    supplied = f"m-{number}"
    payload: dict[str, object] = {
        "metrics": {"temperature": random.randint(-20, 40), "parity": random.randint(0, 1)},
        "note": "x" * random.choice((0, 10, 200, 2000)),
        "message_id": supplied,
        "site_id": device.tenant.tenant_id,
    }
    return sent_message(
        tenant=device.tenant.tenant_id,
        device=device.device_id,
        supplied=supplied,
        topic=device.topic(),
        payload=payload,
        first_sent_at=time.monotonic(),
    )


def _garbage(device: Device, number: int) -> Sent:
    return sent_garbage(
        tenant=device.tenant.tenant_id,
        topic=device.topic(),
        body=f"{device.device_id} says no JSON {number}".encode(),
        first_sent_at=time.monotonic(),
    )
