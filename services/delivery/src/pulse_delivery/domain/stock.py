"""What one route has in the siding, as far as a process can know.

The server counts messages by route, but bytes only of the whole. What this process shunted it knows to the byte; what
others shunted, or itself before it started, it values at the mean of what it has read of the route.
"""

from dataclasses import dataclass
from typing import Final

_REMEMBERED: Final = 64
"""So many readings weigh alike; from then on the older ones fade."""


@dataclass(slots=True, kw_only=True)
class Stock:
    """One route's account.

    A count of the server may or may not include what was on its way meanwhile, so a message passes three stages:
    coming, fresh (committed since the last count began), settled (any later count includes it, until it leaves).
    """

    settled: int = 0
    settled_bytes: float = 0.0
    fresh: int = 0
    fresh_bytes: float = 0.0
    coming: int = 0
    coming_bytes: float = 0.0
    others: int = 0
    """Messages of which only the number is known."""
    readings: int = 0
    reading_bytes: float = 0.0
    """Mean size of the messages of this route that were read where they stand."""

    @property
    def messages(self) -> int:
        return self.settled + self.fresh + self.coming + self.others

    def size_bytes(self, usual_bytes: float) -> float:
        """Return what the route occupies; *usual_bytes* is the size of a message of which nothing is known."""
        each = self.reading_bytes if self.readings else usual_bytes
        return self.settled_bytes + self.fresh_bytes + self.coming_bytes + self.others * each

    def comes(self, size_bytes: int) -> None:
        """A message is on its way."""
        self.coming += 1
        self.coming_bytes += size_bytes

    def came(self, size_bytes: int, *, stays: bool) -> None:
        """It arrived, or it came to nothing."""
        self.coming -= 1
        self.coming_bytes -= size_bytes
        if stays:
            self.fresh += 1
            self.fresh_bytes += size_bytes

    def count_begins(self) -> None:
        """The server is asked now: it counts everything committed before."""
        self.settled += self.fresh
        self.settled_bytes += self.fresh_bytes
        self.fresh, self.fresh_bytes = 0, 0.0

    def counted(self, messages: int) -> None:
        """Take the server's answer: what is missing has left, what is more came from others."""
        surplus = messages - self.messages
        missing = self.settled + self.others - messages
        if surplus > 0:
            self.others += surplus
        elif missing > 0:
            self._leave(missing)

    def read(self, size_bytes: int) -> None:
        """One of the messages that stand there was read."""
        self.readings = min(self.readings + 1, _REMEMBERED)
        self.reading_bytes += (size_bytes - self.reading_bytes) / self.readings

    def _leave(self, messages: int) -> None:
        """The oldest leave first, which are those of others; of our own it is not known which, so the mean leaves."""
        from_others = min(messages, self.others)
        self.others -= from_others
        stay = self.settled - (messages - from_others)
        self.settled_bytes *= stay / self.settled if self.settled else 0.0
        self.settled = stay
