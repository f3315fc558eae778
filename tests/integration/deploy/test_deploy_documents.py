"""What the operator's pages say can be done: commands parse, names exist, links lead somewhere."""

import re
import shlex
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from deploy_helm import SETTINGS
from deploy_nats import ROOT
from typer.core import TyperCommand, TyperGroup

from pulse_cli.lazy import load
from pulse_runtime import events
from pulse_runtime.metrics import reference_rows
from pulse_runtime.setting_sources import SECRETS_DIR
from pulse_runtime.settings import variables

PAGES = [*sorted((ROOT / "docs/operating").rglob("*.md")), *sorted((ROOT / "deploy").rglob("*.md"))]
SOURCES = [path.read_text() for path in (ROOT / "libs").glob("*/src/**/*.py")]
OF_THE_COMMAND = {"PULSE_OWNER_DATABASE_URL", SECRETS_DIR}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@each_page
def test_every_pulse_command_parses(page: Path) -> None:
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("pulse "):
                parse(shlex.split(line, comments=True)[1:])


def parse(arguments: list[str]) -> None:
    """Raise what the command line would say of *arguments*."""
    name, *arguments = arguments
    command = load(name)
    while isinstance(command, TyperGroup):
        name, *arguments = arguments
        command = command.commands[name]
    assert isinstance(command, TyperCommand)
    command.make_context(command.name or "", arguments)


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@each_page
def test_metrics_exist(page: Path) -> None:
    known = {row.name for row in reference_rows()}
    said = set(re.findall(r"`(pulse_[a-z_]+)", page.read_text()))
    roles = {"pulse_ingest", "pulse_router", "pulse_delivery", "pulse_control", "pulse_migrator", "pulse_owner"}
    assert said - roles - known == set()


@each_page
def test_settings_exist(page: Path) -> None:
    known = set[str]().union(*(variables(settings) for settings in SETTINGS.values())) | OF_THE_COMMAND
    # A name that ends in an underscore stands for all that begin so.
    said = set(re.findall(r"PULSE_[A-Z_]*[A-Z]\b", page.read_text()))
    assert said - known == set()


@each_page
def test_events_exist(page: Path) -> None:
    known = {value for name, value in vars(events).items() if name.isupper()}
    said = set(re.findall(r"events? `([a-z_]+)`", page.read_text()))
    ours = {name for name in said - known if not any(f'"{name}"' in source for source in SOURCES)}
    assert ours == set()


@each_page
def test_manifests_are_valid(page: Path) -> None:
    for block in blocks(page, "yaml"):
        made = yaml.safe_load(block)
        kubernetes_validate.validate(made, kubernetes_validate.latest_version(), strict=True)


_REASON = re.compile(r'health\.register\("(\w+)"')
_NOT_READY = (ROOT / "docs/operating/runbooks/not-ready.md").read_text()


def _reasons_of(*folders: Path) -> set[str]:
    sources = [path.read_text() for folder in folders for path in folder.rglob("*.py")]
    return {name for source in sources for name in _REASON.findall(source)}


@pytest.mark.parametrize("service", SETTINGS)
def test_every_reason_of_not_being_ready_is_explained(service: str) -> None:
    reasons = _reasons_of(ROOT / "services" / service / "src")
    assert reasons
    assert _explained(service.capitalize()) == reasons


def test_every_reason_that_any_service_may_have_is_explained() -> None:
    assert _explained("Any service") == _reasons_of(*(ROOT / "libs").glob("*/src")) | {"draining"}


def _explained(section: str) -> set[str]:
    text = _NOT_READY.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
