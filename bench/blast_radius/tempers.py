"""How a receiver behaves. The ways in which destinations go wrong in practice, apart from saying a plain no."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final


class Temper(StrEnum):
    """One receiver's behaviour."""

    CALM = "calm"
    """204 at once."""
    HANG = "hang"
    """Reads the request and never answers."""
    SLOW = "2s"
    """204 after two seconds."""
    REFUSE = "refuse"
    """The port is closed, and what was connected is cut."""
    ERROR = "500"
    """500 at once."""
    DRIP = "drip"
    """Answers 200, then one byte of the body a second."""


HOSTILE: Final = (Temper.HANG, Temper.SLOW, Temper.REFUSE, Temper.ERROR, Temper.DRIP)
MIXED: Final = "mixed"


def spread(mode: str, strands: Iterable[int]) -> dict[int, Temper]:
    """Give each strand the temper that *mode* names, or all hostile ones in turn if it is ``mixed``."""
    if mode != MIXED:
        return dict.fromkeys(strands, Temper(mode))
    return {strand: HOSTILE[nth % len(HOSTILE)] for nth, strand in enumerate(strands)}
