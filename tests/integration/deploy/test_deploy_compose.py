"""The compose file: what it says is understood, what it mounts is there, and the services run as it tells them to."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

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


def test_the_collector_listens_where_the_services_send(file: ComposeFile) -> None:
    collector = yaml.safe_load((COMPOSE / "collector.yaml").read_text())
    listens = collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"]
    for service in SETTINGS:
        sends = urlsplit(file.environment(service)["OTEL_EXPORTER_OTLP_ENDPOINT"])
        assert (sends.scheme, sends.hostname) == ("http", "collector")
        assert listens == f"0.0.0.0:{sends.port}"
    for name, pipeline in collector["service"]["pipelines"].items():
        assert name == "traces"
        for part in ("receivers", "processors", "exporters"):
            assert pipeline[part]
            assert set(pipeline[part]) <= collector[part].keys()
    [mount] = [mount for mount in file.services["collector"]["volumes"] if "collector.yaml" in mount]
    assert mount.split(":")[1] == file.services["collector"]["command"][-1]


def test_grafana_finds_prometheus_and_the_dashboard(file: ComposeFile) -> None:
    sources = yaml.safe_load((COMPOSE / "grafana-datasource.yaml").read_text())
    [source] = sources["datasources"]
    asked = urlsplit(str(source["url"]))
    assert (sources["apiVersion"], source["type"], asked.port) == (1, "prometheus", 9090)
    assert asked.hostname in file.services
    scraped = yaml.safe_load((COMPOSE / "prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == scraped["global"]["scrape_interval"]

    board = json.loads((COMPOSE.parent / "grafana/pulse.json").read_text())
    [variable] = board["templating"]["list"]
    # The dashboard takes whichever data source is of this type; each query names the choice.
    assert (variable["type"], variable["query"]) == ("datasource", source["type"])
    used = [target["datasource"] for panel in board["panels"] for target in panel.get("targets", [])]
    assert used == [{"type": source["type"], "uid": f"${{{variable['name']}}}"}] * len(used)

    [provider] = yaml.safe_load((COMPOSE / "grafana-dashboards.yaml").read_text())["providers"]
    mounted = {at.split(":")[1]: at.split(":")[0] for at in file.services["grafana"]["volumes"]}
    folder = provider["options"]["path"]
    assert (COMPOSE / mounted[folder] / "pulse.json").resolve() == (COMPOSE.parent / "grafana/pulse.json").resolve()
    home = file.services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{folder}/pulse.json"
    assert {
        "/etc/grafana/provisioning/datasources/pulse.yaml",
        "/etc/grafana/provisioning/dashboards/pulse.yaml",
    } <= set(mounted)


def test_prometheus_scrapes_every_service_where_it_is(file: ComposeFile) -> None:
    scraped = yaml.safe_load((COMPOSE / "prometheus.yml").read_text())["scrape_configs"]
    jobs = {job["job_name"]: job["static_configs"] for job in scraped}
    assert jobs == {
        service: [{"targets": [f"{service}:{file.environment(service)['PULSE_ADMIN_PORT']}"]}] for service in SETTINGS
    }
