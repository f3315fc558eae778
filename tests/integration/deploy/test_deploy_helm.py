"""The chart over a matrix of values: valid Kubernetes, and consistent in itself and with the services it runs."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from deploy_custom_resources import SCHEMAS
from deploy_helm import NAMESPACE, VALUES, Rendered, component, names, rendered, selects
from support.chart import CHART, HELM, REASON, helm

from pulse_cli.lazy import load
from pulse_runtime.metrics import reference_rows

OLDEST = "1.30"
NEWEST = ".".join(kubernetes_validate.latest_version().split(".")[:2])

pytestmark = [
    pytest.mark.skipif(HELM is None, reason=REASON),
    pytest.mark.parametrize("values", VALUES, ids=lambda values: values.stem),
]


@pytest.fixture
def chart(values: Path) -> Rendered:
    return rendered(values)


def test_helm_finds_nothing_to_say(values: Path) -> None:
    said = helm("lint", "--strict", "--quiet", str(CHART), "--values", str(values))
    assert (said.returncode, said.stderr) == (0, "")


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_knows_every_field(chart: Rendered, version: str) -> None:
    for made in chart.manifests:
        if made["kind"] in SCHEMAS:
            jsonschema.validate(made, SCHEMAS[made["kind"]])
        else:
            assert kubernetes_validate.validate(dict(made), version, strict=True) == version


def test_no_two_manifests_have_one_name(chart: Rendered) -> None:
    found = [(made["kind"], made["metadata"]["name"]) for made in chart.manifests]
    assert len(set(found)) == len(found)


def test_each_workload_selects_its_own_pods_and_nobody_else_s(chart: Rendered) -> None:
    for name, workload in chart.workloads.items():
        selector = workload["spec"]["selector"]["matchLabels"]
        chosen = [pod for pod in chart.pods if selects(selector, pod["metadata"]["labels"])]
        assert chosen == [workload["spec"]["template"]], name


def test_whatever_belongs_to_a_component_selects_its_pods(chart: Rendered) -> None:
    for made in chart.of_kind("Service", "PodDisruptionBudget", "NetworkPolicy"):
        spec = made["spec"]
        selector = spec["podSelector"] if made["kind"] == "NetworkPolicy" else spec["selector"]
        chosen = {
            name
            for name, workload in chart.workloads.items()
            if selects(selector.get("matchLabels", selector), workload["spec"]["template"]["metadata"]["labels"])
        }
        # Metrics are everybody's.
        assert chosen == ({component(made)} if component(made) != "admin" else set(chart.workloads)), made["metadata"]


def test_ports_that_are_named_exist(chart: Rendered) -> None:
    for service in chart.of_kind("Service"):
        for workload in chart.workloads.values():
            if selects(service["spec"]["selector"], workload["spec"]["template"]["metadata"]["labels"]):
                ports = chart.container(workload).ports
                assert all(port["targetPort"] in ports for port in service["spec"]["ports"])
    monitored = [made for made in chart.of_kind("Service") if component(made) == "admin"]
    for monitor in chart.of_kind("ServiceMonitor"):
        [service] = monitored
        assert selects(monitor["spec"]["selector"]["matchLabels"], service["metadata"]["labels"])
        assert [endpoint["port"] for endpoint in monitor["spec"]["endpoints"]] == ["admin"]


def test_no_pod_may_do_more_than_it_must(chart: Rendered) -> None:
    assert chart.of_kind("Secret") == []
    for pod in chart.pods:
        spec = pod["spec"]
        [container] = spec["containers"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]


def test_only_delivery_reaches_the_internet_and_nobody_is_reached_but_as_asked_for(chart: Rendered) -> None:
    for policy in chart.of_kind("NetworkPolicy"):
        rules = policy["spec"]
        assert rules["policyTypes"] == ["Ingress", "Egress"]
        blocks = [peer["ipBlock"] for rule in rules["egress"] for peer in rule.get("to", [])]
        assert bool(blocks) == (component(policy) == "delivery")
        assert all("169.254.0.0/16" in block["except"] for block in blocks)
        opened: list[dict[str, Any]] = rules["ingress"] or []
        for rule in opened:
            # An empty list of peers would let in everybody; only HTTP may be open.
            assert [port["port"] for port in rule["ports"]] == ["http"] or rule["from"]


def test_each_workload_has_a_disruption_budget_unless_nobody_wants_one(values: Path, chart: Rendered) -> None:
    budgets = {component(made): made["spec"]["maxUnavailable"] for made in chart.of_kind("PodDisruptionBudget")}
    wanted = yaml.safe_load(values.read_text()).get("podDisruptionBudget", {}).get("enabled", True)
    assert budgets == (dict.fromkeys(chart.workloads, 1) if wanted else {})


def test_http_is_scaled_on_its_cpu_and_the_others_on_their_own_backlog(chart: Rendered) -> None:
    for made in chart.of_kind("HorizontalPodAutoscaler"):
        [metric] = made["spec"]["metrics"]
        assert (component(made), metric["type"], metric["resource"]["name"]) == ("ingest", "Resource", "cpu")
        assert metric["resource"]["target"]["averageUtilization"] == 60
    signals = {
        component(made): made["spec"]["triggers"][0]["metadata"]["query"] for made in chart.of_kind("ScaledObject")
    }
    for name, signal in signals.items():
        assert {"router": "unrouted", "delivery": "ready"}[name] in signal


def test_an_autoscaler_has_its_workload_for_itself(chart: Rendered) -> None:
    scaled = set[str]()
    for made in chart.of_kind("HorizontalPodAutoscaler", "ScaledObject"):
        [workload] = [one for one in chart.workloads.values() if made["spec"]["scaleTargetRef"]["name"] in names([one])]
        assert workload["kind"] == "Deployment"
        scaled.add(component(workload))
    for name, workload in chart.workloads.items():
        assert ("replicas" in workload["spec"]) == (name not in scaled), name


def test_autoscalers_ask_for_metrics_that_exist_where_pulse_runs(chart: Rendered) -> None:
    known = {row.name for row in reference_rows()}
    for made in chart.of_kind("ScaledObject"):
        for trigger in made["spec"]["triggers"]:
            query = trigger["metadata"]["query"]
            [(metric, matchers)] = re.findall(r"(pulse_\w+)\{(.*)\}", query)
            assert metric in known
            [service] = [one for one in names(chart.of_kind("Service")) if one.endswith("-admin")]
            # As the Prometheus Operator labels what it scrapes: another release's figures have another service.
            assert dict(re.findall(r'(\w+)="([^"]*)"', matchers)) == {"namespace": NAMESPACE, "service": service}


def test_the_hooks_migrate_then_provision_and_need_nothing_of_the_release(chart: Rendered) -> None:
    jobs = sorted(chart.of_kind("Job"), key=lambda job: int(job["metadata"]["annotations"]["helm.sh/hook-weight"]))
    for job in jobs:
        assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
        spec = job["spec"]["template"]["spec"]
        [container] = spec["containers"]
        command, *options = container["args"]
        # Parsed by the command itself: an unknown option or value would end here.
        load(command).make_context(command, options)
        assert "envFrom" not in container
        assert "serviceAccountName" not in spec
    if jobs:
        assert [job["spec"]["template"]["spec"]["containers"][0]["args"][0] for job in jobs] == ["migrate", "provision"]


def test_every_key_of_a_secret_is_documented(chart: Rendered) -> None:
    readme = (CHART / "README.md").read_text()
    sources = [
        entry["valueFrom"]["secretKeyRef"]
        for pod in chart.pods
        for entry in pod["spec"]["containers"][0]["env"]
        if "secretKeyRef" in entry.get("valueFrom", {})
    ]
    assert {source["key"] for source in sources if f"| `{source['key']}` |" not in readme} == set()


def test_the_notes_name_what_is_there(values: Path, chart: Rendered) -> None:
    said = helm("install", "prod", str(CHART), "--namespace", NAMESPACE, "--values", str(values), "--dry-run=client")
    notes = said.stdout.partition("NOTES:\n")[2]
    [service] = re.findall(r"Service (\S+),", notes)
    assert service in names(chart.of_kind("Service"))
    assert ("MQTT is taken from" in notes) == ("ingest-mqtt" in chart.workloads)
