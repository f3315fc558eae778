"""Divides what a run owes: what became of each match, and of each entry. Sets, no counts."""

from collections.abc import Mapping
from dataclasses import dataclass

from pulse_cli.ledger.facts import Books, Destination, Entry, Pair, Receipt
from pulse_matching.reference import matches_route


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteFates:
    """What became of one route's matches: *matched* is the disjoint union of the other four."""

    matched: frozenset[Pair]
    delivered: frozenset[Pair]
    dead_lettered: frozenset[Pair]
    waiting: frozenset[Pair]
    lost: frozenset[Pair]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fates:
    """What became of everything."""

    routes: Mapping[str, RouteFates]
    """By route id, in the order of the destinations."""
    kept: frozenset[Entry]
    """What was acknowledged, and is stored, or quarantined for what it is."""
    unsettled: frozenset[Entry]
    """What was acknowledged, and is on its way to either."""
    lost: frozenset[Entry]
    """What was acknowledged, and is nowhere."""


def fates_of(books: Books) -> Fates:
    """Divide everything that is owed."""
    acknowledged = frozenset(books.sendings.acknowledged)
    # To quarantine what could have been stored is to lose it: nobody delivers it.
    kept = acknowledged & (stored_entries(books) | (quarantined_entries(books) - acceptable_entries(books)))
    on_the_way = books.holdings.unstored | books.holdings.unquarantined
    return Fates(
        routes={destination.route.route_id: _route_fates(books, destination) for destination in books.destinations},
        kept=kept,
        unsettled=(acknowledged - kept) & on_the_way,
        lost=acknowledged - kept - on_the_way,
    )


def stored_entries(books: Books) -> frozenset[Entry]:
    return frozenset(row.entry for row in books.holdings.stored)


def quarantined_entries(books: Books) -> frozenset[Entry]:
    return frozenset(entry for _, entry in books.holdings.quarantined)


def owed_entries(books: Books) -> frozenset[Entry]:
    """Return what must be delivered where it matches: also what was stored although nobody was told so."""
    holdings = books.holdings
    return (
        frozenset(books.sendings.acknowledged) | stored_entries(books) | holdings.unstored | holdings.unrouted
    ) & acceptable_entries(books)


def acceptable_entries(books: Books) -> frozenset[Entry]:
    return frozenset(entry for entry, sent in books.sendings.attempted.items() if sent.payload is not None)


def matches(books: Books, destination: Destination, entries: frozenset[Entry]) -> frozenset[Pair]:
    """Return the pairs of *entries* with a route, as the reference matcher judges them."""
    route = destination.route
    sent = (books.sendings.attempted[entry] for entry in entries)
    return frozenset(
        (each.entry, route.route_id)
        for each in sent
        if each.tenant == route.tenant_id
        and each.payload is not None
        and matches_route(route.topic_filter, route.payload_filter, each.topic, each.payload)
    )


def receipts_of(books: Books, destination: Destination) -> list[Receipt]:
    """Return what came to any address of a route."""
    names = {address.name for address in destination.addresses}
    return [receipt for receipt in books.receipts if receipt.address in names]


def arrivals_of(books: Books, destination: Destination) -> Mapping[Entry, list[Receipt]]:
    """Return the same by entry, each in the order of arrival."""
    found: dict[Entry, list[Receipt]] = {}
    for receipt in sorted(receipts_of(books, destination), key=lambda each: each.at):
        found.setdefault(receipt.entry, []).append(receipt)
    return found


def _route_fates(books: Books, destination: Destination) -> RouteFates:
    route_id = destination.route.route_id
    matched = matches(books, destination, owed_entries(books))
    delivered = matched & {(receipt.entry, route_id) for receipt in receipts_of(books, destination)}
    dead = (matched - delivered) & {pair for _, pair in books.holdings.dead_lettered}
    rest = matched - delivered - dead
    unrouted = {(entry, route_id) for entry in books.holdings.unrouted}
    holdings = books.holdings
    waiting = rest & (holdings.undelivered | holdings.set_aside | holdings.unfiled | unrouted)
    return RouteFates(matched=matched, delivered=delivered, dead_lettered=dead, waiting=waiting, lost=rest - waiting)
