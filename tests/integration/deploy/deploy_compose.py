"""deploy/compose without a container engine: its servers from our wheels and packages, its services as processes.

What is told to each service is what the file says; only names of hosts and ports become loopback addresses.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml
from deploy_mosquitto import MOSQUITTO, PASSWD
from deploy_nats import ROOT, install
from support.waiting import eventually

from pulse_cli.embedded.database import SUPERUSER
from pulse_cli.embedded.nats import nats_server_binary
from pulse_cli.embedded.ports import Endpoint, Ports
from pulse_cli.embedded.postgres import PostgresServer, _binaries  # pyright: ignore[reportPrivateUsage] - psql is beside the server
from pulse_cli.embedded.supervisor import Supervisor

COMPOSE = ROOT / "deploy/compose"
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
_UP_S = 60


def prepare(folder: Path) -> dict[str, str]:
    """Run ``prepare.py`` for *folder* and return the variables that it made."""
    subprocess.run([sys.executable, str(COMPOSE / "prepare.py"), str(folder)], check=True)
    return dict(line.split("=", 1) for line in (folder / ".env").read_text().splitlines())


class ComposeFile:
    """The file with its variables replaced."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self.services: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]

    def environment(self, service: str) -> dict[str, str]:
        """Return what a service is told; fails where a variable has neither value nor default."""
        given: dict[str, Any] = self.services[service].get("environment", {})
        return {name: _VARIABLE.sub(self._value, str(value)) for name, value in given.items()}

    def _value(self, match: re.Match[str]) -> str:
        name, operator, default = match.groups()
        if operator == "-":
            return self._variables.get(name, default)
        return self._variables[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where things are on loopback."""

    file: ComposeFile
    ports: Ports
    folder: Path
    collector: str

    def at(self, host: str, port: int) -> Endpoint:
        """Return where *port* of a service of the file is here."""
        return self.ports.hold(f"{host}:{port}")

    def environment(self, service: str) -> dict[str, str]:
        """Return what the file tells a service, with our addresses."""
        told = self.file.environment(service)
        for name, port in (("PULSE_ADMIN_PORT", 9000), ("PULSE_HTTP_PORT", 8080)):
            if name in told:
                assert told[name] == str(port)
                told[name] = str(self.at(service, port).port)
        if "PULSE_MQTT_HOST" in told:
            broker = self.at(told["PULSE_MQTT_HOST"], int(told["PULSE_MQTT_PORT"]))
            told |= {"PULSE_MQTT_HOST": broker.host, "PULSE_MQTT_PORT": str(broker.port)}
        return {name: self._addresses(value) for name, value in told.items()}

    def _addresses(self, value: str) -> str:
        value = value.replace("http://collector:4318", self.collector).replace("0.0.0.0", "127.0.0.1")
        return re.sub(r"(nats|postgres):(\d+)", lambda found: self._here(found[1], int(found[2])), value)

    def _here(self, host: str, port: int) -> str:
        here = self.at(host, port)
        return f"{here.host}:{here.port}"


@asynccontextmanager
async def run_compose(
    folder: Path, collector: str, *, logins: Mapping[str, str], **variables: str
) -> AsyncGenerator[Machine]:
    """Run servers and services, with *logins* of devices at the broker; every process has ended afterwards."""
    made = {**prepare(folder), **variables}
    for user, password in logins.items():
        subprocess.run([str(PASSWD), "-b", str(folder / "secrets/passwords"), user, password], check=True)
    with Ports() as ports:
        machine = Machine(file=ComposeFile(made), ports=ports, folder=folder, collector=collector)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(_nats(machine))
            await stack.enter_async_context(_postgres(machine, made))
            await stack.enter_async_context(_mosquitto(machine))
            for step in ("migrate", "provision"):
                await _to_its_end(machine, step)
            for service in ("ingest", "router", "delivery"):
                command = [sys.executable, "-m", f"pulse_{service}"]
                await stack.enter_async_context(_process(machine, service, command, machine.environment(service)))
            async with httpx.AsyncClient() as http:
                for service in ("ingest", "router", "delivery"):
                    url = machine.at(service, 9000).url("http", "/ready")
                    await eventually(lambda url=url: answers(http, url), _UP_S, what=service)
            yield machine


async def answers(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(url)).is_success
    except httpx.TransportError:
        return False


@asynccontextmanager
async def _nats(machine: Machine) -> AsyncGenerator[None]:
    install(machine.folder / "nats", machine.folder)
    client, monitor = machine.at("nats", 4222), machine.at("nats", 8222)
    command = [str(nats_server_binary()), *machine.file.services["nats"]["command"]]
    command = [part.replace("/etc/nats/", f"{machine.folder}/nats/") for part in command]
    command += ["--addr", client.host, "--port", str(client.port), "--http_port", str(monitor.port)]
    async with _process(machine, "nats", command, machine.file.environment("nats")), httpx.AsyncClient() as http:
        await eventually(lambda: answers(http, monitor.url("http", "/healthz")), _UP_S, what="nats-server")
        yield


@asynccontextmanager
async def _postgres(machine: Machine, made: Mapping[str, str]) -> AsyncGenerator[None]:
    endpoint = machine.at("postgres", 5432)
    data = machine.folder / "postgres"
    data.mkdir()
    server = PostgresServer(
        folder=data,
        log=data / "postgres.log",
        endpoint=endpoint,
        superuser_password=made["POSTGRES_PASSWORD"],
        durable=False,
    )
    async with Supervisor() as supervisor:
        await supervisor.start(server.child_spec())
        # As the image does it: the database, then the file in it.
        environment = machine.file.environment("postgres") | {"PGPASSWORD": made["POSTGRES_PASSWORD"]}
        psql = [str(_binaries() / "psql"), "--host", endpoint.host, "--port", str(endpoint.port), "--no-psqlrc"]
        psql += ["--username", SUPERUSER, "--set", "ON_ERROR_STOP=1", "--quiet"]
        subprocess.run([*psql, "-c", "CREATE DATABASE pulse"], check=True, env=environment)
        roles = ROOT / "deploy/postgresql/roles.sql"
        subprocess.run([*psql, "--dbname", "pulse", "--file", str(roles)], check=True, env=environment)
        yield


@asynccontextmanager
async def _mosquitto(machine: Machine) -> AsyncGenerator[None]:
    assert MOSQUITTO
    text = (ROOT / "deploy/mqtt/mosquitto.conf").read_text()
    (machine.folder / "mosquitto").mkdir()
    devices, services = machine.at("mosquitto", 8883), machine.at("mosquitto", 1883)
    replaced = {
        "listener 8883": f"listener {devices.port} {devices.host}",
        "listener 1883": f"listener {services.port} {services.host}",
        "/mosquitto/config/acl": str(ROOT / "deploy/mqtt/acl"),
        "/mosquitto/config/passwords": str(machine.folder / "secrets/passwords"),
        "/mosquitto/certs": str(machine.folder / "secrets"),
        "/mosquitto/data": str(machine.folder / "mosquitto"),
    }
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    (machine.folder / "mosquitto.conf").write_text(text + "user root\n")
    async with _process(machine, "mosquitto", [MOSQUITTO, "-c", str(machine.folder / "mosquitto.conf")], {}):
        yield


async def _to_its_end(machine: Machine, service: str) -> None:
    pulse = str(Path(sys.executable).with_name("pulse"))
    command = [pulse, *machine.file.services[service]["command"]]
    async with _process(machine, service, command, machine.environment(service)) as process:
        assert await asyncio.wait_for(process.wait(), _UP_S) == 0, (machine.folder / f"{service}.log").read_text()


async def pulse(machine: Machine, *arguments: str) -> Any:
    """Run the operator's command as `docker compose run pulse …` would; returns the JSON that it printed."""
    program = str(Path(sys.executable).with_name("pulse"))
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        "--json",
        env={"PATH": os.environ["PATH"], **machine.environment("pulse")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return json.loads(out)


@asynccontextmanager
async def _process(
    machine: Machine, name: str, command: list[str], environment: Mapping[str, str]
) -> AsyncGenerator[asyncio.subprocess.Process]:
    with (machine.folder / f"{name}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, env={"PATH": os.environ["PATH"], **environment}, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
