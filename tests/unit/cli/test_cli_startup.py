"""Each command loads what it needs: the help of all, and who only runs another program, wait for no driver."""

import subprocess
import sys

import pytest

from pulse_cli.lazy import COMMANDS, load

HELP = (
    "from typer.testing import CliRunner; from pulse_cli.main import app; "
    "assert 'dlq' in CliRunner().invoke(app, ['--help']).output"
)
HEAVY = ("nats", "asyncpg", "aiohttp", "pydantic", "structlog", "cel_expr_python", "cryptography", "rich")


def loaded_by(started: str, names: tuple[str, ...]) -> list[str]:
    """Return which of the modules a fresh interpreter has loaded after *started*."""
    program = f"{started}; import sys; print(*(name for name in {names} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return done.stdout.split()


@pytest.mark.parametrize(
    "started",
    ["import pulse_cli.main", "import pulse_cli.commands.nats", HELP],
    ids=["main", "nats", "help"],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(started: str) -> None:
    assert loaded_by(started, HEAVY) == []


def test_a_command_that_asks_only_the_database_does_not_load_the_bus() -> None:
    assert loaded_by("import pulse_cli.commands.tenant", ("nats", "aiohttp", "pydantic", "structlog")) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_the_summary_of_a_command_is_the_first_sentence_of_its_help(name: str) -> None:
    assert (load(name).help or "").startswith(COMMANDS[name])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_knows_what_it_is_called_by(name: str) -> None:
    assert load(name).name == name
