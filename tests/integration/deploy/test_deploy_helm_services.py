"""What the chart tells the services is what they understand; what it gives them is what they need."""

from pathlib import Path

import pytest
from deploy_helm import SETTINGS, VALUES, Rendered, rendered, service_of
from support.chart import HELM, REASON

from pulse_delivery.settings import DeliverySettings
from pulse_ingest.http.listener import DRAIN_S as HTTP_DRAIN_S
from pulse_ingest.settings import IngestSettings
from pulse_runtime.clock import SystemClock
from pulse_runtime.health import Health, _application  # pyright: ignore[reportPrivateUsage] - the paths as they are served
from pulse_runtime.lifecycle import CLOSING_BOUND_S
from pulse_runtime.metrics import new_registry
from pulse_runtime.settings import load_settings, reference_rows

pytestmark = [
    pytest.mark.skipif(HELM is None, reason=REASON),
    pytest.mark.parametrize("values", VALUES, ids=lambda values: values.stem),
]


@pytest.fixture
def chart(values: Path) -> Rendered:
    return rendered(values)


def test_every_setting_is_known_and_right(chart: Rendered) -> None:
    for name, workload in chart.workloads.items():
        container = chart.container(workload)
        # Raises for whatever the service would not start with.
        settings = load_settings(SETTINGS[service_of(name)], container.environment)
        assert settings.nats_user == service_of(name)
        assert settings.admin_port == container.ports["admin"]
        if isinstance(settings, IngestSettings):
            assert settings.http_port == container.ports["http"]


def test_secrets_come_from_the_service_s_own_secret(chart: Rendered) -> None:
    sources: dict[str, str] = {}
    for name, workload in chart.workloads.items():
        container = chart.container(workload)
        secret = {row.variable for row in reference_rows(SETTINGS[service_of(name)]) if "secret" in row.type.lower()}
        # Names a session rather than opening anything: the pod's name.
        secret -= {"PULSE_MQTT_CLIENT_ID"}
        assert secret & container.settings.keys() == set()
        given = {entry["name"] for entry in container.container["env"]}
        assert secret & given == container.from_secrets.keys()
        [source] = {source for source, _ in container.from_secrets.values()}
        assert sources.setdefault(service_of(name), source) == source
        for variable, (_, key) in container.from_secrets.items():
            assert key == variable.removeprefix("PULSE_").lower().replace("_", "-")
    assert len(set(sources.values())) == len(sources), "no service is given another's"


def test_probes_ask_what_the_service_answers(chart: Rendered) -> None:
    admin = _application(Health(service="x", version="0", clock=SystemClock()), new_registry())
    served = {getattr(route, "path", "") for route in admin.routes}
    for workload in chart.workloads.values():
        container = chart.container(workload)
        probes = {kind: container.container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
        assert {probe["port"] for probe in probes.values()} <= container.ports.keys()
        assert {probe["path"] for probe in probes.values()} <= served
        assert probes["liveness"]["path"] != probes["readiness"]["path"] == "/ready"


def test_a_pod_is_given_longer_than_it_takes_to_stop(chart: Rendered) -> None:
    """By the constants of the code; tests/e2e/test_alone.py asks the services themselves."""
    for name, workload in chart.workloads.items():
        container = chart.container(workload)
        before_s = container.container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        match load_settings(SETTINGS[service_of(name)], container.environment):
            case DeliverySettings(drain_s=drain_s):
                work_s = drain_s
            case IngestSettings():
                work_s = HTTP_DRAIN_S
            case _:
                work_s = 0
        assert container.pod["spec"]["terminationGracePeriodSeconds"] > before_s + work_s + CLOSING_BOUND_S, name


def test_the_http_edge_serves_until_nobody_is_sent_to_it(chart: Rendered) -> None:
    assert chart.container(chart.workloads["ingest"]).container["lifecycle"]["preStop"]["sleep"]["seconds"] > 0


def test_delivery_knows_of_the_most_processes_there_can_be(chart: Rendered) -> None:
    delivery = chart.workloads["delivery"]
    scaled = [one for one in chart.of_kind("ScaledObject") if one["metadata"]["name"] == delivery["metadata"]["name"]]
    most = scaled[0]["spec"]["maxReplicaCount"] if scaled else delivery["spec"]["replicas"]
    assert chart.container(delivery).settings["PULSE_DELIVERY_REPLICAS"] == str(most)
    assert delivery["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0


def test_each_replica_at_a_broker_has_a_name_of_its_own(chart: Rendered) -> None:
    for name, workload in chart.workloads.items():
        by_pod = [
            entry["valueFrom"]["fieldRef"]["fieldPath"]
            for entry in chart.container(workload).container["env"]
            if entry["name"] == "PULSE_MQTT_CLIENT_ID"
        ]
        assert by_pod == (["metadata.name"] if name in {"ingest-mqtt", "delivery"} else [])
    # Only a StatefulSet's pods come back under their names, where a session waits for them.
    if session := chart.workloads.get("ingest-mqtt"):
        assert session["kind"] == "StatefulSet"
