"""What mosquitto with deploy/mqtt/mosquitto.conf has acknowledged to a device reaches ingest, also through restarts."""

import asyncio
import re
import signal
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path

import aiomqtt
import pytest
from deploy_fleet import Fleet
from deploy_mosquitto import BOILER, INGEST, IS_MISSING, REASON, Broker, password, run_mosquitto
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from support.pulse import Pulse, running
from support.receiver import open_receiver
from support.replicas import replica
from support.tenant import Tenant
from support.waiting import eventually

from pulse_contracts.ids import DeviceId, supplied_message_id
from pulse_contracts.topics import SUBSCRIPTION

pytestmark = [pytest.mark.skipif(IS_MISSING, reason=REASON), pytest.mark.timeout(180)]
TOPIC = f"tenant/{BOILER}/reading"
MORE_THAN_FITS = 500
ENOUGH = 30


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncGenerator[Broker]:
    """A broker at which the session of ingest exists and is not connected."""
    folder = tmp_path / "mosquitto"
    folder.mkdir()
    async with run_mosquitto(folder) as broker:
        await make_session(broker)
        yield broker


async def make_session(broker: Broker) -> None:
    async with broker.service(INGEST, clean_session=False) as ingest:
        await ingest.subscribe(SUBSCRIPTION, qos=1)


async def publish(broker: Broker, *bodies: str, topic: str = TOPIC) -> None:
    async with broker.device(BOILER) as device:
        for body in bodies:
            await device.publish(topic, body, qos=1)


async def received(broker: Broker, count: int) -> list[str]:
    """Connect as ingest and return the first *count* messages."""
    async with broker.service(INGEST, clean_session=False) as ingest, asyncio.timeout(30):
        return [(await anext(ingest.messages)).payload.decode() for _ in range(count)]


async def test_what_waits_for_ingest_survives_a_restart(broker: Broker) -> None:
    sent = [f"before {number}" for number in range(50)]
    await publish(broker, *sent)
    await broker.stop()
    await broker.start()
    assert await received(broker, 50) == sent


async def test_what_arrives_after_a_restart_waits_for_ingest(broker: Broker) -> None:
    await broker.stop()
    await broker.start()
    await publish(broker, "after")
    assert await received(broker, 1) == ["after"]


async def test_what_waits_is_on_disk_one_turn_of_the_loop_after_its_acknowledgement(broker: Broker) -> None:
    sent = [f"before {number}" for number in range(50)]
    await publish(broker, *sent)
    await publish(broker, "nowhere", topic="tenant/nobody")  # a turn later
    await broker.stop(signal.SIGKILL)
    await broker.start()
    assert await received(broker, 50) == sent


async def test_more_waits_than_the_default_of_a_thousand(broker: Broker) -> None:
    sent = [str(number) for number in range(1500)]
    async with broker.device(BOILER) as device:
        await asyncio.gather(*(device.publish(TOPIC, body, qos=1, timeout=30) for body in sent))
    assert set(await received(broker, 1500)) == set(sent)


async def test_a_packet_that_is_far_too_large_is_not_acknowledged(broker: Broker) -> None:
    with pytest.raises(aiomqtt.MqttError):
        await publish(broker, "x" * 2_000_000)


async def test_a_payload_that_is_too_large_for_ingest_still_reaches_it(broker: Broker) -> None:
    await publish(broker, "x" * 300_000)
    assert [len(body) for body in await received(broker, 1)] == [300_000]


async def test_full_memory_refuses_and_loses_nothing(tmp_path: Path) -> None:
    async with run_mosquitto(tmp_path, memory_limit=6_000_000) as broker:
        await make_session(broker)
        acknowledged = await publish_until_refused(broker)
        await broker.stop()
        raise_memory_limit(broker, "memory_limit 6000000", "memory_limit 60000000")
        await broker.start()
        assert 100 < len(acknowledged) < MORE_THAN_FITS
        assert set(await received(broker, len(acknowledged))) >= acknowledged


async def publish_until_refused(broker: Broker) -> set[str]:
    acknowledged: set[str] = set()
    async with broker.device(BOILER, timeout=5) as device:
        for number in range(MORE_THAN_FITS):
            body = f"{number} {'x' * 20_000}"
            try:
                await device.publish(TOPIC, body, qos=1)
            except aiomqtt.MqttError:
                break
            acknowledged.add(body)
    return acknowledged


def raise_memory_limit(broker: Broker, old: str, new: str) -> None:
    path = broker.folder / "mosquitto.conf"
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_all_that_was_acknowledged_is_stored_through_restarts_of_broker_and_ingest(
    tmp_path: Path, protocol: str
) -> None:
    (tmp_path / "mosquitto").mkdir()
    async with run_mosquitto(tmp_path / "mosquitto") as broker:
        mqtt = {
            "PULSE_MQTT_PORT": str(broker.services.port),
            "PULSE_MQTT_USER": INGEST,
            "PULSE_MQTT_PASSWORD": password(INGEST),
            "PULSE_MQTT_PROTOCOL": protocol,
        }
        async with running(tmp_path / "pulse", only={"ingest": mqtt}) as pulse:
            tenant = await pulse.tenant()
            names = [f"d{number}" for number in range(6)]
            await pulse.devices(tenant, *names)
            broker.let_in(*(f"{tenant.tenant_id}/device/{name}" for name in names))
            broker.reload()
            fleet = Fleet(broker, tenant, *names[:3])
            async with fleet.sending():
                await fleet.until_more_are_acknowledged()
                await broker.stop()
                await broker.start()
                await fleet.until_more_are_acknowledged()
                pulse.stack.kill("ingest")
                await fleet.until_more_are_acknowledged()
                await broker.stop()
                await broker.start()
                await fleet.until_more_are_acknowledged()
            await fleet.until_all_are_stored()
            if protocol == "5":
                await expect_user_properties_to_count(broker, tenant)
                mqtt |= {"PULSE_MQTT_SHARE_GROUP": "pulse", "PULSE_MQTT_CLIENT_ID": "ingest-1"}
                await pulse.stack.restart("ingest")
                await expect_two_to_share(pulse, mqtt, Fleet(broker, tenant, *names[3:]))


async def expect_two_to_share(pulse: Pulse, mqtt: dict[str, str], fleet: Fleet) -> None:
    """One of a group is killed, then the other stopped; each comes back under its name, to what the broker has for it.

    Through restarts of the broker this does not hold at Mosquitto (docs/operating/broker.md).
    """
    async with replica(pulse, "ingest-2", **mqtt) as second:

        async def taken() -> list[Counter[str]]:
            admins = (pulse.stack.addresses.admin["ingest"], second.admin)
            return [results((await pulse.http.get(admin.url("http", "/metrics"))).text) for admin in admins]

        def is_shared(each: list[Counter[str]]) -> bool:
            return min(taken["accepted"] for taken in each) >= ENOUGH

        async with fleet.sending():
            shares = await eventually(taken, 30, until=is_shared, what="a share of each")
            # Without a group each would get all; a device sends a few again whose acknowledgement was late.
            assert shares[0]["duplicate"] + shares[1]["duplicate"] < ENOUGH
            await second.kill()
            await fleet.until_more_are_acknowledged()
            await pulse.stack.restart("ingest")
            await fleet.until_more_are_acknowledged()
    async with replica(pulse, "ingest-2", **mqtt):
        await fleet.until_all_are_stored()


def results(metrics: str) -> Counter[str]:
    """Count the messages over MQTT by what became of them."""
    found = re.findall(r'pulse_ingest_messages_total\{protocol="mqtt",result="(\w+)"\} (\S+)', metrics)
    return Counter({result: int(float(count)) for result, count in found})


async def expect_user_properties_to_count(broker: Broker, tenant: Tenant) -> None:
    """MQTT 5 brings a message's id and its trace beside the payload."""
    properties = Properties(PacketTypes.PUBLISH)
    properties.UserProperty = [("message-id", "m-1"), ("traceparent", f"00-{'a' * 32}-{'b' * 16}-00")]
    async with (
        open_receiver() as receiver,
        broker.device(f"{tenant.tenant_id}/device/d1", protocol=aiomqtt.ProtocolVersion.V5) as device,
    ):
        await tenant.webhook(receiver.url("/hook"))
        for _ in range(2):
            await device.publish(f"tenant/{tenant.tenant_id}/device/d1/reading", "{}", qos=1, properties=properties)
        [request] = await eventually(lambda: receiver.of("/hook"), 20, what="the webhook")
    assert request.message_id == supplied_message_id(tenant.tenant_id, DeviceId("d1"), "m-1")
    assert request.headers["traceparent"].split("-")[1] == "a" * 32
