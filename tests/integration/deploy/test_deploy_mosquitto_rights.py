"""The rights of deploy/mqtt/acl, both ways, at a real mosquitto."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import pytest
import pytest_asyncio
from deploy_mosquitto import (
    BOILER,
    DELIVERY,
    FOREIGN,
    INGEST,
    IS_MISSING,
    PUMP,
    READER,
    REASON,
    Broker,
    run_mosquitto,
)

from pulse_contracts.topics import SUBSCRIPTION

pytestmark = pytest.mark.skipif(IS_MISSING, reason=REASON)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Broker]:
    async with run_mosquitto(tmp_path_factory.mktemp("mosquitto")) as broker:
        yield broker


@asynccontextmanager
async def listening(client: aiomqtt.Client, topic_filter: str) -> AsyncGenerator[asyncio.Queue[str]]:
    """Yield the topics that arrive. After a `probe` on the same connection, all that was to come before it has come."""
    topics: asyncio.Queue[str] = asyncio.Queue()

    async def collect() -> None:
        async for message in client.messages:
            topics.put_nowait(str(message.topic))

    async with client:
        await client.subscribe(topic_filter, qos=1)
        task = asyncio.create_task(collect(), name="test.collect")
        try:
            yield topics
        finally:
            task.cancel()
            await asyncio.wait({task})


async def next_topic(topics: asyncio.Queue[str]) -> str:
    async with asyncio.timeout(5):
        return await topics.get()


async def publish(client: aiomqtt.Client, *topics: str) -> None:
    """Publish in this order; mosquitto handles what one connection sends in turn."""
    async with client:
        for topic in topics:
            await client.publish(topic, b"{}", qos=1)


@pytest.mark.parametrize(
    "forbidden",
    [
        "tenant/acme/device/pump-1/reading",
        "tenant/globex/device/boiler-1/reading",
        "tenant/acme/device/boiler-10/reading",
        "tenant/acme/alarms",
        "tenant/acme/device",
        "anything",
    ],
)
async def test_a_device_publishes_below_its_own_prefix_only(broker: Broker, forbidden: str) -> None:
    allowed = f"tenant/{BOILER}/reading"
    async with listening(broker.service(INGEST), SUBSCRIPTION) as topics:
        await publish(broker.device(BOILER), forbidden, allowed)

        assert await next_topic(topics) == allowed
        assert topics.empty()


@pytest.mark.parametrize("user", [BOILER, DELIVERY])
async def test_who_may_not_read_gets_nothing(broker: Broker, user: str) -> None:
    client = broker.device(user) if user == BOILER else broker.service(user)
    async with listening(client, "#") as spied, listening(broker.service(INGEST), SUBSCRIPTION) as topics:
        await publish(broker.device(PUMP), f"tenant/{PUMP}/reading")
        await publish(broker.service(DELIVERY, client_id="another"), f"tenant/{BOILER}/back")
        await next_topic(topics)
        await next_topic(topics)
        await client.unsubscribe("#")  # answered after whatever was sent to this client before

        assert spied.empty()


async def test_ingest_may_not_publish(broker: Broker) -> None:
    async with listening(broker.service(READER), "tenant/acme/#") as topics:
        await publish(broker.service(INGEST), f"tenant/{BOILER}/reading")
        await publish(broker.service(DELIVERY), "tenant/acme/after")

        assert await next_topic(topics) == "tenant/acme/after"


async def test_a_reader_reads_its_own_tenant_only(broker: Broker) -> None:
    async with listening(broker.service(READER), "tenant/#") as topics:
        await publish(broker.service(DELIVERY), "tenant/globex/alarms", "tenant/acme/alarms")

        assert await next_topic(topics) == "tenant/acme/alarms"
        assert topics.empty()


async def test_a_reader_cannot_speak_for_a_device(broker: Broker) -> None:
    async with listening(broker.service(INGEST), SUBSCRIPTION) as topics:
        await publish(broker.service(READER), f"tenant/{BOILER}/reading")
        await publish(broker.device(PUMP), f"tenant/{PUMP}/reading")

        assert await next_topic(topics) == f"tenant/{PUMP}/reading"


@pytest.mark.parametrize(
    ("user", "secret"), [(BOILER, "wrong"), ("acme/device/unknown", "x"), (INGEST, "wrong"), (None, None)]
)
@pytest.mark.parametrize("listener", ["devices", "services"])
async def test_nobody_comes_in_without_the_right_password(
    broker: Broker, listener: str, user: str | None, secret: str | None
) -> None:
    where = broker.devices if listener == "devices" else broker.services
    trust = broker.trust if listener == "devices" else None
    client = aiomqtt.Client(where.host, where.port, username=user, password=secret, tls_context=trust, identifier="x")
    with pytest.raises(aiomqtt.MqttError, match=r"[Nn]ot authori"):
        await client.__aenter__()


async def test_a_device_cannot_take_over_the_session_of_ingest(broker: Broker) -> None:
    async with listening(broker.service(INGEST, clean_session=False), SUBSCRIPTION):
        pass
    async with broker.device(FOREIGN, client_id=INGEST, clean_session=True):
        pass
    await publish(broker.device(BOILER), f"tenant/{BOILER}/reading")

    async with broker.service(INGEST, clean_session=False) as ingest:
        message = await next_message(ingest)
    assert str(message.topic) == f"tenant/{BOILER}/reading"


async def test_a_device_that_is_shut_out_is_disconnected(tmp_path: Path) -> None:
    async with run_mosquitto(tmp_path) as broker:
        device = await broker.device(BOILER).__aenter__()
        broker.shut_out(BOILER)
        broker.reload()
        with pytest.raises(aiomqtt.MqttError, match="isconnect"):
            await next_message(device)
        with pytest.raises(aiomqtt.MqttError, match=r"[Nn]ot authori"):
            await broker.device(BOILER).__aenter__()


async def next_message(client: aiomqtt.Client) -> aiomqtt.Message:
    async with asyncio.timeout(10):
        return await anext(client.messages)
