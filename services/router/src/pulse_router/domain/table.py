"""The table of routes: compiled once, immutable, one index a tenant, so that the cost of a message follows its matches.

A route that cannot be compiled, or fails on a message, is skipped and reported; the others go on.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import is_
from typing import Any, Final

from pulse_contracts.envelope import Envelope
from pulse_contracts.ids import RouteId, TenantId
from pulse_contracts.routes import Route
from pulse_matching.condition import compile_condition
from pulse_matching.expression import InvalidExpression, MatchError, Message, MessagePredicate
from pulse_matching.index import TopicIndex
from pulse_matching.payload import InvalidPayloadFilter
from pulse_matching.topic import InvalidTopicFilter, check_topic_filter, matches

MAX_FANOUT: Final = 1000
"""Matches of one message, so that they fit one atomic batch. A tenant's further routes are reported, not matched."""
STORED_KIND: Final = "postgresql"
"""Delivered once stored: nothing is emitted for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledRoute:
    """A route that can judge messages."""

    route: Route
    judge: MessagePredicate


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteFault:
    """A route that could not be compiled or could not judge a message."""

    route_id: RouteId
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a message matches."""

    matched: tuple[Route, ...]
    faults: tuple[RouteFault, ...]
    generation: int
    """Of the tenant's routes that judged it."""
    table_error: str | None = None
    """Why the tenant's index could not be asked; then its routes were tried one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTable:
    """All tenants' routes at one moment."""

    indexes: Mapping[TenantId, TopicIndex[CompiledRoute]] = field(
        default_factory=dict[TenantId, TopicIndex[CompiledRoute]]
    )
    routes: Mapping[TenantId, Sequence[CompiledRoute]] = field(default_factory=dict[TenantId, Sequence[CompiledRoute]])
    """Those that are in the indexes."""
    compiled: Mapping[tuple[RouteId, int], CompiledRoute] = field(
        default_factory=dict[tuple[RouteId, int], CompiledRoute]
    )
    """By route and revision: a change of one route does not compile the others again."""
    faults: tuple[RouteFault, ...] = ()
    generations: Mapping[TenantId, int] = field(default_factory=dict[TenantId, int])
    """Of each tenant with routes, the latest in the table; a tenant without any is at 0."""

    def judge(self, envelope: Envelope, payload: Mapping[str, Any]) -> Verdict:
        """Return the tenant's routes that match; never raises for a route, nor for an index that fails.

        A message that nobody could judge would be kept, and 10,000 of them stop the router for every tenant.
        """
        generation = self.generations.get(envelope.tenant_id, 0)
        if envelope.tenant_id not in self.indexes:
            return Verdict(matched=(), faults=(), generation=generation)
        message = Message(payload=payload, topic=envelope.topic, device_id=envelope.device_id, type=envelope.type)
        matched: list[Route] = []
        faults: list[RouteFault] = []
        candidates, table_error = self._candidates(envelope)
        for compiled in candidates:
            try:
                is_selected = table_error is None or matches(compiled.route.topic_filter, envelope.topic)
                if is_selected and compiled.judge(message):
                    matched.append(compiled.route)
            except MatchError as exc:
                faults.append(RouteFault(route_id=compiled.route.route_id, error=str(exc)))
            except Exception as exc:  # noqa: BLE001 - whatever one route meets, the others of the message go on
                faults.append(RouteFault(route_id=compiled.route.route_id, error=repr(exc)))
        faults += [
            RouteFault(route_id=route.route_id, error=f"beyond {MAX_FANOUT} matches of one message")
            for route in matched[MAX_FANOUT:]
        ]
        return Verdict(
            matched=tuple(matched[:MAX_FANOUT]), faults=tuple(faults), generation=generation, table_error=table_error
        )

    def _candidates(self, envelope: Envelope) -> tuple[Sequence[CompiledRoute], str | None]:
        """Return the routes whose topic filters select the message; if the index fails, all of the tenant, and why."""
        try:
            return self.indexes[envelope.tenant_id].lookup(envelope.topic), None
        except Exception as exc:  # noqa: BLE001 - a bug of ours, for which no tenant has to wait
            return self.routes.get(envelope.tenant_id, ()), repr(exc)


def build_table(routes: Iterable[Route], known: RouteTable | None = None) -> RouteTable:
    """Compile *routes*; disabled ones match too, because their messages wait parked in the siding."""
    before = known.compiled if known is not None else dict[tuple[RouteId, int], CompiledRoute]()
    now: dict[tuple[RouteId, int], CompiledRoute] = {}
    by_tenant: defaultdict[TenantId, list[CompiledRoute]] = defaultdict(list)
    faults: list[RouteFault] = []
    generations: defaultdict[TenantId, int] = defaultdict(int)
    for route in routes:
        generations[route.tenant_id] = max(generations[route.tenant_id], route.generation)
        if route.deleted or route.kind == STORED_KIND:
            continue
        try:
            compiled = before.get((route.route_id, route.revision)) or compile_route(route)
        except (InvalidTopicFilter, InvalidPayloadFilter, InvalidExpression) as exc:
            faults.append(RouteFault(route_id=route.route_id, error=str(exc)))
            continue
        except Exception as exc:  # noqa: BLE001 - one tenant's route must not keep everybody's from being read
            faults.append(RouteFault(route_id=route.route_id, error=repr(exc)))
            continue
        now[route.route_id, route.revision] = compiled
        by_tenant[route.tenant_id].append(compiled)
    indexes = {tenant: _index(known, tenant, group) for tenant, group in by_tenant.items()}
    return RouteTable(indexes=indexes, routes=by_tenant, compiled=now, faults=tuple(faults), generations=generations)


def _index(known: RouteTable | None, tenant: TenantId, group: Sequence[CompiledRoute]) -> TopicIndex[CompiledRoute]:
    """Return the index of before if none of the tenant's routes changed."""
    before = known.routes.get(tenant, ()) if known else ()
    if known and len(before) == len(group) and all(map(is_, before, group)):
        return known.indexes[tenant]
    return TopicIndex((compiled.route.topic_filter, compiled) for compiled in group)


def compile_route(route: Route) -> CompiledRoute:
    """Compile one route; raises what its filters raise."""
    check_topic_filter(route.topic_filter)
    judge = compile_condition(payload_filter=route.payload_filter, expression=route.expression)
    return CompiledRoute(route=route, judge=judge)
