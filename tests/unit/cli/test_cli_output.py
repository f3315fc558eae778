import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType

import pytest

from pulse_cli.output import emit, to_plain
from pulse_contracts.routes import RoutePolicy

AT = datetime(2026, 1, 5, 12, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    at: datetime
    names: tuple[str, ...] = ("a", "b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    inner: Inner
    members: Mapping[str, object] = field(default_factory=dict[str, object])
    nothing: None = None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (1.5, 1.5),
        ("é", "é"),
        (AT, "2026-01-05T12:00:00+00:00"),
        (AT.astimezone(timezone(timedelta(hours=1))), "2026-01-05T13:00:00+01:00"),
        ((1, (2, [3])), [1, [2, [3]]]),
        ({1: {"a": AT}}, {"1": {"a": "2026-01-05T12:00:00+00:00"}}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (frozenset({1}), [1]),
        (Inner(at=AT), {"at": "2026-01-05T12:00:00+00:00", "names": ["a", "b"]}),
        (
            Outer(inner=Inner(at=AT, names=()), members={"x": Inner(at=AT, names=())}),
            {
                "inner": {"at": "2026-01-05T12:00:00+00:00", "names": []},
                "members": {"x": {"at": "2026-01-05T12:00:00+00:00", "names": []}},
                "nothing": None,
            },
        ),
        ([], []),
    ],
)
def test_plain_is_what_json_can_say(value: object, expected: object) -> None:
    plain = to_plain(value)
    assert plain == expected
    assert json.loads(json.dumps(plain)) == expected


def test_a_policy_can_be_said_in_json() -> None:
    assert 404 in json.loads(json.dumps(to_plain(RoutePolicy())))["final_statuses"]


@pytest.mark.parametrize("value", [{"a": "é\n"}, [{"a": 1}, {"a": 2}], [], "text", None])
def test_json_is_one_line_on_stdout(value: object, capsys: pytest.CaptureFixture[str]) -> None:
    emit(value, as_json=True)
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1
    assert json.loads(captured.out) == value
    assert captured.err == ""


def test_fields_are_aligned_and_what_is_absent_is_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"name": "r", "expression": None, "config": {"a": 1}}, as_json=False)
    assert capsys.readouterr().out == 'name        r\nexpression  -\nconfig      {"a": 1}\n'


def test_an_empty_list_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    emit([], as_json=False)
    assert capsys.readouterr().out == "none\n"


def test_a_table_has_a_row_for_each_entry(capsys: pytest.CaptureFixture[str]) -> None:
    emit([{"name": "first", "at": None}, {"name": "second", "at": AT}], as_json=False)
    printed = capsys.readouterr().out
    assert [name for name in ("first", "second", "2026-01-05") if name in printed] == ["first", "second", "2026-01-05"]
