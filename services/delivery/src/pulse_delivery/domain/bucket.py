"""A token bucket. Its tokens are called permits: a token is a credential, or a part of a subject."""

from math import inf
from typing import Final

_ROUNDING_S: Final = 1e-6
"""A permit is due this much earlier: sums of fractions must not cost one, and no event loop wakes more exactly."""


class Bucket:
    """Gives leave for attempts: never for more than ``burst + per_s * t`` within any time *t*.

    All it remembers is when it will be full again, so nothing has to be refilled:

        permits now              burst - per_s * max(full_at - now, 0)
        the n-th permit is due   max(full_at, now) + (n - burst) / per_s

    It may be asked with a time that went back: that only makes it stricter.
    """

    def __init__(self, *, per_s: float, burst: float) -> None:
        """*burst* is at least 1; a fraction of a permit is what a process's share may come to."""
        self._per_s = per_s
        self._burst = burst
        self._full_at = -inf

    def wait_s(self, now: float, nth: int = 1) -> float:
        """Return in how long the *nth* permit from now on is due if nobody else takes one; 0 if it is here."""
        wait_s = max(self._full_at, now) + (nth - self._burst) / self._per_s - now
        return wait_s if wait_s > _ROUNDING_S else 0.0

    def take(self, now: float) -> bool:
        """Take a permit if one is here."""
        if self.wait_s(now):
            return False
        self.owe(now)
        return True

    def owe(self, now: float) -> None:
        """Count an attempt that was made in any case: without a permit, the next ones come later."""
        self._full_at = max(self._full_at, now) + 1 / self._per_s

    def change(self, now: float, *, per_s: float, burst: float) -> None:
        """Go on at another rate. Permits that are here stay, as far as there is room; none are added."""
        permits = self._burst - self._per_s * max(self._full_at - now, 0.0)
        self._full_at = now + (burst - permits) / per_s
        self._per_s, self._burst = per_s, burst

    def is_full(self, now: float) -> bool:
        """Whether it is as good as a new one."""
        return self._full_at <= now
