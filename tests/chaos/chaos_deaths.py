"""How children of the stack ended, as their supervisor tells."""

from collections.abc import Generator, MutableMapping
from contextlib import contextmanager
from typing import Any, Final

import structlog

from pulse_cli.embedded.supervisor import CHILD_DIED, CHILD_STOPPED

KILLED: Final = -9
_ENDS: Final = frozenset({CHILD_DIED, CHILD_STOPPED})


class Deaths:
    """The status with which each process ended. Made by `noting_deaths`."""

    def __init__(self) -> None:
        self._statuses: dict[int, tuple[str, int]] = {}

    def status(self, pid: int) -> int | None:
        """Return how a process ended, minus the number of the signal if one ended it; None if it did not."""
        return self._statuses[pid][1] if pid in self._statuses else None

    def killed(self, name: str) -> int:
        """Count the processes of a child that were killed."""
        return sum(found == (name, KILLED) for found in self._statuses.values())

    def note(self, name: str, pid: int, status: int) -> None:
        self._statuses[pid] = (name, status)


@contextmanager
def noting_deaths() -> Generator[Deaths, None, None]:
    """Yield what the supervisor of this process logs within the block; its log stays as it is."""
    deaths = Deaths()

    def note(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if event.get("event") in _ENDS and event.get("status") is not None:
            deaths.note(event["child"], event["pid"], event["status"])
        return event

    processors = structlog.get_config()["processors"]
    processors.insert(0, note)
    try:
        yield deaths
    finally:
        processors.remove(note)
