"""A demo that was told to stop just when a device was acknowledged went on until its end: aiomqtt's `wait_for`
swallows a cancellation that meets the answer before Python 3.12. So it was when the answer was to a connection or to a
subscription: then the demo had no end at all."""

import asyncio
from typing import Any

import aiomqtt
import pytest
from mqtt_by_hand import CONNECTED, SUBSCRIBED, is_ended_by_a_cancellation_that_meets, made_by_hand

from pulse_cli.demo.fleet import Fleet, publish
from pulse_cli.demo.receivers import Receivers, subscribe
from pulse_cli.demo.scenario import DemoDevice
from pulse_cli.demo.series import load_series
from pulse_cli.ledger.facts import Sendings
from pulse_contracts.ids import DeviceId, TenantId

ACME, BROKER = TenantId("acme"), ("127.0.0.1", 1)


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


async def test_a_device_that_is_cancelled_when_it_is_connected_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    made = made_by_hand(monkeypatch)
    device = DemoDevice(tenant=ACME, device=DeviceId("d"), token="dev_x", protocol="mqtt")
    fleet = Fleet([device], load_series(), "http://127.0.0.1:1", BROKER, Sendings())
    sending = asyncio.create_task(fleet.run(60), name="test[fleet]")
    assert await is_ended_by_a_cancellation_that_meets(sending, made, CONNECTED)


@pytest.mark.parametrize("answers", [(CONNECTED,), (CONNECTED, SUBSCRIBED)], ids=["connected", "subscribed"])
async def test_a_subscriber_that_is_cancelled_when_it_is_answered_stops(
    monkeypatch: pytest.MonkeyPatch, answers: tuple[object, ...]
) -> None:
    made = made_by_hand(monkeypatch)
    receivers = Receivers(0, 0, Sendings())
    subscriber = asyncio.create_task(
        subscribe(receivers, BROKER, {ACME: "key_x"}, asyncio.Event()), name="test[subscriber]"
    )
    assert await is_ended_by_a_cancellation_that_meets(subscriber, made, *answers)
