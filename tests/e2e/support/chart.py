"""The chart of deploy/helm, asked through a real Helm."""

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[3] / "deploy/helm/pulse"
HELM = shutil.which("helm")
REASON = "helm is not installed (CI builds it with Go, see .ci/run)"
ENOUGH = {"image.registry": "r.example.com/t", "nats.url": "nats://nats:4222"}
"""What has to be said."""


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert HELM
    return subprocess.run([HELM, *arguments], check=False, capture_output=True, text=True)


def template(**values: object) -> subprocess.CompletedProcess[str]:
    """Render the chart with these values and no others."""
    given = [part for name, value in {**ENOUGH, **values}.items() for part in ("--set", f"{name}={value}")]
    return helm("template", "prod", str(CHART), *given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """One Job of the chart: what it runs, and what it is told."""

    arguments: list[str]
    environment: dict[str, str]


def hooks(secrets: Mapping[str, Mapping[str, str]], **values: object) -> list[Hook]:
    """Return the Jobs in their order, with what the Secrets of these names hold."""
    done = template(**values)
    assert done.returncode == 0, done.stderr
    jobs = [made for made in yaml.safe_load_all(done.stdout) if made and made["kind"] == "Job"]
    jobs.sort(key=lambda job: int(job["metadata"]["annotations"]["helm.sh/hook-weight"]))
    return [_hook(job["spec"]["template"]["spec"]["containers"][0], secrets) for job in jobs]


def _hook(container: Mapping[str, Any], secrets: Mapping[str, Mapping[str, str]]) -> Hook:
    environment: dict[str, str] = {}
    for entry in container["env"]:
        source = entry.get("valueFrom", {}).get("secretKeyRef")
        environment[entry["name"]] = secrets[source["name"]][source["key"]] if source else entry["value"]
    return Hook(arguments=container["args"], environment=environment)
