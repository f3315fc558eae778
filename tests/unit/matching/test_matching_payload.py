import math
from typing import Any

import pytest

from pulse_matching.payload import compile_filter

HOLDS: list[tuple[Any, Any]] = [
    # no filter
    (None, {}),
    ({}, {"a": 1}),
    ("{}", {}),
    ("null", {}),
    # lookup: metrics, then payload; dotted paths and literal dots
    ({"t": 1}, {"metrics": {"t": 1}, "t": 2}),
    ({"t": 2}, {"metrics": {"u": 1}, "t": 2}),
    ({"t": None}, {"metrics": {"t": None}, "t": 2}),
    ({"t": 2}, {"metrics": [1], "t": 2}),
    ({"metrics.t": 1}, {"metrics": {"t": 1}}),
    ({"a.b": 1}, {"metrics": {"a": {"b": 1}}}),
    ({"a.b": 1}, {"metrics": {"a": {"c": 1}}, "a": {"b": 1}}),
    ({r"a\.b": 1}, {"a.b": 1}),
    ({r"a\.b.c": 1}, {"a.b": {"c": 1}}),
    ({r"a\b": 1}, {r"a\b": 1}),
    ({"a\0": 1}, {"a\0": 1}),
    ('{"temperature": {"$gt": 80}, "site": "a"}', {"metrics": {"temperature": 81}, "site": "a"}),
    # missing
    ({"t": {"$exists": False}}, {}),
    ({"t": {"$ne": 1}}, {}),
    ({"t": {"$ne": None}}, {}),
    ({"t": {"$nin": [1, None]}}, {}),
    ({"t": {"$not": {"$gt": 1}}}, {}),
    ({"$not": {"t": 1}}, {}),
    ({"a.b": {"$exists": False}}, {"a": 1}),
    ({"a.b": {"$exists": False}}, {"a": [{"b": 1}]}),
    # null
    ({"t": None}, {"t": None}),
    ({"t": {"$exists": True}}, {"t": None}),
    ({"t": {"$in": [1, None]}}, {"t": None}),
    ({"t": {"$ne": 0}}, {"t": None}),
    # numbers
    ({"t": 5}, {"t": 5.0}),
    ({"t": 5.0}, {"t": 5}),
    ({"t": 0}, {"t": -0.0}),
    ({"t": {"$gt": 80}}, {"t": 80.5}),
    ({"t": {"$gte": 80.0}}, {"t": 80}),
    ({"t": {"$lt": 1}}, {"t": -math.inf}),
    ({"t": {"$gt": 1.5}}, {"t": 10**400}),
    ({"t": 2**53 + 1}, {"t": 2**53 + 1}),
    ({"t": {"$ne": 1}}, {"t": True}),
    ({"t": {"$ne": 1}}, {"t": math.nan}),
    ({"t": True}, {"t": True}),
    ({"t": {"$in": [1]}}, {"t": 1.0}),
    # strings
    ({"s": "a"}, {"s": "a"}),
    ({"s": {"$lt": "a"}}, {"s": "Z"}),
    ({"s": {"$gt": "\uffff"}}, {"s": "\U00010000"}),
    ({"s": {"$regex": "b+"}}, {"s": "abbc"}),
    ({"s": {"$regex": "^a.c$"}}, {"s": "aéc"}),
    ({"s": {"$regex": ""}}, {"s": ""}),
    ({"s": {"$ne": 5}}, {"s": "5"}),
    # arrays
    ({"l": 2}, {"l": [1, 2]}),
    ({"l": None}, {"l": [1, None]}),
    ({"l": {"$gt": 1}}, {"l": ["x", 2]}),
    ({"l": {"$gt": 5, "$lt": 3}}, {"l": [2, 6]}),
    ({"l": {"$ne": 1}}, {"l": [1, 2]}),
    ({"l": {"$nin": [1]}}, {"l": [1, 2]}),
    ({"l": {"$not": {"$eq": 3}}}, {"l": [1, 2]}),
    ({"l": {"$regex": "b"}}, {"l": ["a", "b"]}),
    ({"l": {"$exists": True}}, {"l": []}),
    ({"l": {"$elem": {"$gt": 1, "$lt": 3}}}, {"l": [0, 2, 5]}),
    ({"l": {"$elem": {"a": 1, "b.c": {"$gt": 1}}}}, {"l": [{"a": 1}, {"a": 1, "b": {"c": 2}}]}),
    ({"l": {"$elem": {"$or": [{"a": 1}, {"$eq": 7}]}}}, {"l": [7]}),
    ({"l": {"$elem": {"$elem": {"$eq": 1}}}}, {"l": [[2], [1]]}),
    ({"l": {"$elem": {"$eq": 1}}}, {"l": [[2], [1]]}),
    ({"l": {"$elem": {"metrics.a": 1}}}, {"l": [{"metrics": {"a": 1}}]}),
    # logic
    ({"$and": [{"a": 1}, {"b": 2}]}, {"a": 1, "b": 2}),
    ({"$or": [{"a": 1}, {"b": 2}]}, {"b": 2}),
    ({"$or": [{}]}, {}),
    ({"$not": {"a": 1, "b": 2}}, {"a": 1}),
    ({"t": {"$or": [{"$lt": 1}, {"$gt": 5}]}}, {"t": 6}),
    ({"t": {"$and": [{"$gt": 1}, {"$not": {"$gt": 5}}]}}, {"t": 3}),
]

FAILS: list[tuple[Any, Any]] = [
    ({"t": 2}, {"metrics": {"t": 1}, "t": 2}),
    ({"t": 2}, {"metrics": {"t": None}, "t": 2}),
    ({"a.b": 1}, {"a.b": 1}),
    ({r"a\.b": 1}, {"a": {"b": 1}}),
    ({"a.b": 1}, {"a": [{"b": 1}]}),
    ({"t": {"$exists": True}}, {}),
    ({"t": None}, {}),
    ({"t": {"$lt": 1}}, {}),
    ({"t": {"$in": [None]}}, {}),
    ({"t": {"$regex": ""}}, {}),
    ({"t": {"$elem": {"$ne": 1}}}, {}),
    ({"t": {"$not": {"$ne": 1}}}, {}),
    ({"t": {"$exists": False}}, {"t": None}),
    ({"t": 0}, {"t": None}),
    ({"t": {"$lt": 1}}, {"t": None}),
    ({"t": False}, {"t": None}),
    ({"t": 1}, {"t": True}),
    ({"t": True}, {"t": 1}),
    ({"t": False}, {"t": 0}),
    ({"t": {"$in": [1, 0]}}, {"t": True}),
    ({"t": {"$gt": 0}}, {"t": True}),
    ({"t": {"$gte": 0}}, {"t": math.nan}),
    ({"t": 2**53 + 1}, {"t": float(2**53)}),
    ({"t": 5}, {"t": "5"}),
    ({"t": "5"}, {"t": 5}),
    ({"t": {"$gt": 1}}, {"t": "5"}),
    ({"t": {"$lt": "9"}}, {"t": 5}),
    ({"t": {"$in": ["5"]}}, {"t": 5}),
    ({"t": {"$regex": "5"}}, {"t": 5}),
    ({"s": {"$regex": "a.c"}}, {"s": "a\nc"}),
    ({"s": {"$regex": "b"}}, {"s": "\ud800"}),
    ({"l": 3}, {"l": [1, 2]}),
    ({"l": 1}, {"l": []}),
    ({"l": {"$ne": 1}}, {"l": []}),
    ({"l": {"$ne": 1}}, {"l": [1, 1]}),
    ({"l": 1}, {"l": [[1]]}),
    ({"l": {"$elem": {"$gt": 5, "$lt": 3}}}, {"l": [2, 6]}),
    ({"l": {"$elem": {"a": 1, "b": 2}}}, {"l": [{"a": 1}, {"b": 2}]}),
    ({"l": {"$elem": {"$gt": 1}}}, {"l": 2}),
    ({"l": {"$elem": {"a": 1}}}, {"l": [{"metrics": {"a": 1}}]}),
    ({"o": {"$eq": 1}}, {"o": {"a": 1}}),
    ({"$and": [{"a": 1}, {"b": 2}]}, {"a": 1}),
    ({"$or": [{"a": 1}, {"b": 2}]}, {"a": 2}),
    ({"$not": {}}, {"a": 1}),
    ({"a": 1, "$or": [{"b": 1}]}, {"a": 1}),
]


@pytest.mark.parametrize(("spec", "payload"), HOLDS)
def test_filter_holds(spec: Any, payload: Any) -> None:
    assert compile_filter(spec)(payload)


@pytest.mark.parametrize(("spec", "payload"), FAILS)
def test_filter_does_not_hold(spec: Any, payload: Any) -> None:
    assert not compile_filter(spec)(payload)
