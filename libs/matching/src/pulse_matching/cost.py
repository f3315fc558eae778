"""What a CEL expression may cost over a payload, estimated before it runs.

The engine counts only iterations (it stops after 10,000), not the work in each: ``payload == payload`` in a loop over
a list of 9,999 took 4 s, and ``a + a`` handed from loop to loop doubles a text each time. So expressions cannot use
``map`` and ``filter`` (quadratic in this engine: 7 s for 9,999 elements), and what has loops or regular expressions is
refused over payloads where the product below grows too large:

    iterations x operations x size of the payload

Each factor is a generous guess from the text alone; ordinary telemetry stays below the limit by orders of magnitude.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from pulse_matching.values import is_array, is_object

MAX_WORK: Final = 5_000_000
"""In units of about 40 ns, the time to compare two numbers: a fifth of a second."""

MAX_PAYLOAD_DEPTH: Final = 128
"""The engine recurses into a payload and ended the process (SIGSEGV) for one of 100,000 levels; 900 did no harm."""

_ENGINE_ITERATIONS: Final = 10_000
_CHARS_PER_OPERATION: Final = 16
_CHARS_PER_UNIT: Final = 16
_UNITS_PER_SEARCHED_CHAR: Final = 500
"""The worst pattern found, ``.{10,1000}x``, took 20 µs a character."""

_LOOP: Final = re.compile(r"\b(?:all|exists|exists_one|existsOne)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class CostModel:
    """What the text of an expression says about its cost."""

    loops: int
    operations: int
    growth: int
    """How much larger than the payload a text may become inside nested loops."""
    literals: int
    """At most so many elements has a list written in the expression."""
    searches: bool

    @property
    def is_linear(self) -> bool:
        """Tell whether cost follows the payload's size whatever is in it."""
        return not self.loops and not self.searches

    def work(self, payload: Mapping[str, object]) -> int:
        """Return the estimated work over *payload*, in the unit of `MAX_WORK`."""
        size = _measure(payload)
        per_char = _UNITS_PER_SEARCHED_CHAR if self.searches else 1 / _CHARS_PER_UNIT
        units = size.values + int(size.chars * per_char)
        widest = max(size.widest, self.literals) * self.growth
        return min(widest**self.loops, _ENGINE_ITERATIONS) * self.operations * units * self.growth


@dataclass(frozen=True, slots=True, kw_only=True)
class _Size:
    values: int
    chars: int
    widest: int


def cost_model(text: str) -> CostModel:
    """Read the cost model off an expression's text, counting rather too much than too little."""
    loops = len(_LOOP.findall(text))
    return CostModel(
        loops=loops,
        operations=1 + len(text) // _CHARS_PER_OPERATION,
        growth=2 ** text.count("+") if loops else 1,
        literals=1 + text.count(","),
        searches="matches" in text,
    )


def is_shallow(payload: Mapping[str, object]) -> bool:
    """Tell whether *payload* has at most `MAX_PAYLOAD_DEPTH` objects and arrays inside each other."""
    level: list[object] = [payload]
    for _ in range(MAX_PAYLOAD_DEPTH):
        level = [child for value in level for child in _children(value) if isinstance(child, Mapping | list)]
        if not level:
            return True
    return False


def _children(value: object) -> Iterable[object]:
    if is_object(value):
        return value.values()
    return value if is_array(value) else ()


def _measure(payload: Mapping[str, object]) -> _Size:
    """Count values, characters and the longest array or object, without recursion."""
    values = chars = widest = 0
    rest: list[object] = [payload]
    while rest:
        value = rest.pop()
        values += 1
        if isinstance(value, str):
            chars += len(value)
        elif is_object(value):
            widest = max(widest, len(value))
            rest += value.keys()
            rest += value.values()
        elif is_array(value):
            widest = max(widest, len(value))
            rest += value
    return _Size(values=values, chars=chars, widest=widest)
