import json
from collections.abc import Generator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pulse_cli.main import app

NO_STACK = 3
KEYS = "k:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
SETTINGS = {
    # Port 1 of the loopback: nobody listens there.
    "PULSE_DATABASE_URL": "postgresql://control@127.0.0.1:1/pulse",
    "PULSE_NATS_URL": "nats://127.0.0.1:1",
    "PULSE_NATS_USER": "control",
    "PULSE_NATS_PASSWORD": "secret-canary",
    "PULSE_SECRET_KEYS": KEYS,
}


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[None]:
    for name in (*SETTINGS, "PULSE_DATA", "PULSE_EGRESS_ALLOW", "PULSE_OWNER_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return (yield)


def pulse(*arguments: str, **settings: str) -> tuple[int, str, str]:
    # Apart from the loop of the tests, which is running: a command opens its own.
    done = CliRunner().invoke(app, list(arguments), env=settings)
    return done.exit_code, done.stdout, done.stderr


NEEDS_A_STACK = [
    ("tenant", "create", "acme"),
    ("tenant", "list"),
    ("device", "create", "d", "--tenant", "acme"),
    ("device", "list", "--tenant", "acme"),
    ("device", "rotate", "d", "--tenant", "acme"),
    ("device", "revoke", "d", "--tenant", "acme"),
    ("route", "list", "--tenant", "acme"),
    ("route", "show", "r", "--tenant", "acme"),
    ("route", "enable", "r", "--tenant", "acme"),
    ("route", "disable", "r", "--tenant", "acme"),
    ("route", "delete", "r", "--tenant", "acme"),
    ("route", "update", "r", "--tenant", "acme", "--name", "s"),
    ("route", "secret", "show", "r", "--tenant", "acme"),
    ("route", "create", "--tenant", "a", "--name", "r", "--topic-filter", "#", "--webhook", "https://example.com"),
    ("dlq", "list", "--tenant", "acme"),
    ("dlq", "show", "m-1", "--tenant", "acme"),
    ("trace", "01900000-0000-7000-8000-000000000000"),
    ("migrate",),
    ("provision",),
    ("top",),
]


@pytest.mark.parametrize("arguments", NEEDS_A_STACK, ids=" ".join)
def test_without_a_stack_every_command_says_so_and_leaves_with_3(arguments: tuple[str, ...], tmp_path: Path) -> None:
    data = tmp_path / "nothing"
    code, stdout, stderr = pulse(*arguments, "--data", str(data), "--json")
    assert (code, stdout) == (NO_STACK, "")
    assert stderr.startswith(f"pulse: no stack runs on {data}: ")
    assert not data.exists()


def test_the_default_folder_is_named_when_nothing_is_given() -> None:
    code, _, stderr = pulse("tenant", "list")
    assert (code, stderr.partition(":")[0]) == (NO_STACK, "pulse")
    assert "no stack runs on .pulse" in stderr


@pytest.mark.parametrize("missing", sorted(set(SETTINGS) - {"PULSE_DATABASE_URL"}))
def test_a_setting_that_is_missing_is_named(missing: str) -> None:
    settings = {name: value for name, value in SETTINGS.items() if name != missing}
    code, _, stderr = pulse("tenant", "list", **settings)
    assert code == NO_STACK
    assert f"{missing} not set" in stderr


def test_a_database_that_nobody_runs_is_unreachable() -> None:
    code, _, stderr = pulse("tenant", "list", **SETTINGS)
    assert code == NO_STACK
    assert stderr.startswith("pulse: ")
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PULSE_SECRET_KEYS", "not-a-ring"),
        ("PULSE_SECRET_KEYS", "k:AAAA"),
        ("PULSE_EGRESS_ALLOW", "nonsense"),
        ("PULSE_DATABASE_URL", "secret-canary"),
        ("PULSE_DATABASE_URL", "mysql://control:secret-canary@127.0.0.1/pulse"),
        ("PULSE_DATABASE_URL", "postgresql://control:secret-canary@127.0.0.1:x/pulse"),
        ("PULSE_DATABASE_URL", "postgresql://control:secret-canary@[::1/pulse"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_by_name(name: str, value: str) -> None:
    code, _, stderr = pulse("tenant", "list", **{**SETTINGS, name: value})
    assert code == 2
    assert stderr.startswith(f"pulse: {name}: ")
    assert "secret-canary" not in stderr


@pytest.mark.parametrize("name", ["PULSE_DATABASE_URL", "PULSE_OWNER_DATABASE_URL"])
def test_an_address_of_the_database_to_migrate_is_refused_by_the_name_of_its_setting(name: str) -> None:
    code, _, stderr = pulse("migrate", **{**SETTINGS, name: "nonsense"})
    assert (code, stderr) == (2, f"pulse: {name}: must begin with postgresql://\n")


def test_all_settings_that_are_missing_are_named_in_one_sentence() -> None:
    code, _, stderr = pulse("tenant", "list", PULSE_DATABASE_URL=SETTINGS["PULSE_DATABASE_URL"])
    names = "PULSE_NATS_URL, PULSE_NATS_USER, PULSE_NATS_PASSWORD, PULSE_SECRET_KEYS"
    assert (code, stderr.partition(":")[2].partition(":")[0]) == (NO_STACK, f" {names} not set")
    assert "no stack runs on" not in stderr


@pytest.mark.parametrize("command", [("up",), ("demo",), ("tenant", "list")], ids=" ".join)
def test_a_data_folder_without_a_name_is_refused(command: tuple[str, ...], tmp_path: Path) -> None:
    code, _, stderr = pulse(*command, "--data", "")
    assert code == 2
    assert "must name a folder" in stderr
    assert not list(tmp_path.iterdir())


def test_a_file_cannot_be_a_data_folder(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    code, _, stderr = pulse("up", "--data", str(file))
    assert (code, stderr) == (2, f"pulse: {file} cannot be a data folder: File exists\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("nope",),
        ("tenant", "nope"),
        ("tenant", "create"),
        ("device", "list"),
        ("route", "create", "--tenant", "a"),
        ("demo", "--seconds", "0"),
        ("dlq", "list", "--tenant", "a", "--limit", "0"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_leaves_with_2(arguments: tuple[str, ...]) -> None:
    assert pulse(*arguments)[0] == 2


def test_a_mistyped_command_gets_a_hint() -> None:
    assert "Did you mean 'tenant'?" in pulse("tenan")[2]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("--policy", "{"), "policy"),
        (("--policy", "[]"), "policy"),
        (("--policy", '{"max_attempts": 1, "max_attempts": 2}'), "policy"),
        (("--payload-filter", '{"a": {"$gt": 1, "$gt": 2}}'), "payload_filter"),
        (("--payload-filter", '{"a":' * 9999), "payload_filter"),
        (("--payload-filter", "x"), "payload_filter"),
        (("--kind", "nats", "--config", "5"), "config"),
        ((), "destination"),
        (("--webhook", "https://a.example", "--mqtt-topic", "t"), "destination"),
        (("--webhook", "https://a.example", "--kind", "nats"), "destination"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused_by_name(arguments: tuple[str, ...], field: str) -> None:
    given = ("route", "create", "--tenant", "a", "--name", "r", "--topic-filter", "#", *arguments)
    if not {"--webhook", "--mqtt-topic", "--kind"} & set(arguments) and arguments:
        given = (*given, "--webhook", "https://example.com")
    code, _, stderr = pulse(*given, **SETTINGS)
    assert code == 2
    assert stderr.startswith(f"pulse: {field}: ")


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("--payload-filter", "{}", "--no-payload-filter"), "payload_filter"),
        (("--expression", "true", "--no-expression"), "expression"),
        (("--policy", '{"a": 1, "a": 2}'), "policy"),
    ],
)
def test_a_change_that_cannot_be_meant_is_refused_by_name(arguments: tuple[str, ...], field: str) -> None:
    code, _, stderr = pulse("route", "update", "r", "--tenant", "a", *arguments, **SETTINGS)
    assert code == 2
    assert stderr.startswith(f"pulse: {field}: ")


@pytest.mark.parametrize("arguments", [("--help",), ("route", "--help"), ("route", "secret", "--help")])
def test_help_needs_no_stack(arguments: tuple[str, ...]) -> None:
    assert pulse(*arguments)[0] == 0


def test_no_secret_is_printed_when_something_is_unreachable() -> None:
    _, stdout, stderr = pulse("tenant", "list", "--json", **SETTINGS)
    assert "secret-canary" not in json.dumps([stdout, stderr])
    assert KEYS not in stdout + stderr
