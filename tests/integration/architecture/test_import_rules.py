"""The walls stand: a planted import breaks the rule that forbids it."""

import os
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
]


def lint(path: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(path)}
    return subprocess.run([LINT, "--no-cache"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("member", "file", "line", "rule"), PLANTS)
def test_a_planted_import_breaks_its_rule(tmp_path: Path, member: str, file: str, line: str, rule: str) -> None:
    shutil.copytree(ROOT / member / "src", tmp_path, dirs_exist_ok=True)
    planted = tmp_path / file
    planted.write_text(f"{line}\n{planted.read_text()}")
    result = lint(tmp_path)
    assert result.returncode == 1, result.stdout + result.stderr
    broken = result.stdout.partition("Broken contracts")[2]
    assert rule in broken
