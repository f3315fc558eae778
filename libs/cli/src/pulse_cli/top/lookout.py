"""Asks NATS what has passed and what waits: all of it comes from there, so it can be seen while PostgreSQL is down."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from heapq import nlargest
from typing import Final

from pulse_bus.ages import Owed, owed_by
from pulse_bus.api import api_request
from pulse_bus.connection import Connection
from pulse_bus.inspection import Standing
from pulse_bus.siding import Siding
from pulse_contracts import headers
from pulse_contracts.ids import RouteId, TenantId
from pulse_contracts.subjects import RouteAddress, parse_route_address
from pulse_contracts.tokens import InvalidToken
from pulse_contracts.topology import (
    DEAD_LETTER_WRITER,
    DEADLETTER,
    DELIVERY,
    ROUTER,
    STORE,
    TELEMETRY,
    ConsumerSpec,
    deliver_consumer,
)
from pulse_contracts.turns import TurnListing
from pulse_control.route_state import routed_at
from pulse_runtime.clock import Clock

_DELIVER: Final = "deliver-"


@dataclass(frozen=True, slots=True, kw_only=True)
class TroubledRoute:
    """One route of which the siding holds messages."""

    tenant: TenantId
    route: RouteId
    kind: str
    waiting: int
    oldest_age_s: float | None
    """Since its head was routed; None if the head has gone meanwhile, or does not say."""
    cause: str | None
    """Why the head is there."""
    failures: int
    """Failed probes in a row, of the turn that it has now."""
    paused_until: datetime | None
    error: str | None
    """Of the last failed probe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the server counted at one moment, since its streams were made."""

    at: datetime
    elapsed_s: float
    """On a clock that only goes forward."""
    accepted: int
    matched: int
    dead_lettered: int
    owed: Mapping[str, Owed]
    """By whom: ``store``, ``router``, ``fast_lane``, ``siding``, ``dead_letter``."""
    troubled_routes: int
    worst_routes: tuple[TroubledRoute, ...]
    """Those of which most waits, and the one whose message is in the siding for longest."""

    @property
    def stored(self) -> int:
        return self.accepted - self.owed["store"].messages

    @property
    def routed(self) -> int:
        return self.accepted - self.owed["router"].messages

    @property
    def delivered(self) -> int:
        """What was matched, and neither waits anywhere nor is a dead letter."""
        waiting = self.owed["fast_lane"].messages + self.owed["siding"].messages
        return self.matched - waiting - self.dead_lettered


class Lookout:
    """Looks when asked; nothing is changed by it. May raise `ApiError` or `BusUnavailable`."""

    def __init__(self, bus: Connection, clock: Clock, *, most_routes: int) -> None:
        """*most_routes*: how many of the worst are looked at; each costs a request."""
        self._bus = bus
        self._clock = clock
        self._most_routes = most_routes
        self._siding = Siding(bus)

    async def look(self) -> Look:
        """Look once. What moves meanwhile may be counted twice or not at all."""
        survey = await self._siding.survey()
        waiting = {address: count for subject, count in survey.waiting.items() if (address := _address(subject))}
        worst = await self._worst(waiting)
        oldest_s = max((route.oldest_age_s or 0.0 for route in worst), default=0.0)
        return Look(
            at=self._clock.now(),
            elapsed_s=self._clock.monotonic(),
            accepted=await self._passed(TELEMETRY.name),
            matched=await self._passed(DELIVERY.name),
            dead_lettered=await self._passed(DEADLETTER.name),
            owed={
                "store": await self._owed(STORE),
                "router": await self._owed(ROUTER),
                "fast_lane": await self._owed(*await self._fast_lanes()),
                "siding": Owed(messages=sum(survey.waiting.values()), oldest_age_s=oldest_s),
                "dead_letter": await self._owed(DEAD_LETTER_WRITER),
            },
            troubled_routes=len(waiting),
            worst_routes=tuple(sorted(worst, key=lambda route: route.waiting, reverse=True)),
        )

    async def _passed(self, stream: str) -> int:
        return int((await api_request(self._bus, f"STREAM.INFO.{stream}"))["state"]["last_seq"])

    async def _owed(self, *consumers: ConsumerSpec) -> Owed:
        return await owed_by(self._bus, self._clock, *consumers)

    async def _fast_lanes(self) -> list[ConsumerSpec]:
        """Those that are there: kinds may be installed with the services that are not installed with this command."""
        answer = await api_request(self._bus, f"CONSUMER.NAMES.{DELIVERY.name}", {"offset": 0})
        names: list[str] = answer.get("consumers") or []
        return [deliver_consumer(name.removeprefix(_DELIVER)) for name in names if name.startswith(_DELIVER)]

    async def _worst(self, waiting: Mapping[RouteAddress, int]) -> list[TroubledRoute]:
        if not waiting:
            return []
        chosen = dict.fromkeys(nlargest(self._most_routes, waiting, key=waiting.__getitem__))
        first = await self._siding.first()
        oldest = _address(first.subject) if first else None
        if oldest and oldest in waiting:
            chosen[oldest] = None
        turns = await self._siding.turns()
        return [
            self._troubled(address, waiting[address], await self._siding.peek(address), turns.get(address))
            for address in chosen
        ]

    def _troubled(
        self, address: RouteAddress, waiting: int, head: Standing | None, turn: TurnListing | None
    ) -> TroubledRoute:
        since = routed_at(head) if head else None
        return TroubledRoute(
            tenant=address.tenant,
            route=address.route,
            kind=address.kind,
            waiting=waiting,
            oldest_age_s=max(0.0, (self._clock.now() - since).total_seconds()) if since else None,
            cause=head.headers.get(headers.CAUSE) if head else None,
            failures=turn.failures if turn else 0,
            paused_until=turn.paused_until if turn else None,
            error=turn.error or None if turn else None,
        )


def _address(subject: str) -> RouteAddress | None:
    """Return whose it is; None for a subject that no route has: somebody else put something there."""
    try:
        return parse_route_address(subject)
    except InvalidToken:
        return None
