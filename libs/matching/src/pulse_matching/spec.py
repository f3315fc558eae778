"""The text and shape of a payload filter: what is refused before any rule is read."""

import json
import math
from collections.abc import Mapping
from typing import Final

from pulse_matching.values import is_array, is_object

MAX_SPEC_BYTES: Final = 16 * 1024
MAX_DEPTH: Final = 16
"""Objects and lists inside each other, the outermost included."""
MAX_OPERANDS: Final = 256
MAX_PATTERNS: Final = 8
"""Each may cost 4 µs a byte of the text it searches, so their number is a bound on what a message may cost."""


class InvalidPayloadFilter(ValueError):
    """A payload filter that cannot be obeyed, and where in it."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        """Where the fault is, such as ``$or[1].temperature.$gt``; empty for the filter as a whole."""
        self.reason = reason
        super().__init__(f"payload_filter{'.' if path else ''}{path}: {reason}")


def read_spec(spec: Mapping[str, object] | str | None) -> Mapping[str, object]:
    """Return the filter as an object within the bounds of size and depth; raises `InvalidPayloadFilter`.

    No filter (None, and the text ``null`` of old rows) is the empty one.
    """
    value = _parse(spec) if isinstance(spec, str) else spec
    if value is None:
        return {}
    _check_shape(value, "", 1)
    text = _text(value)
    _check_size(text)
    if text.count('"$regex":') > MAX_PATTERNS:
        raise InvalidPayloadFilter("", f"has more than {MAX_PATTERNS} regular expressions")
    return as_object(value, "")


def as_object(value: object, path: str) -> Mapping[str, object]:
    """Return *value* if it is an object; raises `InvalidPayloadFilter`."""
    if not is_object(value):
        raise InvalidPayloadFilter(path, "must be an object")
    return value


def as_list(value: object, path: str) -> list[object]:
    """Return *value* if it is a list of 1 to `MAX_OPERANDS`; raises `InvalidPayloadFilter`."""
    if not is_array(value) or not 0 < len(value) <= MAX_OPERANDS:
        raise InvalidPayloadFilter(path, f"must be a list of 1 to {MAX_OPERANDS}")
    return value


def member(path: str, name: str) -> str:
    """Return the path of a member of the object at *path*."""
    return f"{path}.{name}" if path else name


def _parse(text: str) -> object:
    _check_size(text)
    try:
        return json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as exc:
        if isinstance(exc, InvalidPayloadFilter):
            raise
        raise InvalidPayloadFilter("", f"is not json: {exc}") from exc


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise InvalidPayloadFilter("", f"has {name[:64]!r} twice in one object")
        found[name] = value
    return found


def _text(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except ValueError as exc:
        raise InvalidPayloadFilter("", "has a number of too many digits") from exc


def _check_size(text: str) -> None:
    if len(text.encode(errors="surrogatepass")) > MAX_SPEC_BYTES:
        raise InvalidPayloadFilter("", f"longer than {MAX_SPEC_BYTES} bytes")


def _check_shape(value: object, path: str, depth: int) -> None:
    """Refuse what is no JSON, is not finite or lies too deep."""
    if (is_object(value) or is_array(value)) and depth > MAX_DEPTH:
        raise InvalidPayloadFilter(path, f"nested deeper than {MAX_DEPTH}")
    if is_object(value):
        for name, item in value.items():
            if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance] - the caller may have erred
                raise InvalidPayloadFilter(path, "has a name that is no string")
            _check_shape(item, member(path, name), depth + 1)
    elif is_array(value):
        for place, item in enumerate(value):
            _check_shape(item, f"{path}[{place}]", depth + 1)
    elif not (value is None or isinstance(value, str | int | float)):
        raise InvalidPayloadFilter(path, f"holds a {type(value).__name__}, which json has not")
    elif isinstance(value, float) and not math.isfinite(value):
        raise InvalidPayloadFilter(path, "is not a finite number")
