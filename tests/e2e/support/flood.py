"""Devices that keep sending, and send again until they are acknowledged."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import aiomqtt
import httpx
from support.tenant import Device

from pulse_contracts.ids import DeviceId, MessageId, supplied_message_id

_TRY_S = 3.0
_AGAIN_S = 0.05
_LAST_ACKS_WITHIN_S = 30.0


class Flood:
    """Sends from several devices at a steady rate; each message carries its number and an id of its own."""

    def __init__(self, http: list[Device], mqtt: list[Device], *, interval_s: float) -> None:
        self._http = http
        self._mqtt = mqtt
        self._interval_s = interval_s
        self._stopping = asyncio.Event()
        self.acknowledged: dict[str, set[MessageId]] = {"http": set(), "mqtt": set()}
        self.numbers: dict[MessageId, int] = {}
        """Of every message that was tried, acknowledged or not."""

    @property
    def acked(self) -> set[MessageId]:
        return self.acknowledged["http"] | self.acknowledged["mqtt"]

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Send within the block; it ends when the last message is acknowledged."""
        async with asyncio.TaskGroup() as group:
            for device in self._http:
                group.create_task(self._send_http(device), name="test.http_device")
            for device in self._mqtt:
                group.create_task(self._send_mqtt(device), name="test.mqtt_device")
            try:
                yield
            finally:
                self._stopping.set()

    async def _send_http(self, device: Device) -> None:
        async for message_id, supplied, payload in self._messages(device):
            async with asyncio.timeout(_LAST_ACKS_WITHIN_S):
                while not await _post(device, payload, supplied):  # noqa: ASYNC110 - what a device does
                    await asyncio.sleep(_AGAIN_S)
            self.acknowledged["http"].add(message_id)

    async def _send_mqtt(self, device: Device) -> None:
        messages = self._messages(device)
        message = await anext(messages, None)
        async with asyncio.timeout(600):
            while message is not None:
                try:
                    async with device.mqtt(persistent=True) as client:
                        while message is not None:
                            message_id, _, payload = message
                            await client.publish(device.topic(), json.dumps(payload), qos=1, timeout=_TRY_S)
                            self.acknowledged["mqtt"].add(message_id)
                            message = await anext(messages, None)
                except aiomqtt.MqttError:
                    await asyncio.sleep(_AGAIN_S)

    async def _messages(self, device: Device) -> AsyncGenerator[tuple[MessageId, str, dict[str, object]], None]:
        number = 0
        while not self._stopping.is_set():
            supplied = f"m-{number}"
            message_id = supplied_message_id(device.tenant.tenant_id, DeviceId(device.device_id), supplied)
            self.numbers[message_id] = number
            yield message_id, supplied, {"n": number, "parity": number % 2, "message_id": supplied}
            number += 1
            await asyncio.sleep(self._interval_s)


async def _post(device: Device, payload: object, supplied: str) -> bool:
    try:
        answer = await device.post(payload, idempotency_key=supplied)
    except httpx.TransportError:
        return False
    if 400 <= answer.status_code < 500:
        raise AssertionError(f"refused: {answer.status_code} {answer.text}")
    return answer.status_code == 202
