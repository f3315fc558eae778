"""How children of the stack ended, as their supervisor tells."""

import time
from collections.abc import Generator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import structlog

from pulse_cli.embedded.supervisor import CHILD_DIED, CHILD_STOPPED

KILLED: Final = -9
_ENDS: Final = frozenset({CHILD_DIED, CHILD_STOPPED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """The end of one process."""

    name: str
    """Of the child that it was."""
    pid: int
    status: int
    at: float
    """When it was noticed."""


class Deaths:
    """How each process ended. Made by `noting_deaths`."""

    def __init__(self) -> None:
        self._found: dict[int, Death] = {}

    def status(self, pid: int) -> int | None:
        """Return how a process ended, minus the number of the signal if one ended it; None if it did not."""
        return self._found[pid].status if pid in self._found else None

    def killed(self, name: str, since: float) -> list[Death]:
        """Return the processes of a child that were killed, in that order."""
        return [
            death
            for death in self._found.values()
            if (death.name, death.status) == (name, KILLED) and death.at >= since
        ]

    def note(self, name: str, pid: int, status: int) -> None:
        self._found[pid] = Death(name=name, pid=pid, status=status, at=time.monotonic())


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
