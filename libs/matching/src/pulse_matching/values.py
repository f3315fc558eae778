"""How values of a payload are found, told apart and compared."""

import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final, TypeGuard


class Missing(Enum):
    """The value of a path that leads nowhere; unlike null, it is not present."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING

_DOT: Final = re.compile(r"(?<!\\)\.")


def is_object(value: object) -> TypeGuard[Mapping[str, object]]:
    """Tell whether a JSON value is an object."""
    return isinstance(value, Mapping)


def is_array(value: object) -> TypeGuard[list[object]]:
    """Tell whether a JSON value is an array."""
    return isinstance(value, list)


def split_path(text: str) -> tuple[str, ...]:
    r"""Split a dotted path into names; ``\.`` is a literal dot, any other backslash stands for itself."""
    return tuple(name.replace("\\.", ".") for name in _DOT.split(text))


def get(value: object, path: tuple[str, ...]) -> object:
    """Follow *path* through objects, not through arrays; returns `MISSING` where it ends early."""
    for name in path:
        if not is_object(value) or name not in value:
            return MISSING
        value = value[name]
    return value


def get_metric(payload: object, path: tuple[str, ...]) -> object:
    """Follow *path* through the payload's metrics, and through the payload if they lack it."""
    value = get(payload, ("metrics", *path))
    return get(payload, path) if value is MISSING else value


def identity(value: object) -> tuple[str, object] | None:
    """Return what two equal scalars have in common; None for an array, an object and a missing value.

    1 and 1.0 are the same number, True is none, and no string is a number.
    """
    if value is None or isinstance(value, bool):
        return ("constant", value)
    if isinstance(value, int | float):
        return ("number", value)
    return ("string", value) if isinstance(value, str) else None


def orders(compare: Callable[[Any, Any], bool], bound: float | str) -> Callable[[object], bool]:
    """Return whether a value lies on the wanted side of *bound*: numbers among numbers, strings by code point."""
    if isinstance(bound, str):
        return lambda value: isinstance(value, str) and compare(value, bound)
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and compare(value, bound)
