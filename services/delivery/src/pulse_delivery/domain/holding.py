"""What a process holds of what it has taken off DELIVERY, and how much more it may ask for. Synchronous and pure.

    held     = taken and not settled: in flight, waiting in lanes, on the way to the siding, out of reach
    promised = prefetched, and what the open pull requests may still bring
    always   held + promised <= the bound, in messages and in bytes

The last quarter is for what comes, and no more than it may be promised in all. Before it is used up, lanes whose
messages wait hand them back, the slowest first, so that no lane stops the pulling of all, also while other kinds leave
unused what they were promised. A kind that cannot be reached holds its part and leaves the others theirs; just after
that nothing is promised of the last quarter, so that what gathered meanwhile comes no faster than it leaves.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from pulse_delivery.domain.limits import FOR_WHAT_COMES, LaneLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """An amount of messages."""

    messages: int = 0
    size_bytes: int = 0

    def __add__(self, other: "Load") -> "Load":
        return Load(messages=self.messages + other.messages, size_bytes=self.size_bytes + other.size_bytes)

    def __sub__(self, other: "Load") -> "Load":
        return Load(messages=self.messages - other.messages, size_bytes=self.size_bytes - other.size_bytes)

    def over(self, parts: int) -> "Load":
        """Return one of so many equal parts."""
        return Load(messages=self.messages // parts, size_bytes=self.size_bytes // parts)

    def least(self, *others: "Load") -> "Load":
        """Return the smallest of each, and nothing below zero."""
        every = (self, *others)
        return Load(
            messages=max(0, min(each.messages for each in every)),
            size_bytes=max(0, min(each.size_bytes for each in every)),
        )

    @classmethod
    def total(cls, loads: Iterable["Load"]) -> Self:
        listed = list(loads)
        return cls(messages=sum(each.messages for each in listed), size_bytes=sum(each.size_bytes for each in listed))


class Holding:
    """The account of one process. Each kind of destination has a consumer, and its pull requests, of its own."""

    def __init__(self, limits: LaneLimits, kinds: Iterable[str]) -> None:
        self._most = Load(messages=limits.held_messages, size_bytes=limits.held_bytes)
        self._kinds = frozenset(kinds)
        self._held: defaultdict[str, Load] = defaultdict(Load)
        self.held = Load()
        """Of all kinds."""

    def took(self, kind: str, size_bytes: int) -> None:
        """A message was taken, or taken up again."""
        one = Load(messages=1, size_bytes=size_bytes)
        self._held[kind] += one
        self.held += one

    def settled(self, kind: str, size_bytes: int) -> None:
        """A message was acknowledged or given back."""
        one = Load(messages=1, size_bytes=size_bytes)
        self._held[kind] -= one
        self.held -= one

    def room(self, kind: str, promised: Mapping[str, Load], *, is_down: bool, was_down: bool = False) -> Load:
        """Return how much may be promised to a kind; *promised* is what every kind has been promised.

        Each gets an even part of what is left, less what the others have not given back yet. A kind that is down holds
        its messages for as long as that lasts, so it stops earlier: with n kinds at one part in n + 1. One that *was
        down* just now has a backlog and gets no more than lanes hold without handing anything back.
        """
        left, kinds = (self._most_in_lanes if was_down else self._most) - self.held, max(1, len(self._kinds))
        others = Load.total(load for other, load in promised.items() if other != kind)
        room = left.over(kinds).least(left - others, self.most_at_once)
        if is_down:
            return room.least(self._most.over(len(self._kinds) + 1) - self._held[kind])
        return room

    @property
    def most_at_once(self) -> Load:
        """What may be promised to a kind at most; a message larger than this could never be taken."""
        return self._most.over(FOR_WHAT_COMES * max(1, len(self._kinds)))

    def excess(self, in_lanes: int) -> int:
        """Return how many of the messages *in_lanes* are too many; at least 1 while the bodies are too large."""
        most = self._most_in_lanes
        return max(0, in_lanes - most.messages, int(self.held.size_bytes > most.size_bytes))

    @property
    def _most_in_lanes(self) -> Load:
        return self._most - self._most.over(FOR_WHAT_COMES)
