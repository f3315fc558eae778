"""The invariants: each a named check over the books that yields findings, none if it holds.

They say what must be true once a run has settled. Two of the checks ask for something besides the books, the patience
of a run and its calm before the fault: they are called where these are known.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from pulse_cli.ledger.facts import Books, Destination, Pair, digest_of
from pulse_cli.ledger.fates import (
    acceptable_entries,
    arrivals_of,
    fates_of,
    matches,
    quarantined_entries,
    receipts_of,
    stored_entries,
)
from pulse_cli.ledger.findings import Finding, found_in
from pulse_cli.ledger.repeats import duplicates_are_bounded, duplicates_are_explained

_HEALTHY_FACTOR: Final = 1.5
_HEALTHY_EXTRA_S: Final = 0.020

Check = Callable[[Books], Iterator[Finding]]


def acknowledged_is_kept(books: Books) -> Iterator[Finding]:
    """Acknowledged is stored, or on its way there; quarantined if nothing can be made of it."""
    yield from found_in("acknowledged_is_kept", fates_of(books).lost)


def kept_in_one_place(books: Books) -> Iterator[Finding]:
    """Nothing is stored and quarantined as well."""
    yield from found_in("kept_in_one_place", stored_entries(books) & quarantined_entries(books))


def stored_once(books: Books) -> Iterator[Finding]:
    """An id has at most one row."""
    rows = Counter(row.entry for row in books.holdings.stored)
    yield from found_in("stored_once", (entry for entry, count in rows.items() if count > 1))


def stored_as_sent(books: Books) -> Iterator[Finding]:
    """A row has the payload, the topic and the tenant that were sent."""
    attempted = books.sendings.attempted
    yield from found_in(
        "stored_as_sent",
        (
            row.entry
            for row in books.holdings.stored
            if (sent := attempted.get(row.entry))
            and (row.tenant, row.topic, row.digest) != (sent.tenant, sent.topic, digest_of(sent.payload))
        ),
    )


def nothing_from_nowhere(books: Books) -> Iterator[Finding]:
    """Nothing is kept, dead-lettered or received that was not sent."""
    found = stored_entries(books) | quarantined_entries(books)
    found |= {receipt.entry for receipt in books.receipts}
    found |= {entry for _, (entry, _) in books.holdings.dead_lettered}
    yield from found_in("nothing_from_nowhere", found - books.sendings.attempted.keys())


def every_match_has_a_fate(books: Books) -> Iterator[Finding]:
    """Matched is delivered, waiting or dead-lettered."""
    lost = (pair for fates in fates_of(books).routes.values() for pair in fates.lost)
    yield from found_in("every_match_has_a_fate", map(_pair, lost))


def dead_is_not_delivered(books: Books) -> Iterator[Finding]:
    """Nothing is told to be dead that was delivered."""
    delivered = {
        (receipt.entry, str(destination.route.route_id))
        for destination in books.destinations
        for receipt in receipts_of(books, destination)
    }
    yield from found_in("dead_is_not_delivered", map(_pair, _dead(books) & delivered))


def dead_does_not_wait(books: Books) -> Iterator[Finding]:
    """Nothing is told to be dead that stands in the siding: it would be delivered after all.

    What was delivered may stand there, if its receiver's answer came too late.
    """
    yield from found_in("dead_does_not_wait", map(_pair, _dead(books) & books.holdings.set_aside))


def only_matches_are_delivered(books: Books) -> Iterator[Finding]:
    """A receiver gets what its route's filters select, and nothing is dead-lettered that does not match."""
    attempted = acceptable_entries(books)
    for destination in books.destinations:
        owed = {entry for entry, _ in matches(books, destination, attempted)}
        route_id = destination.route.route_id
        got = {receipt.entry for receipt in receipts_of(books, destination)}
        got |= {entry for _, (entry, route) in books.holdings.dead_lettered if route == route_id}
        yield from found_in("only_matches_are_delivered", (got & attempted) - owed, f"at {destination.route.name}")


def tenants_are_apart(books: Books) -> Iterator[Finding]:
    """Nobody receives or sees what another tenant sent."""
    attempted = books.sendings.attempted
    seen = [(row.tenant, row.entry) for row in books.holdings.stored]
    seen += books.holdings.quarantined
    seen += [(tenant, entry) for tenant, (entry, _) in books.holdings.dead_lettered]
    seen += [
        (str(destination.route.tenant_id), receipt.entry)
        for destination in books.destinations
        for receipt in receipts_of(books, destination)
    ]
    foreign = {entry for tenant, entry in seen if entry in attempted and attempted[entry].tenant != tenant}
    yield from found_in("tenants_are_apart", foreign)


def receipts_are_genuine(books: Books) -> Iterator[Finding]:
    """What a receiver gets is signed with its route's secret and carries the payload that was sent."""
    yield from found_in("receipts_are_genuine", (each.entry for each in books.receipts if not each.is_genuine))


def addresses_are_current(books: Books) -> Iterator[Finding]:
    """Nothing goes to an address that no route has, nor to one that its route had before the message was sent."""
    until = {address.name: address.until for each in books.destinations for address in each.addresses}
    stray = {receipt.entry for receipt in books.receipts if receipt.address not in until}
    yield from found_in("addresses_are_current", stray, "at an address of no route")
    attempted = books.sendings.attempted
    stale = {
        receipt.entry
        for receipt in books.receipts
        if receipt.entry in attempted
        and attempted[receipt.entry].first_sent_at > until.get(receipt.address, float("inf"))
    }
    yield from found_in("addresses_are_current", stale, "at an address of an earlier revision")


def under_their_caps(books: Books) -> Iterator[Finding]:
    """Memory, sockets and queues stay under their caps."""
    for peak in books.peaks:
        if peak.seen > peak.cap:
            yield Finding(
                invariant="under_their_caps", subjects=(peak.name,), detail=f"{peak.seen:g}, the cap is {peak.cap:g}"
            )


CHECKS: Final[Sequence[Check]] = (
    acknowledged_is_kept,
    kept_in_one_place,
    stored_once,
    stored_as_sent,
    nothing_from_nowhere,
    every_match_has_a_fate,
    dead_is_not_delivered,
    dead_does_not_wait,
    only_matches_are_delivered,
    tenants_are_apart,
    receipts_are_genuine,
    addresses_are_current,
    duplicates_are_explained,
    duplicates_are_bounded,
    under_their_caps,
)


def examine(books: Books) -> list[Finding]:
    """Return everything that is wrong with the books."""
    return [finding for check in CHECKS for finding in check(books)]


def unsettled(books: Books) -> list[Finding]:
    """Return what still moves: allowed while a run has patience, a finding afterwards.

    A troubled route's messages may rest in the siding, and nowhere else. Delivered is not settled: what nobody
    acknowledges is delivered again.
    """
    holdings = books.holdings
    # What others send over the same streams is their own books' matter.
    ours = {str(destination.route.route_id): destination for destination in books.destinations}
    moving = [_pair(pair) for pair in holdings.undelivered | holdings.unfiled if pair[1] in ours]
    moving += [_pair(pair) for pair in holdings.set_aside if pair[1] in ours and ours[pair[1]].is_healthy]
    moving += books.sendings.attempted.keys() & (holdings.unstored | holdings.unrouted | holdings.unquarantined)
    return list(found_in("settled", moving, "not there yet"))


def as_quick_as_before(before_s: Sequence[float], after_s: Sequence[float]) -> list[Finding]:
    """Return a finding if the 99th percentile of *after_s* is beyond 1.5 times that of *before_s* and 20 ms.

    Nothing was quick in which nothing happened: without a delivery before and after there is a finding too.
    """
    if not before_s or not after_s:
        missing = ("after",) if before_s else ("before",)
        return [Finding(invariant="as_quick_as_before", subjects=missing, detail="nothing was delivered")]
    bound = healthy_bound_s(quantile(before_s, 0.99))
    seen = quantile(after_s, 0.99)
    if seen <= bound:
        return []
    detail = f"p99 {seen * 1000:.1f} ms, the bound is {bound * 1000:.1f} ms"
    return [Finding(invariant="as_quick_as_before", subjects=("p99",), detail=detail)]


def healthy_bound_s(p99_s: float) -> float:
    """Return how slow a healthy destination may become beside trouble, if it was as slow as that without."""
    return p99_s * _HEALTHY_FACTOR + _HEALTHY_EXTRA_S


def latencies_s(books: Books, destination: Destination, *, since: float, until: float) -> list[float]:
    """Return how long a receiver waited for each message first sent between *since* and *until*, in order."""
    attempted = books.sendings.attempted
    return sorted(
        min(receipt.at for receipt in receipts) - attempted[entry].first_sent_at
        for entry, receipts in arrivals_of(books, destination).items()
        if entry in attempted and since <= attempted[entry].first_sent_at < until
    )


def quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile of sorted *values*; 0 if there are none."""
    return values[min(len(values) - 1, int(len(values) * share))] if values else 0.0


def _dead(books: Books) -> set[Pair]:
    return {pair for _, pair in books.holdings.dead_lettered}


def _pair(pair: Pair) -> str:
    return ":".join(pair)
