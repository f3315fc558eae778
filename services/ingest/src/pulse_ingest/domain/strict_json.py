"""Strict JSON: what a device may send, so that no later reader stumbles over it.

| input                                   | why it is refused before the ack                              |
|-----------------------------------------|---------------------------------------------------------------|
| NaN, Infinity, 1e999                    | jsonb and other languages' parsers refuse them                |
| NUL, lone surrogates                    | jsonb refuses them                                            |
| duplicate keys                          | a filter and a customer could read different ones             |
| integers beyond 64 bit                  | other readers would round them                                |
| deeper than 32, more than 1,000 keys    | bounds the work of every reader                               |
| UTF-16, BOM                             | RFC 8259 §8.1 says UTF-8                                      |
"""

import json
import math
from typing import Any, Final

MAX_DEPTH: Final = 32
MAX_KEYS: Final = 1000
_MAX_PATH_CHARS: Final = 64
"""A path is kept for every member on the way: unbounded, one long key would be copied for each of its members."""
_INT64: Final = range(-(2**63), 2**63)


class JsonRefused(ValueError):
    """Bytes that are not JSON as we take it."""

    def __init__(self, reason: str, error: str, path: str = "") -> None:
        self.reason = reason
        """A short code, for counting and for quarantine."""
        self.path = path
        """Where in the payload, as far as that is known."""
        super().__init__(f"{path}: {error}" if path else error)


def parse(data: bytes, *, max_keys: int = MAX_KEYS, max_depth: int = MAX_DEPTH) -> Any:
    """Return the value of *data*; raises `JsonRefused` naming the first thing that is wrong."""
    try:
        text = data.decode()
        value = json.loads(
            text, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_int64, object_pairs_hook=_unique
        )
    except UnicodeDecodeError as exc:
        raise JsonRefused("payload_not_utf8", f"not UTF-8 at byte {exc.start}") from exc
    except RecursionError as exc:
        raise JsonRefused("payload_too_deep", f"nested deeper than {max_depth}") from exc
    except json.JSONDecodeError as exc:
        raise JsonRefused("payload_not_json", f"not JSON: {exc.msg.lower()} at character {exc.pos}") from exc
    _check_values(value, max_keys, max_depth)
    return value


def _refuse_constant(name: str) -> float:
    raise JsonRefused("payload_number", f"{name} is not a number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise JsonRefused("payload_number", f"number {text[:32]} is out of range")
    return number


def _int64(text: str) -> int:
    # A long digit string is refused by its length: int() of it would cost quadratic time.
    if len(text) > 20 or int(text) not in _INT64:  # noqa: PLR2004 - a sign and the 19 digits of 2**63
        raise JsonRefused("payload_number", f"integer {text[:32]} does not fit 64 bits")
    return int(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise JsonRefused("payload_duplicate_key", "the key occurs twice", _printable(_first_repeated(pairs)))
    return members


def _first_repeated(pairs: list[tuple[str, Any]]) -> str:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            return name
        seen.add(name)
    raise AssertionError("no key occurs twice")


def _check_values(root: Any, max_keys: int, max_depth: int) -> None:
    """Walk without recursion: depth, number of keys, and characters that PostgreSQL refuses."""
    keys = 0
    waiting: list[tuple[Any, int, str]] = [(root, 1, "")]
    while waiting:
        value, depth, path = waiting.pop()
        if depth > max_depth:
            raise JsonRefused("payload_too_deep", f"nested deeper than {max_depth}", path)
        if isinstance(value, str):
            _check_text(value, path)
        elif isinstance(value, dict):
            members: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType] - JSON objects have text keys
            keys += len(members)
            if keys > max_keys:
                raise JsonRefused("payload_too_many_keys", f"more than {max_keys} keys")
            for name, member in members.items():
                _check_text(name, path)
                waiting.append((member, depth + 1, _below(path, name)))
        elif isinstance(value, list):
            items: list[Any] = value  # pyright: ignore[reportUnknownVariableType] - JSON
            waiting.extend((item, depth + 1, path) for item in items)


def _below(path: str, name: str) -> str:
    name = name[:_MAX_PATH_CHARS]
    return f"{path}.{name}"[:_MAX_PATH_CHARS] if path else name


def _printable(name: str) -> str:
    """Return the beginning of a key that was not checked yet, fit for an answer and a log line."""
    return name[:_MAX_PATH_CHARS].encode(errors="replace").decode().replace("\x00", "?")


def _check_text(text: str, path: str) -> None:
    if "\x00" in text:
        raise JsonRefused("payload_nul", "contains a NUL character", path)
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise JsonRefused("payload_surrogate", "contains a lone surrogate", path) from exc
