import asyncio
from pathlib import Path

import pytest
import typer

from pulse_bus.errors import ApiError, BusUnavailable
from pulse_cli.embedded.errors import EmbeddedError
from pulse_cli.running import read_json_option, run
from pulse_cli.target import NothingRuns
from pulse_contracts.storing import DataRefused, StorageUnavailable
from pulse_control.errors import ControlRefused, NotFound


def code_of(error: BaseException | None) -> int:
    async def work() -> None:
        if error is not None:
            raise error

    try:
        run(work())
    except typer.Exit as exc:
        return exc.exit_code
    return 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 0),
        (ControlRefused("name", "is taken"), 2),
        (EmbeddedError("no such program"), 2),
        (NothingRuns(Path(".pulse")), 3),
        (BusUnavailable("nobody answered"), 3),
        (ApiError("STREAM.INFO", 503, 10008, "no leader"), 3),
        (ApiError("STREAM.UPDATE", 500, 10074, "replicas > 1 not supported in non-clustered mode"), 2),
        (DataRefused("invalid byte sequence"), 2),
        (StorageUnavailable("down"), 3),
        (ConnectionRefusedError("refused"), 3),
        (TimeoutError(), 3),
        (NotFound("route", "there is none"), 4),
        (KeyboardInterrupt(), 130),
        (asyncio.CancelledError(), 130),
    ],
    ids=repr,
)
def test_each_end_has_its_exit_code(error: BaseException | None, code: int) -> None:
    assert code_of(error) == code


def test_our_own_fault_is_not_hidden_behind_a_code() -> None:
    with pytest.raises(ZeroDivisionError):
        code_of(ZeroDivisionError())


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ControlRefused("name", "is taken"), "pulse: name: is taken\n"),
        (TimeoutError(), "pulse: TimeoutError()\n"),
    ],
)
def test_what_is_wrong_is_one_line_on_stderr(error: Exception, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    code_of(error)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", line)


@pytest.mark.parametrize(("text", "expected"), [(None, None), ("{}", {}), ('{"a": [1]}', {"a": [1]})])
def test_a_json_option_is_an_object_or_absent(text: str | None, expected: object) -> None:
    assert read_json_option("config", text) == expected


@pytest.mark.parametrize("text", ["", "{", "[]", "5", '"x"', "null", '{"a": 1, "a": 1}', '{"a": [{"b": 1, "b": 2}]}'])
def test_any_other_json_option_is_refused_by_name(text: str) -> None:
    with pytest.raises(ControlRefused) as caught:
        read_json_option("config", text)
    assert caught.value.field == "config"
