"""The compose file: what it says is understood, what it mounts is there, and the services run as it tells them to."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy_compose import COMPOSE, ComposeFile, prepare
from deploy_helm import SETTINGS
from support.dockerfile import images

from pulse_delivery.settings import DeliverySettings
from pulse_runtime.settings import load_settings, variables


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return prepare(tmp_path_factory.mktemp("prepared"))


@pytest.fixture
def file(made: dict[str, str]) -> ComposeFile:
    return ComposeFile(made)


@pytest.mark.parametrize("service", SETTINGS)
def test_every_variable_is_a_setting_of_the_service(file: ComposeFile, service: str) -> None:
    told = file.environment(service)
    assert {name for name in told if not name.startswith("OTEL_")} <= variables(SETTINGS[service])
    # Raises for a value that the service would not start with.
    load_settings(SETTINGS[service], told)


def test_the_slot_budget_is_explained_where_it_is_set() -> None:
    text = (COMPOSE / "compose.yaml").read_text()
    comment = re.search(r"((?: +#.*\n)+) +DELIVERY_WORKER_COUNT: \$\{DELIVERY_WORKER_COUNT:-(\d+)\}", text)
    assert comment
    assert "slot budget" in comment[1]
    assert load_settings(DeliverySettings, _least()).delivery_worker_count == int(comment[2])


def _least() -> dict[str, str]:
    needed = {"NATS_URL": "nats://n", "NATS_USER": "u", "NATS_PASSWORD": "p", "DATABASE_URL": "postgresql://d"}
    return {f"PULSE_{name}": value for name, value in (needed | {"ADMIN_PORT": "1", "SECRET_KEYS": "k:eA=="}).items()}


def test_nothing_secret_is_written_down() -> None:
    raw: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]
    for service, given in raw.items():
        for name, value in given.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|DATABASE_URL", name):
                assert re.search(r"\$\{\w+:\?run prepare.py first\}", str(value)), f"{service}: {name}"


def test_what_is_mounted_is_there(file: ComposeFile, tmp_path: Path) -> None:
    prepare(tmp_path)
    named = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["volumes"]
    for service, given in file.services.items():
        for mount in given.get("volumes", []):
            source = mount.split(":")[0]
            at = tmp_path if source.startswith("./secrets/") else COMPOSE
            assert source in named or (at / source).exists(), f"{service}: {source}"


def test_what_is_waited_for_and_built_exists(file: ComposeFile) -> None:
    for service, given in file.services.items():
        for other, how in given.get("depends_on", {}).items():
            needs = {"service_healthy": "healthcheck", "service_completed_successfully": "command"}
            assert needs[how["condition"]] in file.services[other], f"{service}: {other}"
        if "build" in given:
            assert given["build"]["target"] in images().targets
            assert (COMPOSE / given["build"]["context"] / given["build"]["dockerfile"]).exists()


def test_preparing_again_changes_nothing(tmp_path: Path) -> None:
    first = prepare(tmp_path)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert prepare(tmp_path) == first
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0


def test_everything_listens_on_loopback_only(file: ComposeFile) -> None:
    published = [port for given in file.services.values() for port in given.get("ports", [])]
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []
