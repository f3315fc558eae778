"""The chart of deploy/helm, rendered by a real Helm: what it makes of values, and what it says of wrong ones."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from support.chart import CHART, helm

from pulse_delivery.settings import DeliverySettings
from pulse_ingest.settings import IngestSettings
from pulse_router.settings import RouterSettings
from pulse_runtime.settings import ServiceSettings

VALUES = sorted((Path(__file__).parent / "helm").glob("*.yaml"))
[EVERYTHING] = [values for values in VALUES if values.stem == "everything"]
RELEASE, NAMESPACE = "prod", "telemetry"
SETTINGS: dict[str, type[ServiceSettings]] = {
    "ingest": IngestSettings,
    "router": RouterSettings,
    "delivery": DeliverySettings,
}

Manifest = Mapping[str, Any]


@cache
def rendered(values: Path) -> "Rendered":
    """Return what *values* come to; each file is rendered once."""
    done = helm("template", RELEASE, str(CHART), "--namespace", NAMESPACE, "--values", str(values))
    assert done.returncode == 0, done.stderr
    return Rendered(values=values, manifests=[made for made in yaml.safe_load_all(done.stdout) if made])


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """The one container of a pod, with what it is told."""

    pod: Manifest
    container: Manifest
    settings: Mapping[str, str]
    """Of the ConfigMap that it reads."""

    @property
    def environment(self) -> dict[str, str]:
        """What the process would find, with a stand-in for what a Secret or the pod's fields hold."""
        own = {entry["name"]: entry.get("value", _stand_in(entry["name"])) for entry in self.container["env"]}
        return {**self.settings, **own}

    @property
    def from_secrets(self) -> dict[str, tuple[str, str]]:
        """Variables with the name and the key of the Secret that they come from."""
        sources = {entry["name"]: entry.get("valueFrom", {}).get("secretKeyRef") for entry in self.container["env"]}
        return {name: (source["name"], source["key"]) for name, source in sources.items() if source}

    @property
    def ports(self) -> dict[str, int]:
        return {port["name"]: port["containerPort"] for port in self.container["ports"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """The manifests of one values file."""

    values: Path
    manifests: list[Manifest]

    def of_kind(self, *kinds: str) -> list[Manifest]:
        return [manifest for manifest in self.manifests if manifest["kind"] in kinds]

    @property
    def workloads(self) -> dict[str, Manifest]:
        """Deployments and StatefulSets by component."""
        return {component(made): made for made in self.of_kind("Deployment", "StatefulSet")}

    @property
    def pods(self) -> Iterator[Manifest]:
        """The templates of all pods, those of the Jobs too."""
        return (made["spec"]["template"] for made in self.of_kind("Deployment", "StatefulSet", "Job"))

    def container(self, workload: Manifest) -> Container:
        pod = workload["spec"]["template"]
        [container] = pod["spec"]["containers"]
        [source] = container["envFrom"]
        [settings] = [
            made["data"]
            for made in self.of_kind("ConfigMap")
            if made["metadata"]["name"] == source["configMapRef"]["name"]
        ]
        return Container(pod=pod, container=container, settings=settings)


def component(made: Manifest) -> str:
    return made["metadata"]["labels"]["app.kubernetes.io/component"]


def service_of(name: str) -> str:
    """Return the service that a component runs."""
    return name.partition("-")[0]


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return selector.items() <= labels.items()


def names(manifests: Iterable[Manifest]) -> list[str]:
    return [made["metadata"]["name"] for made in manifests]


def _stand_in(variable: str) -> str:
    return "postgresql://someone@db/pulse" if variable.endswith("DATABASE_URL") else "k1:c2VjcmV0"
