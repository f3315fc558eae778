"""Who is swept at which look."""

from collections import deque
from collections.abc import Iterable
from math import ceil
from typing import Final

from pulse_contracts.subjects import RouteAddress

_FEWEST: Final = 100
LOOKS: Final = 30
"""A round takes no more looks than this, however many routes wait: `max_age` is kept within a minute."""


class Rota:
    """Names some routes at each look, so that all have been named after at most `LOOKS`."""

    def __init__(self) -> None:
        self._left: deque[RouteAddress] = deque()
        self._at_once = _FEWEST

    def next(self, everybody: Iterable[RouteAddress]) -> list[RouteAddress]:
        """Return whose turn to be swept it is; a new round is one over *everybody*."""
        if not self._left:
            self._left.extend(everybody)
            self._at_once = max(_FEWEST, ceil(len(self._left) / LOOKS))
        return [self._left.popleft() for _ in range(min(self._at_once, len(self._left)))]
