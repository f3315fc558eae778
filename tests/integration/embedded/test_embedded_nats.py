import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiomqtt
import bcrypt
import nats
import pytest
from nats.aio.client import Client

from pulse_cli.embedded.errors import ReloadNotConfirmed
from pulse_cli.embedded.nats import PID_FILE, NatsServer, reload, server_pid, write_mqtt_logins
from pulse_cli.embedded.nats_config import MqttLogin, NatsConfig, NatsUser
from pulse_cli.embedded.ports import Ports
from pulse_cli.embedded.probe import http_get
from pulse_cli.embedded.supervisor import Supervisor

FILTER = "tenant/+/device/+/#"
USERS = (
    NatsUser(name="admin", password="a", publish=(">",), subscribe=(">",)),
    NatsUser(name="narrow", password="n", publish=("telemetry.>",), subscribe=("_INBOX.>",)),
    NatsUser(name="ingest", password="i", subscribe=("tenant.>",), connection_types=("MQTT",)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    server: NatsServer
    supervisor: Supervisor

    async def admit(self, *logins: MqttLogin) -> None:
        write_mqtt_logins(self.server.folder, logins)
        await reload(self.supervisor.pid("nats"), self.server.config.monitor)

    async def client(self, user: str, password: str) -> Client:
        return await nats.connect(self.server.config.client.url("nats"), user=user, password=password)  # pyright: ignore[reportUnknownMemberType] - nats-py leaves options untyped

    def mqtt(self, user: str, password: str, *, client_id: str, is_clean: bool = True) -> aiomqtt.Client:
        mqtt = self.server.config.mqtt
        return aiomqtt.Client(
            mqtt.host, mqtt.port, username=user, password=password, identifier=client_id, clean_session=is_clean
        )

    def ingest(self) -> aiomqtt.Client:
        return self.mqtt("ingest", "i", client_id="ingest-session", is_clean=False)


@asynccontextmanager
async def running(folder: Path) -> AsyncGenerator[Running]:
    with Ports() as ports:
        config = NatsConfig(
            server_name="pulse-test",
            client=ports.hold("nats"),
            monitor=ports.hold("monitor"),
            mqtt=ports.hold("mqtt"),
            store=folder / "jetstream",
            pid_file=folder / PID_FILE,
            system_password="s",
        )
        server = NatsServer(folder=folder, log=folder / "nats.log", config=config, users=USERS)
        async with Supervisor() as supervisor:
            await supervisor.start(server.child_spec())
            yield Running(server=server, supervisor=supervisor)


def login(tenant: str, device: str) -> MqttLogin:
    hashed = bcrypt.hashpw(b"token", bcrypt.gensalt(4)).decode()
    prefix = f"tenant.{tenant}.device.{device.replace('.', '//')}.>"
    return MqttLogin(user=f"{tenant}/{device}", bcrypt=hashed, publish=(prefix,))


async def received(client: aiomqtt.Client) -> tuple[str, bytes]:
    async with asyncio.timeout(10):
        message = await anext(aiter(client.messages))
    assert isinstance(message.payload, bytes)
    return message.topic.value, message.payload


async def test_every_commit_is_fsynced(tmp_path: Path) -> None:
    async with running(tmp_path) as here:
        _, body = await http_get(here.server.config.monitor, "/jsz")
    assert json.loads(body)["config"]["sync_always"]


async def test_a_new_device_can_publish_below_its_own_prefix_after_a_reload(tmp_path: Path) -> None:
    async with running(tmp_path) as here, here.ingest() as ingest:
        await ingest.subscribe(FILTER, qos=1)
        await here.admit(login("acme", "d.1"))
        async with here.mqtt("acme/d.1", "token", client_id="d1") as device:
            await device.publish("tenant/acme/device/d.1/temperature", b"21", qos=1)
        assert await received(ingest) == ("tenant/acme/device/d.1/temperature", b"21")


@pytest.mark.parametrize("topic", ["tenant/acme/device/d2/x", "tenant/beta/device/d1/x", "other"])
async def test_what_a_device_publishes_elsewhere_reaches_nobody(tmp_path: Path, topic: str) -> None:
    async with running(tmp_path) as here, here.ingest() as ingest:
        await ingest.subscribe(FILTER, qos=1)
        await here.admit(login("acme", "d1"))
        async with here.mqtt("acme/d1", "token", client_id="d1") as device:
            await device.publish(topic, b"foreign", qos=1)  # acknowledged all the same: 3.1.1 cannot refuse
            await device.publish("tenant/acme/device/d1/x", b"own", qos=1)
        assert await received(ingest) == ("tenant/acme/device/d1/x", b"own")


async def test_a_device_cannot_subscribe(tmp_path: Path) -> None:
    async with running(tmp_path) as here:
        await here.admit(login("acme", "d1"))
        async with here.mqtt("acme/d1", "token", client_id="d1") as device:
            granted = await device.subscribe("tenant/acme/device/d1/#", qos=1)
    assert [getattr(code, "value", code) for code in granted] == [0x80]


async def test_a_wrong_token_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as here:
        await here.admit(login("acme", "d1"))
        with pytest.raises(aiomqtt.MqttError):
            await here.mqtt("acme/d1", "guess", client_id="d1").__aenter__()


async def test_a_reload_disconnects_the_revoked_device_and_nobody_else(tmp_path: Path) -> None:
    async with running(tmp_path) as here, here.ingest() as ingest:
        await ingest.subscribe(FILTER, qos=1)
        admin = await here.client("admin", "a")
        await here.admit(login("acme", "d1"), login("acme", "d2"))
        async with here.mqtt("acme/d2", "token", client_id="d2") as kept:
            revoked = here.mqtt("acme/d1", "token", client_id="d1")
            await revoked.__aenter__()
            await here.admit(login("acme", "d2"))
            with pytest.raises(aiomqtt.MqttError):
                await revoked.publish("tenant/acme/device/d1/x", b"late", qos=1)
            with contextlib.suppress(aiomqtt.MqttError):  # raises or not, depending on who noticed first
                await revoked.__aexit__(None, None, None)
            await kept.publish("tenant/acme/device/d2/x", b"still here", qos=1)
        assert await received(ingest) == ("tenant/acme/device/d2/x", b"still here")
        assert admin.is_connected
        assert admin.stats["reconnects"] == 0
        await admin.close()


async def test_messages_published_while_the_session_is_away_wait_for_it(tmp_path: Path) -> None:
    async with running(tmp_path) as here:
        await here.admit(login("acme", "d1"))
        async with here.ingest() as ingest:
            await ingest.subscribe(FILTER, qos=1)
        async with here.mqtt("acme/d1", "token", client_id="d1") as device:
            await device.publish("tenant/acme/device/d1/x", b"waited", qos=1)
        async with here.ingest() as ingest:
            assert await received(ingest) == ("tenant/acme/device/d1/x", b"waited")


async def test_a_kept_message_survives_a_kill(tmp_path: Path) -> None:
    async with running(tmp_path) as here:
        await here.admit(login("acme", "d1"))
        async with here.ingest() as ingest:
            await ingest.subscribe(FILTER, qos=1)
        async with here.mqtt("acme/d1", "token", client_id="d1") as device:
            await device.publish("tenant/acme/device/d1/x", b"kept", qos=1)
        here.supervisor.kill("nats")
        await here.supervisor.until_ready("nats")
        async with here.ingest() as ingest:
            assert await received(ingest) == ("tenant/acme/device/d1/x", b"kept")


async def test_logins_survive_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as here:
        await here.admit(login("acme", "d1"))
        before = server_pid(tmp_path)
        await here.supervisor.restart("nats")
        assert before != server_pid(tmp_path) == here.supervisor.pid("nats")
        async with here.mqtt("acme/d1", "token", client_id="d1") as device:
            await device.publish("tenant/acme/device/d1/x", b"", qos=1)


async def test_a_reload_without_changes_is_confirmed(tmp_path: Path) -> None:
    async with running(tmp_path) as here:
        await here.admit()
        await here.admit()


async def test_a_reload_of_an_invalid_configuration_is_not_confirmed(tmp_path: Path) -> None:
    async with running(tmp_path) as here:
        (tmp_path / "users.conf").write_text("users: nonsense")
        with pytest.raises(ReloadNotConfirmed):
            await reload(here.supervisor.pid("nats"), here.server.config.monitor, timeout_s=0.5)


async def test_a_service_is_refused_what_it_was_not_allowed(tmp_path: Path) -> None:
    refusals: asyncio.Queue[Exception] = asyncio.Queue()

    async def refuse(error: Exception) -> None:
        refusals.put_nowait(error)

    async with running(tmp_path) as here:
        url = here.server.config.client.url("nats")
        narrow = await nats.connect(url, user="narrow", password="n", error_cb=refuse)  # pyright: ignore[reportUnknownMemberType] - nats-py leaves options untyped
        await narrow.publish("delivery.webhook.acme.r1", b"")
        async with asyncio.timeout(5):
            assert "permissions violation" in str(await refusals.get()).lower()
        await narrow.close()
