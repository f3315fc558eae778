"""Payload filters: conditions on the values of a payload, compiled once a route.

``{"temperature": {"$gt": 80}, "site": "a"}`` holds if both do. A filter is read in one of three scopes:

| scope                  | names mean                             | operators                  |
|------------------------|----------------------------------------|----------------------------|
| the payload            | dotted paths: metrics first, then payload | ``$and $or $not``       |
| a value (of a path)    | invalid                                | all                        |
| an element (``$elem``) | dotted paths inside the element        | all                        |

``$and``, ``$or`` and ``$not`` stay in the scope where they stand. The other operators look at a single value: of an
array they hold if one element satisfies them, one level deep, ``$ne`` and ``$nin`` included; so "no element is 5" is
``{"$not": {"$eq": 5}}``. ``$exists`` and ``$elem`` look at the array itself.
"""

import operator
from collections.abc import Callable, Mapping
from enum import Enum
from functools import partial
from typing import Any, Final, TypeAlias, assert_never

from pulse_matching.regex import InvalidPattern, compile_search
from pulse_matching.spec import InvalidPayloadFilter, as_list, as_object, member, read_spec
from pulse_matching.values import MISSING, get, get_metric, identity, is_array, is_object, orders, split_path

__all__ = ["InvalidPayloadFilter", "Predicate", "compile_filter"]

Predicate: TypeAlias = Callable[[Mapping[str, object]], bool]
_Test: TypeAlias = Callable[[object], bool]


class _Scope(Enum):
    PAYLOAD = "payload"
    VALUE = "value"
    ELEMENT = "element"


def compile_filter(spec: Mapping[str, object] | str | None) -> Predicate:
    """Return the predicate that *spec* (an object, or its JSON text) describes.

    Raises `InvalidPayloadFilter` with the path of the fault. The predicate never raises, keeps nothing, and takes time
    linear in the payload.
    """
    return _conjunction(read_spec(spec), _Scope.PAYLOAD, "")


def _conjunction(spec: Mapping[str, object], scope: _Scope, path: str) -> _Test:
    """Compile the members of one object, all of which must hold."""
    if not spec and scope is not _Scope.PAYLOAD:
        raise InvalidPayloadFilter(path, "names no condition")
    return _all([_member(name, operand, scope, member(path, name)) for name, operand in spec.items()])


def _member(name: str, operand: object, scope: _Scope, path: str) -> _Test:
    if name.startswith("$"):
        return _operator(name, operand, scope, path)
    match scope:
        case _Scope.PAYLOAD:
            find = get_metric
        case _Scope.ELEMENT:
            find = get
        case _Scope.VALUE:
            raise InvalidPayloadFilter(path, f"unknown operator; known are {' '.join(_KNOWN)}")
        case _:
            assert_never(scope)
    names = split_path(name)
    if not all(names):
        raise InvalidPayloadFilter(path, "has an empty name in its path")
    test = _condition(operand, path)
    return lambda value: test(find(value, names))


def _condition(operand: object, path: str) -> _Test:
    """Compile what stands beside a path: an object of operators, or a value to be equal to."""
    if is_object(operand):
        return _conjunction(operand, _Scope.VALUE, path)
    return _single(_equals(operand, path))


def _operator(name: str, operand: object, scope: _Scope, path: str) -> _Test:
    if name in _LOGICAL:
        return _LOGICAL[name](operand, scope, path)
    if name not in _OF_VALUES:
        raise InvalidPayloadFilter(path, f"unknown operator; known are {' '.join(_KNOWN)}")
    if scope is _Scope.PAYLOAD:
        raise InvalidPayloadFilter(path, "needs a path to stand beside")
    return _OF_VALUES[name](operand, path)


def _and(operand: object, scope: _Scope, path: str) -> _Test:
    return _all(_each(operand, scope, path))


def _or(operand: object, scope: _Scope, path: str) -> _Test:
    tests = _each(operand, scope, path)
    return lambda value: any(test(value) for test in tests)


def _not(operand: object, scope: _Scope, path: str) -> _Test:
    return _negated(_conjunction(as_object(operand, path), scope, path))


def _each(operand: object, scope: _Scope, path: str) -> list[_Test]:
    items = [(f"{path}[{place}]", item) for place, item in enumerate(as_list(operand, path))]
    return [_conjunction(as_object(item, at), scope, at) for at, item in items]


def _exists(operand: object, path: str) -> _Test:
    if not isinstance(operand, bool):
        raise InvalidPayloadFilter(path, "must be true or false")
    return lambda value: (value is not MISSING) is operand


def _elem(operand: object, path: str) -> _Test:
    test = _conjunction(as_object(operand, path), _Scope.ELEMENT, path)
    return lambda value: is_array(value) and any(map(test, value))


def _equals(operand: object, path: str) -> _Test:
    wanted = _scalar(operand, path)
    return lambda value: identity(value) == wanted


def _one_of(operand: object, path: str) -> _Test:
    wanted = frozenset(_scalar(item, f"{path}[{place}]") for place, item in enumerate(as_list(operand, path)))
    return lambda value: identity(value) in wanted


def _scalar(operand: object, path: str) -> tuple[str, object]:
    found = identity(operand)
    if found is None:
        raise InvalidPayloadFilter(path, "must be a string, a number, true, false or null")
    return found


def _ordered(compare: Callable[[Any, Any], bool], operand: object, path: str) -> _Test:
    if isinstance(operand, bool) or not isinstance(operand, int | float | str):
        raise InvalidPayloadFilter(path, "must be a number or a string")
    return orders(compare, operand)


def _regex(operand: object, path: str) -> _Test:
    if not isinstance(operand, str):
        raise InvalidPayloadFilter(path, "must be a string")
    try:
        occurs = compile_search(operand)
    except InvalidPattern as exc:
        raise InvalidPayloadFilter(path, exc.reason) from exc
    return lambda value: isinstance(value, str) and occurs(value)


def _single(test: _Test) -> _Test:
    """Let a test of single values hold for an array if it holds for one of its elements."""
    return lambda value: any(map(test, value)) if is_array(value) else test(value)


def _lifted(build: Callable[[object, str], _Test]) -> Callable[[object, str], _Test]:
    return lambda operand, path: _single(build(operand, path))


def _negated(test: _Test) -> _Test:
    return lambda value: not test(value)


def _all(tests: list[_Test]) -> _Test:
    return tests[0] if len(tests) == 1 else lambda value: all(test(value) for test in tests)


_SINGLE: Final[dict[str, Callable[[object, str], _Test]]] = {
    "$eq": _equals,
    "$ne": lambda operand, path: _negated(_equals(operand, path)),
    "$gt": partial(_ordered, operator.gt),
    "$gte": partial(_ordered, operator.ge),
    "$lt": partial(_ordered, operator.lt),
    "$lte": partial(_ordered, operator.le),
    "$in": _one_of,
    "$nin": lambda operand, path: _negated(_one_of(operand, path)),
    "$regex": _regex,
}

_OF_VALUES: Final[dict[str, Callable[[object, str], _Test]]] = {
    **{name: _lifted(build) for name, build in _SINGLE.items()},
    "$exists": _exists,
    "$elem": _elem,
}

_LOGICAL: Final[dict[str, Callable[[object, _Scope, str], _Test]]] = {"$and": _and, "$or": _or, "$not": _not}

_KNOWN: Final = sorted({*_OF_VALUES, *_LOGICAL})
