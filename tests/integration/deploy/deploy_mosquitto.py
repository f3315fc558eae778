"""The broker of deploy/mqtt: Debian's mosquitto with the files as they ship, on free ports."""

import asyncio
import os
import shutil
import signal
import ssl
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiomqtt
from support.certificates import issue_certificate

from pulse_cli.embedded.ports import Endpoint, Ports

SHIPPED = Path(__file__).parents[3] / "deploy/mqtt"
MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
PASSWD = shutil.which("mosquitto_passwd")
IS_MISSING = MOSQUITTO is None or PASSWD is None
REASON = "mosquitto is not installed (apt-get install mosquitto)"
INGEST, DELIVERY, READER = "pulse.ingest", "pulse.delivery", "acme/reader"
BOILER, PUMP, FOREIGN = "acme/device/boiler-1", "acme/device/pump-1", "globex/device/boiler-1"
_UP_S = 10


def password(user: str) -> str:
    return f"password-of-{user}"


@dataclass(kw_only=True)
class Broker:
    """One mosquitto that can be stopped, killed and started again on the same data."""

    folder: Path
    devices: Endpoint
    services: Endpoint
    trust: ssl.SSLContext
    process: asyncio.subprocess.Process | None = None
    said: list[str] = field(default_factory=list[str])
    _reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        assert MOSQUITTO
        up = asyncio.Event()
        argv = (MOSQUITTO, "-c", str(self.folder / "mosquitto.conf"))
        self.process = await asyncio.create_subprocess_exec(
            *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        self._reading = asyncio.create_task(self._read(self.process, up), name="test.mosquitto")
        async with asyncio.timeout(_UP_S):
            await up.wait()
        assert self.process.returncode is None, "".join(self.said)

    async def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is None or self._reading is None:
            return
        if self.process.returncode is None:
            self.process.send_signal(number)
        await self.process.wait()
        await self._reading
        self.process = None

    def reload(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGHUP)

    def let_in(self, *users: str) -> None:
        for user in users:
            subprocess.run([str(PASSWD), "-b", str(self._passwords), user, password(user)], check=True)

    def shut_out(self, user: str) -> None:
        subprocess.run([str(PASSWD), "-D", str(self._passwords), user], check=True)

    def device(self, user: str, *, client_id: str = "whatever", **more: object) -> aiomqtt.Client:
        """Return a client on the listener of devices, which wants TLS."""
        return self._client(self.devices, user, client_id, tls_context=self.trust, **more)

    def service(self, user: str, *, client_id: str | None = None, **more: object) -> aiomqtt.Client:
        """Return a client on the listener of services."""
        return self._client(self.services, user, client_id or user, **more)

    def _client(self, where: Endpoint, user: str, client_id: str, **more: object) -> aiomqtt.Client:
        given: dict[str, object] = {"password": password(user), "timeout": 5, **more}
        return aiomqtt.Client(where.host, where.port, username=user, identifier=client_id, **given)  # pyright: ignore[reportArgumentType] - handed through

    @property
    def _passwords(self) -> Path:
        return self.folder / "config/passwords"

    async def _read(self, process: asyncio.subprocess.Process, up: asyncio.Event) -> None:
        assert process.stdout
        async for line in process.stdout:
            self.said.append(line.decode())
            if b" running" in line:
                up.set()
        up.set()


@asynccontextmanager
async def run_mosquitto(folder: Path, **values: object) -> AsyncGenerator[Broker, None]:
    """Run the shipped configuration in *folder*; *values* replace those of single settings."""
    for name in ("config", "certs", "data"):
        (folder / name).mkdir()
    trust = issue_certificate(folder / "certs", "127.0.0.1")
    shutil.copy(SHIPPED / "acl", folder / "config/acl")
    with (folder / "config/acl").open("a") as file:
        file.write(f"user {READER}\ntopic read tenant/acme/#\n")
    (folder / "config/passwords").touch(mode=0o600)
    with Ports() as ports:
        devices, services = ports.hold("devices"), ports.hold("services")
        (folder / "mosquitto.conf").write_text(_configuration(folder, devices, services, values))
        broker = Broker(folder=folder, devices=devices, services=services, trust=trust)
        broker.let_in(INGEST, DELIVERY, READER, BOILER, PUMP, FOREIGN)
        try:
            await broker.start()
            yield broker
        finally:
            await broker.stop()


def _configuration(folder: Path, devices: Endpoint, services: Endpoint, values: dict[str, object]) -> str:
    text = (SHIPPED / "mosquitto.conf").read_text()
    replaced = {"listener 8883": f"listener {devices.port} {devices.host}"}
    replaced |= {"listener 1883": f"listener {services.port} {services.host}", "/mosquitto/": f"{folder}/"}
    lines = {line.split(" ")[0]: line for line in text.splitlines() if line and not line.startswith("#")}
    replaced |= {lines[name]: f"{name} {value}" for name, value in values.items()}
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    # Started by root it would give up its rights, and could not read the folder of this test.
    return text + "user root\n"
