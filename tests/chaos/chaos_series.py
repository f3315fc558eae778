"""What the services' metrics did since a moment, also across the death of a process."""

from collections import defaultdict
from typing import Final

_OURS: Final = "pulse_"
_BUCKET: Final = "_bucket{"


class Series:
    """Gets each service's page of metrics again and again."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], float] = {}
        self._risen: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._most: dict[tuple[str, str], float] = {}

    def begin(self) -> None:
        """Count from now on."""
        self._risen.clear()
        self._most.clear()

    def note(self, service: str, page: str) -> None:
        for line in page.splitlines():
            if line.startswith(_OURS) and _BUCKET not in line:
                name, _, text = line.rpartition(" ")
                self._note((service, name), float(text))

    def risen(self, service: str, metric: str) -> float:
        """Return by how much a counter grew over all its series, or over those with the label in *metric*."""
        return sum(value for key, value in self._risen.items() if _is_of(key, service, metric))

    def most(self, service: str, metric: str) -> float:
        """Return the most that a gauge came to; 0 if it was never seen."""
        return max((value for key, value in self._most.items() if _is_of(key, service, metric)), default=0.0)

    def _note(self, key: tuple[str, str], value: float) -> None:
        before = self._last.get(key, 0.0)
        # A process that starts again counts from 0.
        self._risen[key] += value - before if value >= before else value
        self._most[key] = max(value, self._most.get(key, 0.0))
        self._last[key] = value


def _is_of(key: tuple[str, str], service: str, metric: str) -> bool:
    name, _, label = metric.partition("{")
    series, _, labels = key[1].partition("{")
    return key[0] == service and series == name and label.rstrip("}") in labels
