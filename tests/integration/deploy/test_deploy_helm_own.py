"""Each workload has what its own values say, and nobody else's: all of helm/distinct.yaml is different for each."""

import re
from typing import Any

import pytest
import yaml
from deploy_helm import VALUES, rendered
from support.chart import CHART, HELM, REASON

VALUES_OF = {"ingest": "ingest", "ingest-mqtt": "ingestMqtt", "router": "router", "delivery": "delivery"}
[DISTINCT] = [values for values in VALUES if values.stem == "distinct"]
GIVEN: dict[str, Any] = yaml.safe_load(DISTINCT.read_text())
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
