"""How long a troubled destination is left alone: exponential with a cap and full jitter.

With the default policy (first 1 s, factor 2, cap 300 s) the n-th failure in a row pauses for at most

    n        1    2    3    4    5    6    7     8     9     10
    seconds  1    2    4    8    16   32   64    128   256   300

and for a uniformly random part of that, not below a tenth: full jitter spreads the probes of many routes, the floor
keeps one route from probing twice in a row.
"""

from collections.abc import Callable

from pulse_contracts.routes import LONGEST_PAUSE_S, RoutePolicy

_FLOOR = 0.1


def pause_s(failures: int, policy: RoutePolicy, retry_after_s: float | None, random: Callable[[], float]) -> float:
    """Return the pause after the *failures*-th failure in a row; a destination's Retry-After is honoured, clamped."""
    exponent = min(failures - 1, 64)
    longest = min(policy.backoff_first_s * policy.backoff_factor**exponent, policy.backoff_cap_s)
    jittered = longest * max(random(), _FLOOR)
    return max(jittered, asked_s(retry_after_s))


def asked_s(retry_after_s: float | None) -> float:
    """Return how long the destination asked to be left alone, clamped."""
    return min(retry_after_s or 0.0, LONGEST_PAUSE_S)
