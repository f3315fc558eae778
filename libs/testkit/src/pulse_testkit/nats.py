"""One real nats-server a test session, and a bus of its own for each test."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pulse_bus.address import BusAddress
from pulse_bus.api import api_request
from pulse_bus.connection import Connection, connect
from pulse_bus.permissions import MQTT_CLIENT, SERVICES, Permissions
from pulse_bus.provision import provision
from pulse_cli.embedded.nats import PID_FILE, NatsServer
from pulse_cli.embedded.nats_config import NatsConfig, NatsUser
from pulse_cli.embedded.ports import Ports
from pulse_cli.embedded.supervisor import Supervisor
from pulse_contracts.kinds import installed_kinds

TESTER: Final = "tester"
"""A user that may do everything: the hand of a test on the wire."""
_READY_S: Final = 30.0
_CHILD: Final = "nats"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveNats:
    """A running nats-server with the users and permissions of production, fsync included."""

    server: NatsServer
    supervisor: Supervisor

    @property
    def url(self) -> str:
        return self.server.config.client.url("nats")

    @property
    def port(self) -> int:
        return self.server.config.client.port

    @property
    def mqtt_port(self) -> int:
        return self.server.config.mqtt.port

    @property
    def monitor_url(self) -> str:
        return self.server.config.monitor.url("http")

    def password(self, user: str) -> str:
        return _password(user)

    def address(self, user: str, *, port: int | None = None) -> BusAddress:
        """Return how *user* logs in, over a proxy on *port* if given."""
        url = self.url if port is None else f"nats://127.0.0.1:{port}"
        return BusAddress(url=url, user=user, password=_password(user), service=user)

    def kill(self) -> None:
        """Kill the server as a crash would; it comes back on the same ports with the same data."""
        self.supervisor.kill(_CHILD)

    async def until_ready(self) -> None:
        """Wait until the server is up, again if it was killed; raises `TimeoutError`."""
        async with asyncio.timeout(_READY_S):
            await self.supervisor.until_ready(_CHILD)


class Bus:
    """Provisioned, empty streams for one test, and connections as any user. Made by `open_bus`."""

    def __init__(self, nats: LiveNats, control: Connection, stack: AsyncExitStack) -> None:
        self.nats = nats
        self.control = control
        """The operator's connection."""
        self._stack = stack

    async def connect(self, user: str, *, port: int | None = None) -> Connection:
        """Connect as a service, with what that service may do, or as `TESTER`; closed at the end of the test."""
        return await self._stack.enter_async_context(connect(self.nats.address(user, port=port)))


@asynccontextmanager
async def run_nats(folder: Path) -> AsyncGenerator[LiveNats]:
    """Run a server with its data in *folder*, which exists; its end is the end of the block, however that comes."""
    with Ports() as ports:
        config = NatsConfig(
            server_name="pulse-test",
            client=ports.hold("nats"),
            monitor=ports.hold("monitor"),
            mqtt=ports.hold("mqtt"),
            store=folder / "jetstream",
            pid_file=folder / PID_FILE,
            system_password=_password("sys"),
        )
        server = NatsServer(folder=folder, log=folder / "nats.log", config=config, users=_users())
        async with Supervisor() as supervisor:
            await supervisor.start(server.child_spec())
            yield LiveNats(server=server, supervisor=supervisor)


@asynccontextmanager
async def open_bus(nats: LiveNats) -> AsyncGenerator[Bus]:
    """Make the streams anew and yield them with a control connection.

    Deleting and provisioning costs some 60 ms; an account a test would cost a reload of the server and would leave
    its MQTT sessions behind.
    """
    await nats.until_ready()
    async with AsyncExitStack() as stack:
        control = await stack.enter_async_context(connect(nats.address("control")))
        await _delete_streams(control)
        await provision(control, [kind.name for kind in installed_kinds().values() if kind.emits])
        yield Bus(nats, control, stack)


async def _delete_streams(control: Connection) -> None:
    answer = await api_request(control, "STREAM.NAMES", {})
    names: list[str] = answer.get("streams") or []
    for name in names:
        if not name.startswith("$MQTT"):
            await api_request(control, f"STREAM.DELETE.{name}")


def _users() -> list[NatsUser]:
    everything = Permissions(publish=(">",), subscribe=(">",))
    return [
        *(_user(name, allowed, "STANDARD") for name, allowed in {**SERVICES, TESTER: everything}.items()),
        *(_user(name, allowed, "MQTT") for name, allowed in MQTT_CLIENT.items()),
    ]


def _user(name: str, allowed: Permissions, connection_type: str) -> NatsUser:
    return NatsUser(
        name=name,
        password=_password(name),
        publish=allowed.publish,
        subscribe=allowed.subscribe,
        connection_types=(connection_type,),
    )


def _password(user: str) -> str:
    return f"password-of-{user}"
