import time
from typing import Any

import pytest

from pulse_matching.condition import compile_condition
from pulse_matching.expression import InvalidExpression, MatchError, Message, compile_expression

PAYLOAD: dict[str, Any] = {
    "metrics": {"t": 81, "f": 1.5, "none": None, "on": True, "s": "abc", "big": 10**30},
    "site_id": "a",
    "list": [1, 2.5, "x"],
    "readings": [{"name": "p", "value": 3}],
}


def decide(text: str, payload: dict[str, Any] | None = None) -> bool:
    message = Message(payload=PAYLOAD if payload is None else payload, topic="tenant/t/up", device_id="d1", type="up")
    return compile_expression(text)(message)


def failure(text: str, payload: dict[str, Any] | None = None) -> str:
    with pytest.raises(MatchError) as caught:
        decide(text, payload)
    return caught.value.reason


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("metrics.t > 80", True),
        ("metrics.t > 81", False),
        ("metrics.t == 81.0", True),
        ("metrics.f > 1", True),
        ("metrics.on", True),
        ("metrics.on == 1", False),
        ("metrics.t == '81'", False),
        ("metrics.none == null", True),
        ("payload.metrics.t == metrics.t", True),
        ("payload.site_id == 'a' && type == 'up'", True),
        ("type(metrics.t) == int", True),
        ("topic.startsWith('tenant/') && device_id == 'd1'", True),
        ("has(metrics.t) && !has(metrics.u)", True),
        ("metrics.s.matches('^a.c$')", True),
        ("payload.list.exists(x, x == 'x')", True),
        ("payload.readings.exists(r, r.name == 'p' && r.value > 2)", True),
        ("payload.list.all(x, x == 1)", False),
        ("payload.list.exists_one(x, x == 1)", True),
        ("metrics.big > 1", True),
        ("metrics.t in [80, 81]", True),
    ],
)
def test_expression_decides(text: str, *, expected: bool) -> None:
    assert expected is decide(text)


@pytest.mark.parametrize(
    "text", ["metrics.nope > 1", "!(metrics.nope > 1)", "payload.a.b == 1", "payload['x'] == 1", "metrics.nope"]
)
def test_missing_key_is_no_match(text: str) -> None:
    assert decide(text) is False


@pytest.mark.parametrize("metrics", [None, [], 5, "x"])
def test_metrics_are_empty_unless_an_object(metrics: object) -> None:
    assert decide("metrics.size() == 0", {"metrics": metrics})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Syntax error"),
        ("1 +", "1:4: Syntax error"),
        ("topic > 1", "no matching overload"),
        ("nothing == 1", "undeclared reference"),
        ("nothing(1)", "undeclared reference"),
        ("1", "gives int, must give bool"),
        ("topic", "gives string, must give bool"),
        ("metrics.t + 1", "must give bool"),
        ("[1].map(x, x) == [1]", "map and filter are not offered"),
        ("\0", "Syntax error"),
        ("'\ud800' == ''", "unicode"),
        ("true" + " " * 4096, "longer than 4096 bytes"),
        ("(" * 1000 + "true" + ")" * 1000, "recursion"),
        ("payload" + ".a" * 1000 + " == 1", "recursion"),
    ],
)
def test_bad_expression_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidExpression) as caught:
        compile_expression(text)
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("metrics.t", "gave int, must give bool"),
        ("metrics.none > 1", "no matching overloads"),
        ("metrics.s > 1", "no matching overloads"),
        ("payload.list[9] == 1", "index"),
        ("1 / (metrics.t - 81) == 1", "divide by zero"),
        ("metrics.t + 9223372036854775807 == 1", "overflow"),
        ("metrics.s.matches('(((')", "evaluation failed"),
        ("payload.site_id.b == 1", "evaluation failed"),
    ],
)
def test_evaluation_error_is_a_match_error(text: str, reason: str) -> None:
    assert reason in failure(text)


@pytest.mark.parametrize(
    ("text", "payload"),
    [
        ("int(payload.s) == 1", {"s": "sesame"}),
        ("'x'.matches(payload.s)", {"s": "sesame((("}),
        ("timestamp(payload.s) == timestamp('2026-01-01T00:00:00Z')", {"s": "sesame"}),
        ("payload.s == 1", {"s": object()}),
        ("payload.s == 'x'", {"s": "\ud800"}),
    ],
)
def test_match_error_quotes_no_payload(text: str, payload: dict[str, Any]) -> None:
    with pytest.raises(MatchError) as caught:
        decide(text, payload)
    assert "sesame" not in caught.value.reason
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("value", [2**63, 2**64, -(2**63) - 1, 10**400, -(10**400)])
def test_integer_beyond_64_bits_does_not_spoil_the_other_values(value: int) -> None:
    assert decide("metrics.t == 1", {"metrics": {"t": 1}, "other": [{"v": value}]})
    assert decide("metrics.v > 5 || metrics.v < -5", {"metrics": {"v": value}})


def test_iteration_budget_ends_evaluation() -> None:
    loops = "".join(f"payload.l.all(x{i}, " for i in range(5)) + "true" + ")" * 5
    assert failure(loops, {"l": list(range(10))}) == "iteration budget exceeded"


@pytest.mark.parametrize(
    "text",
    [
        "payload.l.all(x, payload == payload)",
        "payload.l.all(x, x in payload.l)",
        "payload.s.matches('(?:.{10,1000})x')",
        "payload.l.all(x, !payload.s.matches('(a|aa)+b'))",
        "[payload.s].all(a, [a+a].all(b, [b+b].all(c, [c+c].all(d, [d+d].all(e, e+e != '')))))",
    ],
)
def test_costly_expression_over_a_large_payload_is_refused_quickly(text: str) -> None:
    start = time.process_time()
    assert "too large" in failure(text, {"l": list(range(9_999)), "s": "a" * 100_000})
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize("levels", [200, 100_000])
def test_deep_payload_is_a_match_error_and_not_the_end_of_the_process(levels: int) -> None:
    deep: Any = 1
    for _ in range(levels):
        deep = [deep]
    assert "deeper" in failure("has(payload.a)", {"a": deep})


@pytest.mark.parametrize(
    ("payload_filter", "expression", "expected"),
    [
        (None, None, True),
        ({"t": 81}, None, True),
        ({"t": 0}, None, False),
        (None, "metrics.t == 81", True),
        ({"t": 81}, "metrics.t == 0", False),
        ({"t": 0}, "metrics.none > 1", False),
    ],
)
def test_condition_needs_filter_and_expression(
    payload_filter: dict[str, Any] | None, expression: str | None, *, expected: bool
) -> None:
    holds = compile_condition(payload_filter=payload_filter, expression=expression)
    assert expected is holds(Message(payload=PAYLOAD, topic="a", device_id="d", type="t"))
