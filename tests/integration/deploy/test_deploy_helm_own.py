"""Each workload has what its own values say, and nobody else's: what it may have is different for each.

All in helm/distinct.yaml; only autoscaling in helm/everything.yaml, since a scaled workload has no replicas of its own.
"""

import re
from typing import Any

import pytest
import yaml
from deploy_helm import EVERYTHING, VALUES, component, rendered
from support.chart import CHART, HELM, REASON

VALUES_OF = {"ingest": "ingest", "ingest-mqtt": "ingestMqtt", "router": "router", "delivery": "delivery"}
SCALED = ("ingest", "router", "delivery")
[DISTINCT] = [values for values in VALUES if values.stem == "distinct"]
GIVEN: dict[str, Any] = yaml.safe_load(DISTINCT.read_text())
AUTOSCALING: dict[str, dict[str, Any]] = {
    name: yaml.safe_load(EVERYTHING.read_text())[name]["autoscaling"] for name in SCALED
}
OF_THE_POD = (
    "terminationGracePeriodSeconds",
    "nodeSelector",
    "tolerations",
    "affinity",
    "topologySpreadConstraints",
    "priorityClassName",
)

pytestmark = pytest.mark.skipif(HELM is None, reason=REASON)


@pytest.mark.parametrize(("name", "key"), VALUES_OF.items())
def test_a_workload_has_its_own_values(name: str, key: str) -> None:
    own = GIVEN[key]
    workload = rendered(DISTINCT).workloads[name]
    template = workload["spec"]["template"]
    assert workload["spec"]["replicas"] == own["replicas"]
    assert template["spec"]["containers"][0]["resources"] == own["resources"]
    assert {field: template["spec"][field] for field in OF_THE_POD} == {field: own[field] for field in OF_THE_POD}
    assert own["podAnnotations"].items() <= template["metadata"]["annotations"].items()


def test_http_is_scaled_within_its_own_bounds() -> None:
    [made] = rendered(EVERYTHING).of_kind("HorizontalPodAutoscaler")
    spec, own = made["spec"], AUTOSCALING["ingest"]
    [metric] = spec["metrics"]
    assert component(made) == "ingest"
    assert (spec["minReplicas"], spec["maxReplicas"]) == (own["minReplicas"], own["maxReplicas"])
    assert metric["resource"]["target"] == {"type": "Utilization", "averageUtilization": own["targetCpuPercent"]}


@pytest.mark.parametrize("name", ["router", "delivery"])
def test_a_backlog_is_scaled_within_its_own_bounds(name: str) -> None:
    [spec] = [made["spec"] for made in rendered(EVERYTHING).of_kind("ScaledObject") if component(made) == name]
    own = AUTOSCALING[name]
    [trigger] = spec["triggers"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (own["minReplicas"], own["maxReplicas"])
    assert trigger["metadata"]["threshold"] == str(own["messagesPerReplica"])
    # Blind, it keeps what runs, and the least there may be.
    assert spec["fallback"]["replicas"] == own["minReplicas"]
    assert spec["fallback"]["behavior"] == "currentReplicasIfHigher"


def test_the_hooks_have_their_own() -> None:
    for job in rendered(DISTINCT).of_kind("Job"):
        [container] = job["spec"]["template"]["spec"]["containers"]
        assert container["resources"] == GIVEN["hooks"]["resources"]
        assert job["spec"]["activeDeadlineSeconds"] == GIVEN["hooks"]["deadlineSeconds"]


def test_the_matrix_makes_everything_that_the_chart_can() -> None:
    kinds = {made["kind"] for values in VALUES for made in rendered(values).manifests}
    written = {
        kind
        for path in (CHART / "templates").glob("*.yaml")
        for kind in re.findall(r"^kind: (\w+)", path.read_text(), re.MULTILINE)
    }
    assert kinds == written


def test_nothing_that_is_to_be_distinct_is_the_same_twice() -> None:
    for field in ("replicas", "resources", *OF_THE_POD, "podAnnotations"):
        given = [yaml.safe_dump(GIVEN[key][field]) for key in VALUES_OF.values()]
        assert len(set(given)) == len(given), field
    numbers = [number for own in AUTOSCALING.values() for number in own.values() if number is not True]
    assert len(set(numbers)) == len(numbers) == 3 * len(SCALED)
