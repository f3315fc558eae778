"""Regular expressions of tenants: RE2, bounded before they run."""

from collections.abc import Callable
from typing import Any, Final

import re2

MAX_PATTERN_CHARS: Final = 1024
MAX_PROGRAM_SIZE: Final = 2048
"""In RE2's instructions. A search may cost (program x text): ``(?:.{10,1000})x`` has 9,000 and took 20 µs a byte."""

_RE2: Final[Any] = re2
"""The package ships no types."""

_MAX_MEMORY_BYTES: Final = 1 << 20
"""For each compiled pattern: RE2's own 8 MiB would let a tenant of 1,000 routes hold 8 GiB."""


class InvalidPattern(ValueError):
    """A pattern that RE2 does not read, or that would be too costly to run."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"pattern: {reason}")


def compile_search(pattern: str) -> Callable[[str], bool]:
    """Return a function that tells whether *pattern* occurs in a text; it never raises and takes linear time.

    Raises `InvalidPattern` for what RE2 lacks (back references, look-around) and for programs beyond the bounds.
    """
    if len(pattern) > MAX_PATTERN_CHARS:
        raise InvalidPattern(f"longer than {MAX_PATTERN_CHARS} characters")
    try:
        compiled = _RE2.compile(pattern, _options())
    except (_RE2.error, UnicodeEncodeError) as exc:
        raise InvalidPattern(_explain(exc)) from exc
    if max(compiled.programsize, compiled.reverseprogramsize) > MAX_PROGRAM_SIZE:
        raise InvalidPattern(f"compiles to more than {MAX_PROGRAM_SIZE} instructions")

    def occurs(text: str) -> bool:
        # As bytes, for the package would raise on a lone surrogate in the text.
        return compiled.search(text.encode(errors="surrogatepass")) is not None

    return occurs


def _options() -> Any:
    options = _RE2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = _MAX_MEMORY_BYTES
    return options


def _explain(exc: Exception) -> str:
    if isinstance(exc, UnicodeEncodeError) or not exc.args:
        return "is not well-formed unicode"
    reason = exc.args[0]
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
