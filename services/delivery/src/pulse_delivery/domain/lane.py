"""One route's lane: what is in flight, what waits, and what this route usually takes."""

from collections import deque
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from pulse_contracts.ids import RouteId, TenantId
from pulse_delivery.domain.limits import LaneLimits

T = TypeVar("T")

_SMOOTHING: Final = 0.2


@dataclass(slots=True, kw_only=True)
class Lane(Generic[T]):
    """The state of one lane. It knows its own bounds; the budget that lanes share is `Lanes`' business."""

    route: RouteId
    tenant: TenantId | None = None
    """None until something was offered."""
    started: dict[int, float] = field(default_factory=dict[int, float])
    """When each attempt in flight began, in the order of their beginning, by ticket."""
    waiting: "deque[T]" = field(default_factory=deque)
    usual_s: float | None = None
    """What an attempt of this route usually takes; None until one has succeeded."""
    is_held: bool = False
    """Whether messages gather here until the last of the siding are delivered."""

    def is_stuck(self, now: float, limits: LaneLimits) -> bool:
        """Whether the oldest attempt is far beyond what this route usually takes."""
        if not self.started:
            return False
        oldest = next(iter(self.started.values()))
        if self.usual_s is None:
            return now - oldest > limits.stuck_untold_s
        return now - oldest > max(limits.stuck_after_s, limits.stuck_factor * self.usual_s)

    def learn(self, took_s: float) -> None:
        """Take a successful attempt's duration into account."""
        self.usual_s = took_s if self.usual_s is None else self.usual_s + _SMOOTHING * (took_s - self.usual_s)

    @property
    def is_idle(self) -> bool:
        return not self.started and not self.waiting and not self.is_held
