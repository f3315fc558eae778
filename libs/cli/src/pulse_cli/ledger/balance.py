"""The books in figures, for people and for `pulse demo --json`."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pulse_cli.ledger.facts import NEVER, Books, Destination
from pulse_cli.ledger.fates import fates_of, quarantined_entries, stored_entries
from pulse_cli.ledger.invariants import latencies_s, quantile
from pulse_cli.ledger.repeats import duplicates


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteAccount:
    """One route's part of the ledger."""

    tenant: str
    name: str
    matched: int
    delivered: int
    waiting: int
    dead_lettered: int
    lost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The account of a run. Latencies are from the device's first sending to the healthy receiver, in milliseconds."""

    accepted: int
    stored: int
    quarantined: int
    matched: int
    delivered: int
    waiting: int
    dead_lettered: int
    lost: int
    duplicates: int
    healthy_p50_ms: float
    healthy_p99_ms: float
    routes: list[RouteAccount] = field(default_factory=list[RouteAccount])


def balance(books: Books, *, healthy: str = "healthy") -> Ledger:
    """Balance what was acknowledged against what became of it; *healthy* names the routes whose speed is shown."""
    fates = fates_of(books)
    accounts = [
        RouteAccount(
            tenant=destination.route.tenant_id,
            name=destination.route.name,
            matched=len(route.matched),
            delivered=len(route.delivered),
            waiting=len(route.waiting),
            dead_lettered=len(route.dead_lettered),
            lost=len(route.lost),
        )
        for destination, route in zip(books.destinations, fates.routes.values(), strict=True)
    ]
    p50, p99 = _latencies_ms([each for each in books.destinations if each.route.name == healthy], books)
    return Ledger(
        accepted=len(books.sendings.acknowledged),
        stored=len(books.sendings.acknowledged.keys() & stored_entries(books)),
        quarantined=len(quarantined_entries(books)),
        matched=sum(account.matched for account in accounts),
        delivered=sum(account.delivered for account in accounts),
        waiting=sum(account.waiting for account in accounts),
        dead_lettered=sum(account.dead_lettered for account in accounts),
        lost=len(fates.lost) + sum(account.lost for account in accounts),
        duplicates=duplicates(books),
        healthy_p50_ms=p50,
        healthy_p99_ms=p99,
        routes=accounts,
    )


def oldest_waiting_s(books: Books, now: float) -> float:
    """Return how long ago the oldest message was sent that still waits for a destination, wherever it stands; or 0."""
    waiting = {entry for route in fates_of(books).routes.values() for entry, _ in route.waiting}
    return max((now - books.sendings.attempted[entry].first_sent_at for entry in waiting), default=0.0)


def _latencies_ms(destinations: Sequence[Destination], books: Books) -> tuple[float, float]:
    taken = sorted(
        seconds
        for destination in destinations
        for seconds in latencies_s(books, destination, since=-NEVER, until=NEVER)
    )
    return round(quantile(taken, 0.50) * 1000, 1), round(quantile(taken, 0.99) * 1000, 1)
