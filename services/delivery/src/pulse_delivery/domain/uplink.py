"""Whether the destinations of one kind can be reached at all from here: it tells our own trouble from theirs.

A destination in trouble is its own; but when the name service or the way out is gone, *every* destination seems to be,
and moving everybody to the siding would be work for nothing. Down means: of the routes that could be reached within
the last minute, and of their tenants, more than half cannot now, and nobody was reached for half a second. One
answer proves the way out, so no tenant, however many dead endpoints it has, can stop another's deliveries.
"""

from collections import OrderedDict
from typing import Final, assert_never

from pulse_contracts.ids import TenantId
from pulse_contracts.outcome import Delivered, Failed, Outcome, Reach, Rejected
from pulse_contracts.subjects import RouteAddress

_HORIZON_S: Final = 60.0
_QUIET_S: Final = 0.5
_FEWEST: Final = 5
"""Fewer routes than this prove nothing; what little they have goes to the siding."""


class Uplink:
    """What is known of one kind's way out."""

    def __init__(self) -> None:
        self._reached: OrderedDict[RouteAddress, float] = OrderedDict()
        self._lost: set[RouteAddress] = set()
        self._reached_at: float | None = None
        """When anybody was reached last, None if nobody ever was."""
        self._has_given_up = False
        self.is_down = False

    def note(self, address: RouteAddress, outcome: Outcome, now: float) -> None:
        """Take an outcome into account."""
        match reach_of(outcome):
            case Reach.DESTINATION:
                self._reached[address] = now
                self._reached.move_to_end(address)
                self._reached_at = now
                self._lost.clear()
                self.is_down = False
            case Reach.NOWHERE:
                self.suspect(address, now)
            case Reach.UNKNOWN:
                pass

    def suspect(self, address: RouteAddress, now: float) -> None:
        """Count a route as cut off: it failed on this side, or has not answered for suspiciously long."""
        if self.is_down or (self._has_given_up and self._reached_at is None):
            return
        self._forget_old(now)
        if address in self._reached or self._reached_at is None:
            self._lost.add(address)
            self.is_down = len(self._lost) >= _FEWEST and self._is_majority(now)

    def remains(self, address: RouteAddress, failed_at: float, now: float) -> None:
        """Go on counting a route as cut off that nobody tries meanwhile, unless it was reached after it failed."""
        if self._reached.get(address, failed_at) <= failed_at:
            self.suspect(address, now)

    def give_up(self) -> bool:
        """Take it for theirs until somebody is reached, if nobody ever was; returns whether it is so.

        For when nobody else can be tried any more: without a proof either way it would never end.
        """
        if self._reached_at is not None:
            return False
        self._has_given_up = True
        self._lost.clear()
        self.is_down = False
        return True

    def _is_majority(self, now: float) -> bool:
        if self._reached_at is None:
            # One tenant alone proves nothing: its dead endpoints must not stop everybody after a start.
            return len(_tenants(self._lost)) > 1
        if now - self._reached_at < _QUIET_S:
            return False
        return 2 * len(self._lost) > len(self._reached) and 2 * len(_tenants(self._lost)) > len(_tenants(self._reached))

    def _forget_old(self, now: float) -> None:
        while self._reached:
            address, reached_at = next(iter(self._reached.items()))
            if now - reached_at < _HORIZON_S:
                return
            del self._reached[address]
            self._lost.discard(address)


def reach_of(outcome: Outcome) -> Reach:
    """Return how far an attempt came."""
    match outcome:
        case Delivered():
            return Reach.DESTINATION
        case Rejected(status=status):
            return Reach.UNKNOWN if status is None else Reach.DESTINATION
        case Failed(reach=reach):
            return reach
        case _:
            assert_never(outcome)


def _tenants(addresses: set[RouteAddress] | OrderedDict[RouteAddress, float]) -> set[TenantId]:
    return {address.tenant for address in addresses}
