"""Places where a test makes a process fail.

`PULSE_FAILPOINTS="ingest.ack_before_commit=on;delivery.after_post=kill:3"` arms points by name:

* `kill` or `kill:n`: the process ends itself with SIGKILL when the point is hit for the n-th time;
* `stop` or `stop:n`: it freezes itself then with SIGSTOP, until somebody sends SIGCONT;
* `block` or `block:n`: it stands still for three seconds then, in the middle of its event loop;
* `on`: a planted bug is switched on; the code asks with `enabled(name)`.

`PULSE_FAILPOINTS_FILE` names a file: hits count only while it is there, so that a test says from when.

Without `PULSE_FAILPOINTS` `hit` and `enabled` are functions that do nothing: no look-up, no counting.
"""

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from pulse_runtime.events import FAILPOINTS_ARMED

VARIABLE: Final = "PULSE_FAILPOINTS"
FILE_VARIABLE: Final = "PULSE_FAILPOINTS_FILE"
_BLOCKED_S: Final = 3.0


class FailpointsInvalid(ValueError):
    """The variable does not say which points to arm: a chaos test that arms nothing would pass for nothing."""

    def __init__(self, entry: str) -> None:
        self.entry = entry
        super().__init__(
            f"{VARIABLE}: {entry!r} is not `name=on`, or `name=` with `kill`, `stop` or `block`, alone or as `kill:n`"
        )


@dataclass(slots=True, kw_only=True)
class _Armed:
    effects: Mapping[str, tuple[Callable[[], None], int]]
    """What a point does to its own process, and at which hit."""
    bugs: frozenset[str]
    file: Path | None
    hits: dict[str, int] = field(default_factory=dict[str, int])

    def hit(self, name: str) -> None:
        """Count the hit; end, freeze or block the process if it is the one that was asked for."""
        if self.file and not self.file.exists():
            return
        self.hits[name] = self.hits.get(name, 0) + 1
        effect, at_hit = self.effects.get(name, (_kill, 0))
        if self.hits[name] == at_hit:
            effect()

    def enabled(self, name: str) -> bool:
        return name in self.bugs


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _block() -> None:
    time.sleep(_BLOCKED_S)


_EFFECTS: Final[Mapping[str, Callable[[], None]]] = {"kill": _kill, "stop": _stop, "block": _block}


def _parse(text: str, file: str) -> _Armed:
    effects: dict[str, tuple[Callable[[], None], int]] = {}
    bugs: set[str] = set()
    for entry in filter(None, (part.strip() for part in text.split(";"))):
        name, _, action = entry.partition("=")
        verb, _, count = action.partition(":")
        if name and action == "on":
            bugs.add(name)
        elif name and verb in _EFFECTS and (action == verb or (count.isdecimal() and int(count) > 0)):
            effects[name] = _EFFECTS[verb], int(count or 1)
        else:
            raise FailpointsInvalid(entry)
    return _Armed(effects=effects, bugs=frozenset(bugs), file=Path(file) if file else None)


def _hit_nothing(_name: str) -> None:
    pass


def _enabled_never(_name: str) -> bool:
    return False


_text: Final = os.environ.get(VARIABLE, "")
_armed: Final = _parse(_text, os.environ.get(FILE_VARIABLE, "")) if _text else None

hit: Callable[[str], None] = _hit_nothing if _armed is None else _armed.hit
"""Mark a place where a test may end or freeze the process."""

enabled: Callable[[str], bool] = _enabled_never if _armed is None else _armed.enabled
"""Whether a test switched this planted bug on."""


def announce() -> None:
    """Warn in the log if anything is armed: outside a test it is a mistake."""
    if _armed is not None:
        structlog.get_logger(logger_name=__name__).warning(FAILPOINTS_ARMED, failpoints=_text)
