"""Each fate of a message: stored, delivered, republished, filtered, waiting, dead-lettered."""

import asyncio
import base64
import json
import time
from functools import partial
from itertools import count, cycle
from operator import eq
from typing import Any

import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError
from support.pulse import Pulse
from support.receiver import Answer, Receiver, Request, always
from support.tenant import Device
from support.waiting import are, eventually

from pulse_cli.demo.receivers import Receivers, subscribe
from pulse_cli.ledger.facts import Sendings
from pulse_contracts.ids import DeviceId, TenantId, supplied_message_id
from pulse_storage import dead_letters
from pulse_testkit.proxy import TcpProxy

LONG_ENOUGH_S = 20.0
_OLD_S = 4
_numbers = count(1)


async def send(device: Device, protocol: str, payload: dict[str, object], message_type: str = "data") -> str:
    """Send over ``http`` or ``mqtt``; returns the message id, which follows from the id that the payload gets."""
    supplied = f"m-{next(_numbers)}"
    payload = {**payload, "message_id": supplied}
    if protocol == "http":
        return await device.accepted(payload, message_type)
    await device.publish(payload, message_type)
    return supplied_message_id(device.tenant.tenant_id, DeviceId(device.device_id), supplied)


async def send_over_both(device: Device, number: int) -> list[str]:
    """Send so many messages, over HTTP and MQTT by turns."""
    protocols = cycle(("http", "mqtt"))
    return [await send(device, protocol, {"n": n}) for n, protocol in zip(range(number), protocols, strict=False)]


async def test_message_over_http_is_stored_and_delivered_signed(pulse: Pulse, receiver: Receiver) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device()
    route = await tenant.webhook(receiver.url("/http"))
    payload = {"metrics": {"t": 21.5}, "ts": "2026-11-24T00:00:00Z"}

    message_id = await device.accepted(payload, "climate/indoor")

    [request] = await eventually(lambda: receiver.of("/http"))
    body: Any = Webhook(route.secret).verify(request.body, request.headers)
    assert body["message_id"] == message_id
    assert body["payload"] == payload
    assert (body["tenant_id"], body["device_id"], body["type"], body["topic"]) == (
        tenant.tenant_id,
        "d1",
        "climate/indoor",
        device.topic("climate/indoor"),
    )
    assert request.webhook_id == f"{message_id}:{route.route_id}"
    [row] = await eventually(tenant.stored)
    assert row["message_id"] == message_id
    assert json.loads(row["payload"]) == payload
    assert row["topic"] == device.topic("climate/indoor")


async def test_message_over_mqtt_is_stored_and_delivered_signed(pulse: Pulse, receiver: Receiver) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device("AA:BB.cc")
    route = await tenant.webhook(receiver.url("/mqtt"))

    payload = {"metrics": {"t": 1}, "ts": "2026-11-24T00:00:00Z"}

    await device.publish(payload, "climate")

    [request] = await eventually(lambda: receiver.of("/mqtt"))
    body: Any = Webhook(route.secret).verify(request.body, request.headers)
    assert body["payload"] == payload
    [row] = await eventually(tenant.stored)
    assert row["message_id"] == request.message_id
    assert (row["device_id"], row["type"], row["topic"]) == ("AA:BB.cc", "climate", device.topic("climate"))
    assert json.loads(row["payload"]) == payload


async def test_tampered_webhook_does_not_verify(pulse: Pulse, receiver: Receiver) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device()
    route = await tenant.webhook(receiver.url("/tampered"))
    await device.accepted({"v": 1})
    [request] = await eventually(lambda: receiver.of("/tampered"))
    assert b": 1}" in request.body
    other = "whsec_" + base64.b64encode(bytes(32)).decode()
    with pytest.raises(WebhookVerificationError):
        Webhook(route.secret).verify(request.body.replace(b": 1}", b": 2}"), request.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(other).verify(request.body, request.headers)


async def test_republished_message_has_the_original_bytes(pulse: Pulse) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device()
    await tenant.republish("tenant/{tenant_id}/mirror/{device_id}/{type}")
    original = b'{"b": 1.0,  "a":\t"\\u00e9\xc3\xa9", "n": 1e2}'
    async with tenant.subscriber(f"tenant/{tenant.tenant_id}/mirror/#") as got:
        await device.publish(original, "x")
        await device.accepted(original, "y")
        await eventually(lambda: len(got) == 2)
    mirror = f"tenant/{tenant.tenant_id}/mirror/d1"
    assert sorted(got) == [(f"{mirror}/x", original), (f"{mirror}/y", original)]


async def test_the_subscriber_of_the_demo_misses_nothing_while_it_is_cut_off(pulse: Pulse) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device()
    await tenant.republish("tenant/{tenant_id}/weather/{device_id}")
    receivers = Receivers(0, 0, Sendings())
    subscribed = asyncio.Event()
    async with TcpProxy(pulse.mqtt[1]) as proxy:
        broker, keys = ("127.0.0.1", proxy.port), {tenant.tenant_id: tenant.key}
        subscriber = asyncio.create_task(subscribe(receivers, broker, keys, subscribed), name="test.subscriber")
        await asyncio.wait_for(subscribed.wait(), 10)
        proxy.cut()
        missed = await device.accepted({"message_id": "missed"})
        await eventually(lambda: pulse.log("delivery", "route_delivered", message_id=missed))
        assert proxy.broken
        assert not receivers.receipts
        proxy.heal()
        await eventually(lambda: [receipt.entry for receipt in receivers.receipts] == [missed])
        subscriber.cancel()
        await asyncio.wait({subscriber})


async def test_filtered_route_gets_exactly_its_matches(pulse: Pulse, receiver: Receiver) -> None:
    tenant, stranger = await pulse.tenant(), await pulse.tenant()
    device, foreign = await tenant.device(), await stranger.device()
    await tenant.webhook(receiver.url("/all"), name="all")
    await tenant.webhook(
        receiver.url("/hot"),
        name="hot",
        topic_filter="tenant/+/device/+/climate/#",
        payload_filter={"temperature": {"$gt": 80}, "site": "a"},
    )
    hot = {
        await send(device, "http", {"metrics": {"temperature": 81}, "site": "a"}, "climate"),
        await send(device, "mqtt", {"temperature": 80.5, "site": "a"}, "climate/indoor"),
    }
    others = {
        await send(device, "http", {"metrics": {"temperature": 80}, "site": "a"}, "climate"),
        await send(device, "mqtt", {"metrics": {"temperature": "81"}, "site": "a"}, "climate"),
        await send(device, "http", {"metrics": {"temperature": 99}, "site": "b"}, "climate"),
        await send(device, "mqtt", {"site": "a"}, "climate"),
        await send(device, "http", {"metrics": {"temperature": 99}, "site": "a"}, "weather"),
    }
    await send(foreign, "mqtt", {"metrics": {"temperature": 99}, "site": "a"}, "climate")
    await eventually(lambda: {request.message_id for request in receiver.of("/all")} == hot | others)
    # What is routed and delivered before this fence would be there before it, if it came to /hot at all.
    fence = await send(device, "http", {"metrics": {"temperature": 99}, "site": "a"}, "climate")
    hot.add(fence)
    for path, expected in (("/all", hot | others), ("/hot", hot)):
        await eventually(lambda path=path: any(request.message_id == fence for request in receiver.of(path)))
        assert sorted(request.message_id for request in receiver.of(path)) == sorted(expected)


@pytest.mark.parametrize(("status", "protocol"), [(404, "http"), (410, "mqtt")])
async def test_final_answer_makes_a_dead_letter_at_once(
    pulse: Pulse, receiver: Receiver, status: int, protocol: str
) -> None:
    tenant, stranger = await pulse.tenant(), await pulse.tenant()
    device = await tenant.device()
    receiver.behaviour["/final"] = always(status)
    route = await tenant.webhook(receiver.url("/final"))
    message_id = await send(device, protocol, {"v": 1})

    [dead] = await eventually(tenant.dead_letters)
    assert len(receiver.tried("/final")) == 1
    assert (dead.message_id, dead.route_id) == (message_id, route.route_id)
    assert (dead.reason, dead.attempts, dead.status) == (f"status_{status}", 1, "FAILED")
    assert str(status) in dead.error_message
    assert dead.original_topic == device.topic()
    assert dead.payload["v"] == 1
    assert dead.destination_config == {"url": receiver.url("/final")}
    assert not await stranger.dead_letters()
    assert not await dead_letters.find(pulse.control.pool, TenantId(""))
    assert not await pulse.control.pool.fetch("SELECT * FROM dead_letter_messages")


async def test_what_a_receiver_says_at_length_is_not_in_the_reason_of_a_dead_letter(
    pulse: Pulse, receiver: Receiver
) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device()
    receiver.behaviour["/chatty"] = lambda _request: Answer(status=404, phrase="canary " * 1000, body=b"canary " * 2000)
    await tenant.webhook(receiver.url("/chatty"))
    await device.accepted({"v": 1})
    [dead] = await eventually(tenant.dead_letters)
    assert (dead.reason, dead.error_message) == ("status_404", "status_404: answered 404")


async def test_refused_destination_ends_in_a_dead_letter_after_max_age(pulse: Pulse, receiver: Receiver) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device()
    await receiver.close()
    route = await tenant.webhook(receiver.url("/refused"), policy={"max_age_s": 1})
    sent = set(await send_over_both(device, 6))

    found = await eventually(tenant.dead_letters, LONG_ENOUGH_S, until=are(6))
    assert {row.message_id for row in found} == sent
    assert {row.route_id for row in found} == {route.route_id}
    assert {row.reason for row in found} == {"max_age"}
    assert all(0 < len(row.error_message) <= 2000 for row in found)
    # A dead letter may be in its table before the message it was made of is acknowledged.
    await eventually(route.waiting, until=partial(eq, 0))


async def test_age_counts_before_the_first_attempt_too_but_not_while_parked(pulse: Pulse, receiver: Receiver) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device()
    patience = {"max_age_s": _OLD_S}
    late = await tenant.webhook(receiver.url("/late"), name="late", policy=patience)
    parked = await tenant.webhook(receiver.url("/parked"), name="parked", policy=patience)
    await parked.set_enabled(enabled=False)
    async with pulse.stack.down("delivery"):
        message_id = await device.accepted({"n": 1})
        sent_at = time.monotonic()
        await eventually(lambda: time.monotonic() - sent_at > _OLD_S + 0.5, what="its growing old")

    [dead] = await eventually(tenant.dead_letters, LONG_ENOUGH_S)
    assert (dead.route_id, dead.reason, dead.attempts) == (late.route_id, "max_age", 0)
    assert not receiver.of("/late")
    await parked.set_enabled(enabled=True)
    await eventually(lambda: [request.message_id for request in receiver.of("/parked")] == [message_id])
    assert len(await tenant.dead_letters()) == 1


async def test_destination_that_comes_back_gets_what_waited(pulse: Pulse, receiver: Receiver) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device()
    await receiver.close()
    route = await tenant.webhook(receiver.url("/back"))
    sent = await send_over_both(device, 10)
    await eventually(route.waiting, until=partial(eq, 10))

    await receiver.open()
    await eventually(lambda: len(receiver.of("/back")) >= 10, LONG_ENOUGH_S)
    assert sorted(request.message_id for request in receiver.of("/back")) == sorted(sent)
    await eventually(route.waiting, until=partial(eq, 0))
    later = await device.accepted({"n": 10})
    await eventually(lambda: receiver.of("/back")[-1].message_id == later)
    assert not await tenant.dead_letters()


async def test_server_error_is_tried_again_until_it_passes(pulse: Pulse, receiver: Receiver) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device()

    def third_time_lucky(_request: Request) -> Answer:
        return Answer(status=204 if len(receiver.tried("/500")) >= 3 else 500)

    receiver.behaviour["/500"] = third_time_lucky
    await tenant.webhook(receiver.url("/500"))
    message_id = await device.accepted({"v": 1})
    await eventually(lambda: receiver.of("/500"), LONG_ENOUGH_S)
    attempts = receiver.tried("/500")
    assert len(attempts) == 3
    assert {request.message_id for request in attempts} == {message_id}
    assert len({request.webhook_id for request in attempts}) == 1


async def test_retry_after_is_honoured(pulse: Pulse, receiver: Receiver) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device()

    def busy_twice(_request: Request) -> Answer:
        busy = len(receiver.tried("/busy")) <= 2
        return Answer(status=429, headers={"retry-after": "2"}) if busy else Answer()

    receiver.behaviour["/busy"] = busy_twice
    await tenant.webhook(receiver.url("/busy"))
    await device.accepted({"v": 1})
    await eventually(lambda: receiver.of("/busy"), LONG_ENOUGH_S)
    first, second, third = (request.at for request in receiver.tried("/busy"))
    assert third - second >= 1.9
    assert second - first >= 1.9


async def test_poison_message_is_dead_lettered_while_its_route_goes_on(pulse: Pulse, receiver: Receiver) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device()
    receiver.behaviour["/poison"] = lambda request: Answer(status=500 if request.json["payload"]["bad"] else 204)
    route = await tenant.webhook(receiver.url("/poison"), policy={"max_attempts": 5})
    poison = await device.accepted({"bad": True})
    good = [await device.accepted({"bad": False}) for _ in range(10)]

    [dead] = await eventually(tenant.dead_letters, LONG_ENOUGH_S)
    assert (dead.message_id, dead.reason, dead.attempts) == (poison, "max_attempts", 5)
    assert len([request for request in receiver.tried("/poison") if request.message_id == poison]) == 5
    await eventually(lambda: len(receiver.of("/poison")) >= len(good), LONG_ENOUGH_S)
    await eventually(route.waiting, until=partial(eq, 0))
    assert sorted(request.message_id for request in receiver.of("/poison")) == sorted(good)


async def test_message_grows_too_old_while_its_route_is_paused(pulse: Pulse, receiver: Receiver) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device()
    receiver.behaviour["/paused"] = always(503, retry_after="3600")
    await tenant.webhook(receiver.url("/paused"), policy={"max_age_s": 3})
    sent = {await device.accepted({"n": n}) for n in range(2)}
    began = asyncio.get_running_loop().time()
    sent.add(await device.accepted({"n": 2}))

    found = await eventually(tenant.dead_letters, LONG_ENOUGH_S, until=are(3))
    assert asyncio.get_running_loop().time() - began >= 2.9
    assert {(row.message_id, row.reason) for row in found} == {(message_id, "max_age") for message_id in sent}
    assert len(receiver.tried("/paused")) <= 3


async def test_only_the_head_is_tried_while_a_destination_cannot_be_reached(pulse: Pulse, receiver: Receiver) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device()
    await receiver.close()
    route = await tenant.webhook(receiver.url("/down"))
    for n in range(10):
        await device.accepted({"n": n})
    await eventually(route.waiting, until=partial(eq, 10))

    def probes() -> list[str]:
        failed = pulse.log("delivery", "route_attempt_failed", route_id=route.route_id)
        return [event["message_id"] for event in failed if event["attempt"] > 1]

    await eventually(lambda: len(probes()) >= 8, LONG_ENOUGH_S)
    assert len(set(probes())) == 1


async def test_disabled_route_waits_and_enabled_delivers(pulse: Pulse, receiver: Receiver) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device()
    route = await tenant.webhook(receiver.url("/parked"))
    await route.set_enabled(enabled=False)
    sent = [await device.accepted({"n": n}) for n in range(4)]
    await eventually(route.waiting, until=partial(eq, 4))
    assert not receiver.tried("/parked")

    await route.set_enabled(enabled=True)
    await eventually(lambda: len(receiver.of("/parked")) >= 4, LONG_ENOUGH_S)
    assert sorted(request.message_id for request in receiver.of("/parked")) == sorted(sent)


async def test_deleting_a_route_makes_dead_letters_of_what_waits(pulse: Pulse, receiver: Receiver) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device()
    await receiver.close()
    route = await tenant.webhook(receiver.url("/gone"))
    sent = {await device.accepted({"n": n}) for n in range(4)}
    await eventually(route.waiting, until=partial(eq, 4))

    await route.delete()
    found = await eventually(tenant.dead_letters, LONG_ENOUGH_S, until=are(4))
    assert {row.message_id for row in found} == sent
    assert {row.reason for row in found} == {"route_deleted"}


async def test_deleting_a_parked_route_makes_dead_letters_of_what_waits(pulse: Pulse, receiver: Receiver) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device()
    route = await tenant.webhook(receiver.url("/parked-gone"))
    await route.set_enabled(enabled=False)
    message_id = await device.accepted({"v": 1})
    await eventually(route.waiting, until=partial(eq, 1))
    await route.delete()
    [dead] = await eventually(tenant.dead_letters, LONG_ENOUGH_S)
    assert (dead.message_id, dead.reason) == (message_id, "route_deleted")
    assert not receiver.tried("/parked-gone")
