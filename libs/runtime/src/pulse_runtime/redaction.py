"""What counts as a secret when settings and log events are shown.

Two nets, because each has holes: the name of a field, and the shape of a value.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, cast

MASK: Final = "***"

_SECRET_NAME: Final = re.compile(
    r"token|passwd|password|pwd|secret|authorization|credential|cookie|(?:^|_)(?:api|access|private|master)?keys?(?:_|$)"
)
_CAMEL_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

# The first column is looked for in the lower-case text before its pattern is tried: nearly all logged strings are ids,
# and trying all patterns on each cost more than the rest of the line (56 µs a line against 38).
_SHAPES: Final = (
    ("whsec_", re.compile(r"whsec_[A-Za-z0-9+/=_-]+", re.IGNORECASE), f"whsec_{MASK}"),
    ("bearer", re.compile(r"\b(bearer)\s+[^\s\"',;]+", re.IGNORECASE), rf"\1 {MASK}"),
    (
        "authorization",
        re.compile(r"\b(authorization['\"]?\s*[:=]\s*['\"]?)(?!bearer)(?:basic\s+)?[^\s\"',;]+", re.IGNORECASE),
        rf"\1{MASK}",
    ),
    ("@", re.compile(r"(://[^/\s:@]*):[^\s/]+@"), rf"\1:{MASK}@"),
    # NATS takes a token in the place of the user name; other schemes have a plain user name there.
    ("@", re.compile(r"\b((?:nats|tls|wss?)://)[^/\s:@]+@"), rf"\1{MASK}@"),
    *(
        (word, re.compile(rf"({word}['\"]?\s*[:=]\s*['\"]?)[^\s&\"',;]+", re.IGNORECASE), rf"\1{MASK}")
        for word in ("password", "token", "secret", "api_key", "apikey", "api-key")
    ),
)

_DEEPEST: Final = 6


@lru_cache(maxsize=4096)
def looks_secret(name: str) -> bool:
    """Whether a field of this name holds a secret, whatever its value looks like."""
    words = _CAMEL_HUMP.sub("_", name).lower().replace("-", "_").replace(".", "_")
    return _SECRET_NAME.search(words) is not None


def redact(text: str) -> str:
    """`text` with everything shaped like a secret replaced; the words around it stay."""
    lowered = text.lower()
    for needle, shape, replacement in _SHAPES:
        if needle in lowered:
            text = shape.sub(replacement, text)
    return text


def mask(name: str, value: object) -> object:
    """The value as it may be shown under `name`: JSON types only, so that no later `repr` can reveal anything."""
    return _mask(name, value, _DEEPEST)


def _mask(name: str, value: object, depth: int) -> object:
    if value is None or isinstance(value, bool):
        return value
    if looks_secret(name):
        return MASK
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, str):
        return redact(value)
    return _mask_composite(name, value, depth)


def _mask_composite(name: str, value: object, depth: int) -> object:
    if depth == 0:
        return "..."
    if isinstance(value, Mapping):
        members = cast("Mapping[object, object]", value)
        return {redact(str(key)): _mask(str(key), member, depth - 1) for key, member in members.items()}
    if isinstance(value, list | tuple | set | frozenset):
        elements = cast("list[object] | tuple[object, ...] | set[object] | frozenset[object]", value)
        return [_mask(name, element, depth - 1) for element in elements]
    if isinstance(value, bytes):
        return redact(value.decode("utf-8", "backslashreplace"))
    return redact(str(value))
