"""Servers with the configuration of deploy/nats as it ships; only addresses and paths are a test's own."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from support.certificates import issue_certificate

from pulse_bus.address import BusAddress
from pulse_bus.permissions import SERVICES
from pulse_cli.embedded.nats import nats_server_binary
from pulse_cli.embedded.ports import Endpoint, Ports

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "deploy/nats"
_UP_S = 60


def password(user: str) -> str:
    return f"p-{user}"


def environment(server_name: str = "nats-0") -> dict[str, str]:
    passwords = {f"NATS_PASSWORD_{user.upper()}": password(user) for user in (*SERVICES, "sys")}
    return {"PATH": os.environ["PATH"], "NATS_SERVER_NAME": server_name, **passwords}


def issue(folder: Path) -> None:
    """Make one certificate for all servers; hosts are those of the documents and loopback."""
    issue_certificate(folder, "127.0.0.1", "localhost", "nats", *(f"nats-{number}.nats" for number in range(3)))


def install(folder: Path, certificates: Path) -> None:
    """Copy the shipped files to *folder*, with paths of ours."""
    shutil.copytree(SHIPPED, folder, dirs_exist_ok=True)
    _replace(folder / "cluster.conf", "/etc/nats-certs/", f"{certificates}/")
    _replace(folder / "pulse.conf", '"/data"', f'"{folder}/data"')


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@dataclass(kw_only=True)
class Server:
    """One member of the cluster."""

    name: str
    argv: list[str]
    client: Endpoint
    monitor: Endpoint
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *self.argv, env=environment(self.name), stderr=asyncio.subprocess.DEVNULL
        )

    async def until_healthy(self) -> None:
        """Wait until the server takes part in everything that it holds."""
        async with asyncio.timeout(_UP_S), httpx.AsyncClient() as client:
            while not await self._is_healthy(client):  # noqa: ASYNC110 - another process tells
                await asyncio.sleep(0.05)

    async def _is_healthy(self, client: httpx.AsyncClient) -> bool:
        try:
            return (await client.get(self.monitor.url("http", "/healthz"))).is_success
        except httpx.TransportError:
            return False

    async def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)
            await self.process.wait()


@asynccontextmanager
async def run_single(folder: Path) -> AsyncGenerator[Server]:
    """Run one server from ``single.conf``."""
    with Ports() as ports:
        client, monitor = ports.hold("nats"), ports.hold("monitor")
        install(folder, folder)
        argv = [str(nats_server_binary()), "-c", str(folder / "single.conf"), "--addr", client.host]
        argv += ["--port", str(client.port), "--http_port", str(monitor.port)]
        server = Server(name="nats", argv=argv, client=client, monitor=monitor)
        await server.start()
        try:
            await server.until_healthy()
            yield server
        finally:
            await server.stop()


@dataclass(kw_only=True)
class Cluster:
    """Three servers."""

    servers: list[Server] = field(default_factory=list[Server])

    def address(self, user: str) -> BusAddress:
        url = ",".join(server.client.url("tls") for server in self.servers)
        return BusAddress(url=url, user=user, password=password(user), service=user)

    def named(self, name: str) -> Server:
        return next(server for server in self.servers if server.name == name)


@asynccontextmanager
async def run_cluster(folder: Path) -> AsyncGenerator[Cluster, None]:
    """Run three servers from ``cluster.conf``; flags replace the addresses, on which they could not all listen."""
    issue(folder)
    cluster = Cluster()
    with Ports() as ports:
        names = [f"nats-{number}" for number in range(3)]
        routes = [ports.hold(f"route-{name}") for name in names]
        for name, route in zip(names, routes, strict=True):
            client, monitor = ports.hold(name), ports.hold(f"monitor-{name}")
            install(folder / name, folder)
            argv = [str(nats_server_binary()), "-c", str(folder / name / "cluster.conf"), "--addr", client.host]
            argv += ["--port", str(client.port), "--http_port", str(monitor.port)]
            argv += ["--cluster", route.url("nats"), "--routes", ",".join(other.url("nats") for other in routes)]
            cluster.servers.append(Server(name=name, argv=argv, client=client, monitor=monitor))
        async with AsyncExitStack() as stack:
            for server in cluster.servers:
                stack.push_async_callback(server.stop)
                await server.start()
            for server in cluster.servers:
                await server.until_healthy()
            yield cluster
