"""The trail of one message: what is on record of its way, put together. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from pulse_contracts.envelope import Envelope
from pulse_contracts.ids import MessageId, TenantId
from pulse_contracts.records import AttemptRecord, DeadLetterRecord
from pulse_storage.dead_letters import DeadLetterRow
from pulse_storage.trails import Judged, NamedRoute, Recorded

TELEMETRY: Final = "telemetry"
"""The table, among what was not looked through."""


class Progress(StrEnum):
    """How far a step of a message has come."""

    DONE = "done"
    WAITING = "waiting"
    UNKNOWN = "unknown"
    """Nothing is on record of it, and nothing waits."""


class Fate(StrEnum):
    """What became of a message for one route."""

    DELIVERED = "delivered"
    DEAD_LETTER = "dead_letter"
    UNFILED = "unfiled"
    """A dead letter on its way to the table."""
    PARKED = "parked"
    SIDING = "siding"
    FAST_LANE = "fast_lane"
    UNKNOWN = "unknown"
    """It was tried, and what came of it is not on record (yet)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt."""

    number: int
    began_at: datetime
    took_ms: float
    outcome: str
    status: int | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTrail:
    """The message on its way to one route's destination."""

    route_id: str
    name: str | None
    """None for a route that the tenant does not have."""
    fate: Fate
    since: datetime | None
    """When the fate came about."""
    reason: str | None
    """Of a dead letter, or why the message stands in the siding."""
    attempts: Sequence[Attempt]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """One message's way, as far as it is on record."""

    message_id: MessageId
    tenant_id: TenantId
    topic: str | None
    received_at: datetime | None
    measured_at: datetime | None
    """By the device's clock, if that was credible."""
    stored: Progress
    stored_at: datetime | None
    """None also where it is stored and when is not on record: only ids that devices supply are kept with a time."""
    routed: Progress
    routed_at: datetime | None
    """At the latest, and within half a second."""
    generation: int | None
    """Of the tenant's routes that judged it."""
    routes: Sequence[RouteTrail]
    not_searched: Sequence[str]
    """Streams, and the table `TELEMETRY`, that hold so much that not all of it was looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The message where it stands for one route: in DELIVERY or in the siding."""

    route_id: str
    lane: Fate
    """The fast lane or the siding."""
    since: datetime
    routed_at: datetime | None
    cause: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One message in the streams: what is not finished."""

    tenant: TenantId | None
    """None if it stands nowhere."""
    envelope: Envelope | None
    unstored: bool
    unrouted: bool
    judged: Judged | None
    matches: Sequence[Match]
    attempts: Sequence[AttemptRecord]
    unfiled: Sequence[DeadLetterRecord]
    not_searched: Sequence[str]


def routes_of(recorded: Recorded, standing: Standing, dead: Sequence[DeadLetterRow]) -> list[str]:
    """Return the ids of all routes that anything is on record of, in the order in which it came there."""
    named = (
        *(record.route_id for record in _attempts(recorded, standing)),
        *(match.route_id for match in standing.matches),
        *(record.route_id for record in standing.unfiled),
        *(row.route_id for row in dead),
    )
    return list(dict.fromkeys(named))


def assemble(
    message_id: MessageId,
    tenant: TenantId,
    *,
    recorded: Recorded,
    standing: Standing,
    dead: Sequence[DeadLetterRow],
    names: Mapping[str, NamedRoute],
) -> Trail:
    """Put together what was found."""
    routes = [
        _route_trail(route_id, names.get(route_id), recorded=recorded, standing=standing, dead=dead)
        for route_id in routes_of(recorded, standing, dead)
    ]
    source = recorded.stored or standing.envelope
    judged = recorded.judged or standing.judged
    is_routed = bool(judged or routes)
    return Trail(
        message_id=message_id,
        tenant_id=tenant,
        topic=source.topic if source else None,
        received_at=source.received_at if source else None,
        measured_at=source.time if source else None,
        stored=_progress(is_done=recorded.stored is not None, waits=standing.unstored),
        stored_at=recorded.stored.stored_at if recorded.stored else None,
        routed=_progress(is_done=is_routed, waits=standing.unrouted),
        routed_at=_first([match.routed_at for match in standing.matches]) or (judged.judged_at if judged else None),
        generation=judged.generation if judged else None,
        routes=routes,
        not_searched=(*(() if recorded.is_searched else (TELEMETRY,)), *standing.not_searched),
    )


def _route_trail(
    route_id: str,
    route: NamedRoute | None,
    *,
    recorded: Recorded,
    standing: Standing,
    dead: Sequence[DeadLetterRow],
) -> RouteTrail:
    attempts = [_attempt(record) for record in _attempts(recorded, standing) if record.route_id == route_id]
    fate, since, reason = _fate(
        attempts,
        filed=next((row for row in dead if row.route_id == route_id), None),
        unfiled=next((record for record in standing.unfiled if record.route_id == route_id), None),
        match=_standing_at(standing.matches, route_id),
        is_parked=route is not None and not route.enabled,
    )
    name = route.name if route else None
    return RouteTrail(route_id=route_id, name=name, fate=fate, since=since, reason=reason, attempts=attempts)


def _fate(
    attempts: Iterable[Attempt],
    *,
    filed: DeadLetterRow | None,
    unfiled: DeadLetterRecord | None,
    match: Match | None,
    is_parked: bool,
) -> tuple[Fate, datetime | None, str | None]:
    """Return the fate, since when, and why. What is final goes before what may only not be tidied up yet."""
    for attempt in attempts:
        if attempt.outcome == "delivered":
            return Fate.DELIVERED, attempt.began_at + timedelta(milliseconds=attempt.took_ms), None
    if filed:
        return Fate.DEAD_LETTER, filed.created_at, filed.error_message
    if unfiled:
        return Fate.UNFILED, unfiled.created_at, unfiled.error
    if match:
        is_set_aside = match.lane is Fate.SIDING
        return Fate.PARKED if is_set_aside and is_parked else match.lane, match.since, match.cause
    return Fate.UNKNOWN, None, None


def _standing_at(matches: Iterable[Match], route_id: str) -> Match | None:
    """Return where it waits for a route: what was moved to the siding may still stand in DELIVERY for a moment."""
    mine = {match.lane: match for match in matches if match.route_id == route_id}
    return mine.get(Fate.SIDING) or mine.get(Fate.FAST_LANE)


def _attempts(recorded: Recorded, standing: Standing) -> list[AttemptRecord]:
    """Return every attempt once, the first first: a record may be in the table and still in its stream."""
    once = {(record.route_id, record.attempt, record.at): record for record in (*recorded.attempts, *standing.attempts)}
    return sorted(once.values(), key=lambda record: (record.at, record.attempt))


def _attempt(record: AttemptRecord) -> Attempt:
    return Attempt(
        number=record.attempt,
        began_at=datetime.fromisoformat(record.at),
        took_ms=record.duration_ms,
        outcome=record.outcome,
        status=record.status,
        error=record.error,
    )


def _progress(*, is_done: bool, waits: bool) -> Progress:
    return Progress.DONE if is_done else Progress.WAITING if waits else Progress.UNKNOWN


def _first(times: Iterable[datetime | None]) -> datetime | None:
    return min((time for time in times if time), default=None)
