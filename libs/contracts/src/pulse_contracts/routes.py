"""Routes: what a tenant wants delivered, where, and with how much patience."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import ceil
from typing import Final

from pulse_contracts.ids import RouteId, TenantId
from pulse_contracts.subjects import RouteAddress

FINAL_STATUSES: Final = frozenset(range(400, 500)) - {408, 421, 423, 425, 429}
"""Answers that a later attempt cannot change (RFC 9110 §15.5), less those that speak of now."""
_MOST_PER_S: Final = 10_000
LONGEST_PAUSE_S: Final = 3600.0
"""No route is left alone longer, whatever its policy or its destination asks for."""


class InvalidPolicy(ValueError):
    """A route policy with a member that cannot be obeyed."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"policy.{path}: {reason}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How often a route may be tried: never more than ``burst + per_s * t`` attempts within any time *t*."""

    per_s: float
    burst: int
    """Attempts that may follow each other at once after a quiet time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutePolicy:
    """How a route's messages are tried."""

    deadline_s: float = 10.0
    """One bound over DNS, connect, TLS, headers and body of an attempt."""
    backoff_first_s: float = 1.0
    backoff_factor: float = 2.0
    backoff_cap_s: float = 300.0
    max_age_s: float = 86_400.0
    """After this long without delivery, counted from routing, a message becomes a dead letter."""
    max_attempts: int = 20
    """How often the destination may answer one message with failure before it becomes a dead letter."""
    in_flight: int = 16
    rate: Rate | None = None
    """None: as often as messages come."""
    final_statuses: frozenset[int] = FINAL_STATUSES


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One row of ``message_routes``, as the services see it. Secrets are not part of it."""

    route_id: RouteId
    tenant_id: TenantId
    name: str
    revision: int
    topic_filter: str
    payload_filter: Mapping[str, object] | None
    expression: str | None
    kind: str
    config: Mapping[str, object]
    policy: RoutePolicy = field(default_factory=RoutePolicy)
    enabled: bool = True
    enabled_at: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    """When it was last enabled: parked time does not count towards ``max_age_s``."""
    generation: int = 0
    """How many changes the tenant's routes had had with the one that made this revision."""
    deleted: bool = False
    """A tombstone: the only thing that means a route is gone."""

    @property
    def address(self) -> RouteAddress:
        """Where its messages are on the bus."""
        return RouteAddress(kind=self.kind, tenant=self.tenant_id, route=self.route_id)


def parse_policy(spec: Mapping[str, object]) -> RoutePolicy:
    """Read a policy as the tenant wrote it; raises `InvalidPolicy` with the member's path."""
    known = {"deadline_s", "backoff", "max_age_s", "max_attempts", "in_flight", "rate", "final_statuses"}
    for name in spec:
        if name not in known:
            raise InvalidPolicy(name, f"unknown; known are {', '.join(sorted(known))}")
    backoff = _members(spec, "backoff", {"first_s", "factor", "cap_s"})
    default = RoutePolicy()
    return RoutePolicy(
        deadline_s=_number(spec, "deadline_s", default.deadline_s, (0.1, 60)),
        backoff_first_s=_number(backoff, "backoff.first_s", default.backoff_first_s, (0.05, LONGEST_PAUSE_S)),
        backoff_factor=_number(backoff, "backoff.factor", default.backoff_factor, (1, 10)),
        backoff_cap_s=_number(backoff, "backoff.cap_s", default.backoff_cap_s, (0.05, LONGEST_PAUSE_S)),
        max_age_s=_number(spec, "max_age_s", default.max_age_s, (1, 30 * 86_400)),
        max_attempts=_whole(spec, "max_attempts", default.max_attempts, (1, 1000)),
        in_flight=_whole(spec, "in_flight", default.in_flight, (1, 16)),
        rate=_rate(spec),
        final_statuses=_statuses(spec),
    )


def _members(spec: Mapping[str, object], path: str, known: set[str]) -> dict[str, object]:
    """Return the members of an object within the policy, under their whole paths."""
    value = spec.get(path, {})
    if not isinstance(value, dict):
        raise InvalidPolicy(path, "must be an object")
    members: dict[str, object] = value  # pyright: ignore[reportUnknownVariableType] - values are checked one by one
    for name in members:
        if name not in known:
            raise InvalidPolicy(f"{path}.{name}", f"unknown; known are {', '.join(sorted(known))}")
    return {f"{path}.{name}": member for name, member in members.items()}


def _rate(spec: Mapping[str, object]) -> Rate | None:
    if "rate" not in spec:
        return None
    members = _members(spec, "rate", {"per_s", "burst"})
    per_s = _number(members, "rate.per_s", None, (0.01, _MOST_PER_S))
    return Rate(per_s=per_s, burst=_whole(members, "rate.burst", ceil(per_s), (1, _MOST_PER_S)))


def _number(spec: Mapping[str, object], path: str, default: float | None, bounds: tuple[float, float]) -> float:
    value = spec.get(path, default)
    low, high = bounds
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InvalidPolicy(path, f"must be a number from {low:g} to {high:g}")
    return value


def _whole(spec: Mapping[str, object], path: str, default: int, bounds: tuple[int, int]) -> int:
    value = _number(spec, path, default, bounds)
    if value != int(value):
        raise InvalidPolicy(path, "must be a whole number")
    return int(value)


def _statuses(spec: Mapping[str, object]) -> frozenset[int]:
    value = spec.get("final_statuses")
    if value is None:
        return FINAL_STATUSES
    if not isinstance(value, list):
        raise InvalidPolicy("final_statuses", "must be a list of HTTP statuses from 300 to 599")
    items: list[object] = value  # pyright: ignore[reportUnknownVariableType] - elements are checked next
    if not all(isinstance(item, int) and 300 <= item <= 599 for item in items):  # noqa: PLR2004 - HTTP's own classes
        raise InvalidPolicy("final_statuses", "must be a list of HTTP statuses from 300 to 599")
    return frozenset(item for item in items if isinstance(item, int))
