"""Each service stands on its own: its environment is built alone, starts, joins the others, and stays small."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from pulse_cli.embedded.folder import DataFolder
from pulse_cli.embedded.plan import embedded_stack, services
from pulse_cli.embedded.stack import EmbeddedStack

ROOT = Path(__file__).parents[2]
UV = os.environ.get("UV") or shutil.which("uv")
MAX_RESIDENT_MIB = 150

pytestmark = pytest.mark.timeout(180)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[EmbeddedStack, None]:
    async with DataFolder(tmp_path_factory.mktemp("alone")) as folder, embedded_stack(folder) as stack:
        yield stack


def build_alone(service: str, where: Path) -> Path:
    """Build the environment of one member, without the development group, and return its interpreter."""
    assert UV
    environment = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(where)}
    environment.pop("VIRTUAL_ENV", None)
    command = [UV, "sync", "--quiet", "--frozen", "--no-dev", "--package", f"pulse-{service}"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    return where / "bin" / "python"


def settings_of(service: str, stack: EmbeddedStack) -> dict[str, str]:
    spec = next(spec for spec in services({}) if spec.name == service)
    ours = dict(spec.environment(stack.addresses, stack.secrets))
    ours |= {"PULSE_ADMIN_PORT": "0", "PULSE_LOG_FORMAT": "json"}
    if service == "ingest":
        ours |= {"PULSE_HTTP_PORT": "0", "PULSE_MQTT_CLIENT_ID": "second-ingest"}
    if service == "delivery":
        ours |= {"PULSE_MQTT_CLIENT_ID": "second-delivery"}
    return ours


@pytest.mark.skipif(UV is None, reason="uv is not on the path")
@pytest.mark.parametrize(("service", "foreign"), [("ingest", "aiohttp"), ("router", "aiomqtt"), ("delivery", "typer")])
async def test_a_service_built_alone_starts_and_stops(
    stack: EmbeddedStack, tmp_path: Path, service: str, foreign: str
) -> None:
    python = build_alone(service, tmp_path / "environment")
    imported = subprocess.run([python, "-c", f"import {foreign}"], capture_output=True, check=False)
    assert imported.returncode != 0, f"{foreign} does not belong into the environment of {service}"
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            str(python), "-m", f"pulse_{service}", env=settings_of(service, stack), stdout=file, stderr=file
        )
    try:
        async with asyncio.timeout(30):
            while "service_started" not in log.read_text():
                assert process.returncode is None, log.read_text()
                await asyncio.sleep(0.05)
    finally:
        process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(process.wait(), 20)
    assert code == 0, log.read_text()
    started = next(json.loads(line) for line in log.read_text().splitlines() if "service_started" in line)
    assert started["settings"]["database_url"] == "***"


@pytest.mark.parametrize("service", ["ingest", "router", "delivery"])
async def test_a_service_stays_under_150_mib_resident(stack: EmbeddedStack, service: str) -> None:
    status = Path(f"/proc/{stack.pid(service)}/status").read_text()
    resident = int(status.partition("VmRSS:")[2].split()[0]) // 1024
    print(f"{service}: {resident} MiB resident")
    assert resident < MAX_RESIDENT_MIB


@pytest.mark.parametrize("service", ["ingest", "router", "delivery"])
async def test_a_wrong_setting_stops_a_service_with_its_variable_named(tmp_path: Path, service: str) -> None:
    environment = {"PULSE_ADMIN_PORT": "many", "PULSE_NATS_URLL": "x", "PATH": os.environ["PATH"]}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"pulse_{service}", env=environment, stderr=asyncio.subprocess.PIPE
    )
    _, err = await process.communicate()
    assert process.returncode == 2
    for variable in ("PULSE_ADMIN_PORT", "PULSE_NATS_URLL", "PULSE_DATABASE_URL", "PULSE_NATS_PASSWORD"):
        assert variable in err.decode()


async def test_every_service_says_that_it_is_alive_and_ready(stack: EmbeddedStack) -> None:
    async with httpx.AsyncClient() as client:
        for service in ("ingest", "router", "delivery"):
            base = stack.addresses.admin[service].url("http")
            for path in ("/health", "/ready", "/metrics"):
                assert (await client.get(base + path)).status_code == 200
