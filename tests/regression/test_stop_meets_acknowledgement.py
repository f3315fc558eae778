"""A demo that was told to stop just when a device was acknowledged went on until its end: aiomqtt's `wait_for`
swallows a cancellation that meets the answer before Python 3.12."""

import asyncio
from typing import Any

import aiomqtt
import pytest

from pulse_cli.demo.fleet import publish


class AnsweredByHand(aiomqtt.Client):
    """Waits for an acknowledgement as aiomqtt does; the test is the broker."""

    acknowledged: asyncio.Future[None]

    async def publish(self, *_args: Any, timeout: float | None = None, **_kwargs: Any) -> None:
        await self._wait_for(self.acknowledged, timeout)


async def test_a_device_that_is_cancelled_when_it_is_acknowledged_stops() -> None:
    client = AnsweredByHand("127.0.0.1")
    client.acknowledged = asyncio.get_running_loop().create_future()
    sending = asyncio.create_task(publish(client, "tenant/t/device/d/x", b"{}"), name="test[device]")
    await asyncio.sleep(0)
    client.acknowledged.set_result(None)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
