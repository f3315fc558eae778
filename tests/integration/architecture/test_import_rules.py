"""The walls stand: planted imports break the rules that forbid them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LINT = str(Path(sys.executable).with_name("lint-imports"))

PLANTS = [
    ("services/ingest", "pulse_ingest/http/single.py", "import httpx", "Ingest and the router have no HTTP client"),
    (
        "services/ingest",
        "pulse_ingest/domain/intake.py",
        "import pulse_bus.publisher",
        "Domain packages know no driver",
    ),
    ("services/router", "pulse_router/app.py", "import pulse_delivery.app", "services never import each other"),
    ("libs/control", "pulse_control/tenants.py", "import asyncpg", "Only storage touches asyncpg"),
    ("libs/storage", "pulse_storage/routes.py", "import nats", "Only the bus touches nats-py"),
    ("services/router", "pulse_router/domain/table.py", "import re2", "Only matching touches RE2 and CEL"),
    ("services/router", "pulse_router/domain/table.py", "import pulse_runtime.events", "Domain may use the clock"),
    ("services/delivery", "pulse_delivery/lanes/outage.py", "import aiohttp", "only egress opens HTTP connections"),
    ("libs/contracts", "pulse_contracts/ids.py", "import pydantic", "Contracts depend on the standard library alone"),
    ("libs/matching", "pulse_matching/topic.py", "import asyncio", "Matching knows neither input nor output"),
    (
        "services/delivery",
        "pulse_delivery/kinds/nats/sender.py",
        "import pulse_delivery.kinds.webhook.signing",
        "One kind never imports another",
    ),
    ("services/delivery", "pulse_delivery/domain/lane.py", "import pulse_delivery.lanes.outage", "Inside delivery"),
]


def lint(path: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(path)}
    return subprocess.run([LINT, "--no-cache"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the linter says with all of them planted, by rule: planting each by itself would take a minute."""
    folder = tmp_path_factory.mktemp("planted")
    for member in {member for member, *_ in PLANTS}:
        shutil.copytree(ROOT / member / "src", folder, dirs_exist_ok=True)
    for _, file, line, _ in PLANTS:
        planted = folder / file
        planted.write_text(f"{line}\n{planted.read_text()}")
    result = lint(folder)
    assert result.returncode == 1, result.stdout + result.stderr
    _, *parts = re.split(r"\n([^\n]+)\n-{3,}\n", result.stdout.partition("Broken contracts")[2])
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    return {rule: section for *_, rule in PLANTS for name, section in sections.items() if rule in name}


@pytest.mark.parametrize(("member", "file", "line", "rule"), PLANTS)
def test_a_planted_import_breaks_its_rule(broken: dict[str, str], member: str, file: str, line: str, rule: str) -> None:
    importer, imported = file.removesuffix(".py").replace("/", "."), line.removeprefix("import ")
    said = " ".join(broken[rule].split())
    assert importer in said
    assert imported.partition(".")[0] in said


def test_without_plants_every_rule_holds() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout
