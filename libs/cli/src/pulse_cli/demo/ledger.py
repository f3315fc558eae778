"""The ledger: computed from PostgreSQL, the streams and the receivers, never from the services' own counters.

    matched  =  delivered  +  dead-lettered  +  waiting  +  lost          (pairs of message and route)
    accepted =  stored  +  quarantined  +  waiting to be stored  +  lost  (messages)

Which pairs match is said by the reference matcher, which is written apart from the router's.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pulse_cli.demo.fleet import Sendings
from pulse_cli.demo.receivers import Receivers
from pulse_contracts.ids import DeviceId, MessageId, TenantId, supplied_message_id
from pulse_contracts.routes import Route
from pulse_matching.reference import matches_route

Pair = tuple[str, str]
"""Message id, route id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """What the system has, read from the database and the streams."""

    stored: Mapping[str, int]
    """Rows by message id."""
    quarantined: int
    dead_lettered: frozenset[Pair]
    unstored: frozenset[str]
    """Messages that the store has not acknowledged yet."""
    unrouted: frozenset[str]
    """Messages that the router has not acknowledged yet."""
    in_streams: frozenset[Pair]
    """Pairs in DELIVERY, SIDING or DEADLETTER that nobody acknowledged yet."""
    is_idle: bool
    """Whether no stream holds anything unacknowledged."""


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


def balance(sendings: Sendings, receivers: Receivers, routes: Sequence[Route], holdings: Holdings) -> Ledger:
    """Balance what was accepted against what became of it."""
    ids = {
        (sent.tenant, sent.message): message_id_of(sent.tenant, sent.device, sent.message) for sent in sendings.accepted
    }
    delivered = _delivered(receivers, routes, ids)
    accounts: list[RouteAccount] = []
    for route in routes:
        matched: set[Pair] = {
            (ids[sent.tenant, sent.message], str(route.route_id))
            for sent in sendings.accepted
            if sent.tenant == route.tenant_id
            and matches_route(route.topic_filter, route.payload_filter, sent.topic, json.loads(sent.payload))
        }
        accounts.append(_account(route, matched, delivered, holdings))
    accepted = set(ids.values())
    unaccounted = accepted - set(holdings.stored) - holdings.unstored
    missing_quarantine = max(0, sendings.malformed_accepted - holdings.quarantined) if holdings.is_idle else 0
    p50, p99 = _latencies(sendings, receivers)
    return Ledger(
        accepted=len(accepted) + sendings.malformed_accepted,
        stored=len(accepted & set(holdings.stored)),
        quarantined=holdings.quarantined,
        matched=sum(account.matched for account in accounts),
        delivered=sum(account.delivered for account in accounts),
        waiting=sum(account.waiting for account in accounts),
        dead_lettered=sum(account.dead_lettered for account in accounts),
        lost=len(unaccounted) + missing_quarantine + sum(account.lost for account in accounts),
        duplicates=sum(count - 1 for count in receivers.received.values())
        + sum(rows - 1 for rows in holdings.stored.values()),
        healthy_p50_ms=p50,
        healthy_p99_ms=p99,
        routes=accounts,
    )


def message_id_of(tenant: str, device: str, supplied: str) -> MessageId:
    """Return Pulse's id of a message that its device gave an id."""
    return supplied_message_id(TenantId(tenant), DeviceId(device), supplied)


def _delivered(receivers: Receivers, routes: Sequence[Route], ids: Mapping[tuple[str, str], str]) -> set[Pair]:
    route_ids = {(str(route.tenant_id), route.name): str(route.route_id) for route in routes}
    return {
        (ids[tenant, message], route_ids[tenant, name])
        for tenant, name, message in receivers.received
        if (tenant, message) in ids
    }


def _account(route: Route, matched: set[Pair], delivered: set[Pair], holdings: Holdings) -> RouteAccount:
    done = matched & delivered
    dead = (matched - done) & holdings.dead_lettered
    open_pairs = matched - done - dead
    waiting = {pair for pair in open_pairs if pair in holdings.in_streams or pair[0] in holdings.unrouted}
    return RouteAccount(
        tenant=route.tenant_id,
        name=route.name,
        matched=len(matched),
        delivered=len(done),
        waiting=len(waiting),
        dead_lettered=len(dead),
        lost=len(open_pairs - waiting),
    )


def _latencies(sendings: Sendings, receivers: Receivers) -> tuple[float, float]:
    taken = sorted(
        receivers.first_at[receipt] - sent.first_sent_at
        for sent in sendings.accepted
        if (receipt := (sent.tenant, "healthy", sent.message)) in receivers.first_at
    )
    if not taken:
        return 0.0, 0.0
    return round(_quantile(taken, 0.50) * 1000, 1), round(_quantile(taken, 0.99) * 1000, 1)


def _quantile(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share))]
