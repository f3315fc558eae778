"""Repeats: deliveries of what was delivered before. Each needs a fault that explains it.

A kill of a delivery process explains what that process had in hand: delivered, and not acknowledged when it died. Its
connection tells who delivered, and the time whether it can have been in hand still. Of other faults, as of a broker's
that forgets its latest acks, only the time tells.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from pulse_cli.ledger.facts import Books, Fault, Receipt
from pulse_cli.ledger.fates import arrivals_of, stored_entries
from pulse_cli.ledger.findings import Finding, found_in

_LOOKBACK_S: Final = 5.0
"""A broker that is killed forgets the acks of about its last second; a delivery in flight lasts a little longer."""
IN_HAND_S: Final = 9.0
"""So long a delivery is in hand at most: the record of its attempt gathers, and is given up if it takes more than 8 s.

On a busy machine 3.6 s were measured.
"""


_HOPS: Final = {"mqtt_republish": 2}
"""On each a fault can lose an acknowledgement: that of the broker to delivery, and the subscriber's to the broker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """What a fault explains and no other does."""

    fault: Fault
    repeats: int
    longest_s: float
    """Between the first of them to be delivered and the fault."""

    def __str__(self) -> str:
        return f"{self.fault.name}: {self.repeats} made again, delivered {self.longest_s:.2f} s before it at most"


def duplicates_are_explained(books: Books) -> Iterator[Finding]:
    """Each delivery beyond the first has a fault of its own that explains it: without one there are none."""
    for destination in books.destinations:
        hops = _HOPS.get(destination.route.kind, 1)
        unexplained = [
            entry
            for entry, receipts in arrivals_of(books, destination).items()
            if not _are_explained(books.faults, receipts, hops)
        ]
        yield from found_in("duplicates_are_explained", unexplained, f"at {destination.route.name}")


def duplicates_are_bounded(books: Books) -> Iterator[Finding]:
    """There are no more duplicates than what was struck can have had in hand."""
    for each in explained(books):
        if each.repeats > each.fault.in_hand:
            detail = f"{each.repeats} deliveries were made again, {each.fault.in_hand:g} can have been in hand"
            yield Finding(invariant="duplicates_are_bounded", subjects=(each.fault.name,), detail=detail)


def explained(books: Books) -> list[Explained]:
    """Return how much each fault explains alone, without those that explain nothing."""
    alone: Counter[int] = Counter()
    longest_s: defaultdict[int, float] = defaultdict(float)
    for destination in books.destinations:
        for receipts in arrivals_of(books, destination).values():
            for earlier, later in pairwise(receipts):
                reasons = _reasons(books.faults, earlier, later)
                if len(reasons) == 1:
                    [index] = reasons
                    alone[index] += 1
                    longest_s[index] = max(longest_s[index], books.faults[index].began - earlier.at)
    return [
        Explained(fault=books.faults[index], repeats=count, longest_s=longest_s[index])
        for index, count in sorted(alone.items())
    ]


def duplicates(books: Books) -> int:
    """Count receipts and rows beyond the first."""
    groups = [arrivals_of(books, destination) for destination in books.destinations]
    again = sum(len(receipts) - 1 for group in groups for receipts in group.values())
    return again + len(books.holdings.stored) - len(stored_entries(books))


def _are_explained(faults: Sequence[Fault], receipts: Sequence[Receipt], hops: int) -> bool:
    reasons = [_reasons(faults, earlier, later) for earlier, later in pairwise(receipts)]
    return all(reasons) and len(reasons) <= hops * len({index for found in reasons for index in found})


def _reasons(faults: Sequence[Fault], earlier: Receipt, later: Receipt) -> list[int]:
    """Return which faults can have kept a delivery from being acknowledged, so that it was made again."""
    return [index for index, fault in enumerate(faults) if fault.in_hand and _explains(fault, earlier, later)]


def _explains(fault: Fault, earlier: Receipt, later: Receipt) -> bool:
    if later.at < fault.began:
        return False
    if fault.killed is None:
        return fault.began - _LOOKBACK_S <= earlier.at <= fault.ended + _LOOKBACK_S
    if earlier.sender is None:  # a broker was between them, and may have taken its time
        return fault.began - IN_HAND_S <= earlier.at <= fault.began + _LOOKBACK_S
    return earlier.sender == fault.killed and fault.began - IN_HAND_S <= earlier.at
