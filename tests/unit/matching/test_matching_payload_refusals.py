import json
import time
from typing import Any

import pytest

from pulse_matching.payload import InvalidPayloadFilter, compile_filter
from pulse_matching.spec import MAX_DEPTH, MAX_OPERANDS, MAX_PATTERNS


def refusal(spec: Any) -> InvalidPayloadFilter:
    with pytest.raises(InvalidPayloadFilter) as caught:
        compile_filter(spec)
    return caught.value


def nested(depth: int) -> dict[str, Any]:
    """Build a filter of exactly *depth* objects."""
    spec: dict[str, Any] = {"$eq": 1}
    for _ in range(depth - 2):
        spec = {"$not": spec}
    return {"t": spec}


REFUSED: list[tuple[Any, str]] = [
    ([], ""),
    (5, ""),
    (True, ""),
    ("[]", ""),
    ("5", ""),
    ('"a"', ""),
    ("", ""),
    ("{", ""),
    ('{"a": NaN}', "a"),
    ('{"a": 1e999}', "a"),
    ('{"a": 1, "a": 2}', ""),
    ('{"a": ' + "1" * 5000 + "}", ""),
    ({"a": 10**5000}, ""),
    ({1: 2}, ""),
    ({"a": {1, 2}}, "a"),
    ({"a": float("nan")}, "a"),
    ({"$and": []}, "$and"),
    ({"$or": []}, "$or"),
    ({"$or": {}}, "$or"),
    ({"$or": [1]}, "$or[0]"),
    ({"$and": [{}, {"t": {"$gt": None}}]}, "$and[1].t.$gt"),
    ({"$not": []}, "$not"),
    ({"$nope": 1}, "$nope"),
    ({"$gt": 1}, "$gt"),
    ({"$elem": {"a": 1}}, "$elem"),
    ({"$exists": True}, "$exists"),
    ({"t": {}}, "t"),
    ({"t": []}, "t"),
    ({"t": [1]}, "t"),
    ({"t": {"a": 1}}, "t.a"),
    ({"t": {"$near": 1}}, "t.$near"),
    ({"t": {"$eq": [1]}}, "t.$eq"),
    ({"t": {"$ne": {}}}, "t.$ne"),
    ({"t": {"$gt": True}}, "t.$gt"),
    ({"t": {"$lte": [1]}}, "t.$lte"),
    ({"t": {"$in": 1}}, "t.$in"),
    ({"t": {"$in": []}}, "t.$in"),
    ({"t": {"$nin": [1, []]}}, "t.$nin[1]"),
    ({"t": {"$exists": 1}}, "t.$exists"),
    ({"t": {"$regex": 1}}, "t.$regex"),
    ({"t": {"$regex": "("}}, "t.$regex"),
    ({"t": {"$regex": r"(a)\1"}}, "t.$regex"),
    ({"t": {"$regex": "(?=a)"}}, "t.$regex"),
    ({"t": {"$regex": "\ud800"}}, "t.$regex"),
    ({"t": {"$regex": "a" * 1025}}, "t.$regex"),
    ({"t": {"$regex": ".{1000}"}}, "t.$regex"),
    ({"t": {"$regex": "((a{100}){100}){100}"}}, "t.$regex"),
    ({"t": {"$regex": r"\pL{1000}"}}, "t.$regex"),
    ({"t": {"$elem": 1}}, "t.$elem"),
    ({"t": {"$elem": {}}}, "t.$elem"),
    ({"t": {"$elem": {"a": {"b": 1}}}}, "t.$elem.a.b"),
    ({"t": {"$not": 5}}, "t.$not"),
    ({"t": {"$or": [{"$gt": 1}, {}]}}, "t.$or[1]"),
    ({"": 1}, ""),
    ({"a..b": 1}, "a..b"),
    ({".a": 1}, ".a"),
    ({"a.": 1}, "a."),
]


@pytest.mark.parametrize(("spec", "path"), REFUSED)
def test_bad_filter_is_refused_with_its_path(spec: Any, path: str) -> None:
    assert path == refusal(spec).path


def test_refusal_names_path_and_reason() -> None:
    assert str(refusal({"t": {"$gt": None}})) == "payload_filter.t.$gt: must be a number or a string"


@pytest.mark.parametrize("as_text", [True, False])
def test_filter_beyond_16_kib_is_refused(*, as_text: bool) -> None:
    spec = {"s": "ä" * 8192}
    assert "bytes" in refusal(json.dumps(spec, ensure_ascii=False) if as_text else spec).reason
    assert "bytes" in refusal("{" + " " * 16_384 + "}").reason


def test_depth_is_bounded() -> None:
    compile_filter(nested(MAX_DEPTH))
    assert "deeper" in refusal(nested(MAX_DEPTH + 1)).reason


@pytest.mark.parametrize("text", ["[" * 16_000, '{"a":' * 3000, '{"$and":[' * 1500])
def test_hostile_nesting_is_refused(text: str) -> None:
    refusal(text)


def test_object_that_contains_itself_is_refused() -> None:
    spec: dict[str, Any] = {}
    spec["$not"] = spec
    assert "deeper" in refusal(spec).reason


@pytest.mark.parametrize("operator", ["$in", "$nin"])
def test_list_operands_are_bounded(operator: str) -> None:
    compile_filter({"t": {operator: list(range(MAX_OPERANDS))}})
    assert f"t.{operator}" == refusal({"t": {operator: list(range(MAX_OPERANDS + 1))}}).path


def test_number_of_regular_expressions_is_bounded() -> None:
    compile_filter({f"t{i}": {"$regex": "a"} for i in range(MAX_PATTERNS)})
    refusal({f"t{i}": {"$regex": "a"} for i in range(MAX_PATTERNS + 1)})
    refusal(json.dumps({f"t{i}": {"$regex": "a"} for i in range(MAX_PATTERNS + 1)}).replace("$", "\\u0024"))


def test_pattern_of_full_length_is_accepted() -> None:
    assert compile_filter({"s": {"$regex": "a" * 1024}})({"s": "a" * 2000})


@pytest.mark.parametrize("pattern", ["(a*)*b", "(a|aa)+$b", "(a|a)*b", "(x+x+)+y", "(.*)*=.*"])
def test_catastrophic_pattern_runs_in_linear_time(pattern: str) -> None:
    holds = compile_filter({"s": {"$regex": pattern}})
    text = ("a" * 50 + "x" * 50) * 2000
    start = time.process_time()
    assert not holds({"s": text})
    assert time.process_time() - start < 1


def test_deep_payload_does_not_raise() -> None:
    deep: Any = 1
    for _ in range(50_000):
        deep = [deep]
    assert not compile_filter({"t": 1, "u": {"$elem": {"$elem": {"$gt": 1}}}})({"t": deep, "u": deep})
