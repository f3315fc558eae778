"""The reference matcher: slow, plain, and the judge of the others.

It shares no code with the matchers that the services run: topics are compared by recursion over lists, filters are
interpreted straight over the values. It expects filters that are valid.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import re2

_ABSENT = object()
_RE2: Any = re2  # it ships no types

Json = Any
"""A decoded JSON value: the reference trades types for plainness."""


def matches_route(
    topic_filter: str, payload_filter: Mapping[str, object] | None, topic: str, payload: Mapping[str, object]
) -> bool:
    """Tell whether a message of *topic* and *payload* belongs to a route with these (valid) filters."""
    return topic_matches(topic_filter, topic) and payload_matches(payload_filter, payload)


def topic_matches(topic_filter: str, topic: str) -> bool:
    """Tell whether a valid *topic_filter* selects *topic*."""
    if topic == "" or "+" in topic or "#" in topic or "\x00" in topic:
        return False
    if topic[0] == "$" and topic_filter[0] in "+#":
        return False
    return _levels(topic_filter.split("/"), topic.split("/"))


def _levels(wanted: Sequence[str], given: Sequence[str]) -> bool:
    if list(wanted) == ["#"]:
        return True
    if not wanted or not given:
        return not wanted and not given
    return wanted[0] in ("+", given[0]) and _levels(wanted[1:], given[1:])


def payload_matches(payload_filter: Mapping[str, object] | None, payload: Mapping[str, object]) -> bool:
    """Tell whether *payload* satisfies a valid *payload_filter*."""
    return all(_top(name, operand, payload) for name, operand in (payload_filter or {}).items())


def _top(name: str, operand: Json, payload: Json) -> bool:
    if name == "$and":
        return all(payload_matches(part, payload) for part in operand)
    if name == "$or":
        return any(payload_matches(part, payload) for part in operand)
    if name == "$not":
        return not payload_matches(operand, payload)
    value = _follow(_names(name), payload.get("metrics", _ABSENT))
    if value is _ABSENT:
        value = _follow(_names(name), payload)
    return _beside(operand, value)


def _names(path: str) -> list[str]:
    """Read a path from its end: a dot counts unless a backslash stands before it."""
    name = ""
    for place in range(len(path) - 1, -1, -1):
        escaped = place > 0 and path[place - 1] == "\\"
        if path[place] == "." and not escaped:
            return [*_names(path[:place]), name]
        dropped = path[place] == "\\" and name.startswith(".") and path[place + 1] == "."
        name = name if dropped else path[place] + name
    return [name]


def _follow(names: list[str], value: Json) -> Json:
    if not names:
        return value
    if _is(value, dict) and names[0] in value:
        return _follow(names[1:], value[names[0]])
    return _ABSENT


def _beside(operand: Json, value: Json) -> bool:
    """Judge what stands beside a path."""
    if not _is(operand, dict):
        return _apply("$eq", operand, value)
    return all(_apply(name, part, value) for name, part in operand.items())


def _apply(name: str, operand: Json, value: Json) -> bool:  # noqa: PLR0911 - a table of operators
    match name:
        case "$and":
            return all(_beside(part, value) for part in operand)
        case "$or":
            return any(_beside(part, value) for part in operand)
        case "$not":
            return not _beside(operand, value)
        case "$exists":
            return operand is (value is not _ABSENT)
        case "$elem":
            return _is(value, list) and any(_element(operand, item) for item in value)
        case _ if _is(value, list):
            return any(_compare(name, operand, item) for item in value)
        case _:
            return _compare(name, operand, value)


def _element(condition: Json, element: Json) -> bool:
    """Judge one element: names are operators on it or paths inside it."""
    for name, operand in condition.items():
        match name:
            case "$and":
                holds = all(_element(part, element) for part in operand)
            case "$or":
                holds = any(_element(part, element) for part in operand)
            case "$not":
                holds = not _element(operand, element)
            case _ if name.startswith("$"):
                holds = _apply(name, operand, element)
            case _:
                holds = _beside(operand, _follow(_names(name), element))
        if not holds:
            return False
    return True


def _compare(name: str, operand: Json, value: Json) -> bool:
    match name:
        case "$eq":
            return _same(value, operand)
        case "$ne":
            return not _same(value, operand)
        case "$in":
            return any(_same(value, item) for item in operand)
        case "$nin":
            return not any(_same(value, item) for item in operand)
        case "$regex":
            return isinstance(value, str) and _RE2.search(operand, value) is not None
        case _:
            return _kind(value) == _kind(operand) and _ordered(name, value, operand)


def _ordered(name: str, value: Json, operand: Json) -> bool:
    match name:
        case "$gt":
            return value > operand
        case "$gte":
            return value >= operand
        case "$lt":
            return value < operand
        case "$lte":
            return value <= operand
        case _:
            raise ValueError(f"no operator of payload filters: {name}")


def _same(left: Json, right: Json) -> bool:
    return _kind(left) == _kind(right) != "other" and left == right


def _is(value: Json, kind: type) -> bool:
    """Ask `isinstance` without telling the type checker, which would forget that elements are `Json`."""
    return isinstance(value, kind)


def _kind(value: Json) -> str:
    kinds: dict[Any, str] = {bool: "bool", int: "number", float: "number", str: "string", type(None): "null"}
    return kinds.get(type(value), "other")
