"""The bounds of the fast lane, each with the invariant it protects (ADR 0019)."""

from dataclasses import dataclass
from typing import Final, Self

from pulse_contracts.topology import DELIVER_MAX_ACK_PENDING

FOR_WHAT_COMES: Final = 4
"""Of what a process may hold, lanes fill all but one part in so many: attempts that all hang stop no pulling."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneLimits:
    """Bounds of one delivery process."""

    slots: int = 4096
    """Attempts in flight over all routes (``DELIVERY_WORKER_COUNT``): bounds sockets and memory."""
    lane_in_flight: int = 16
    """Attempts in flight of one route: no route takes the budget for itself."""
    lane_waiting: int = 64
    """Messages that wait in a lane: a short burst is no reason for the siding."""
    permit_wait_s: float = 2.0
    """A permit further away than this is not waited for in a lane: a low rate holds next to nothing."""
    stuck_in_flight: int = 4
    """Attempts in flight of a stuck lane, which queues nothing: a hanging route holds next to nothing."""
    stuck_after_s: float = 0.5
    """An attempt younger than this never makes a lane stuck: merely slow is not sick."""
    stuck_untold_s: float = 1.0
    """The same for a route of which no attempt has succeeded yet: nobody knows that it is merely slow."""
    stuck_factor: float = 4.0
    """So many times what the route usually takes makes a lane stuck."""
    held_messages: int = DELIVER_MAX_ACK_PENDING * 49 // 100
    """Attempting, waiting and prefetched: under half of ``max_ack_pending``, so that a process which takes the place of
    a killed one can fill up while the server still counts what that one held."""
    held_bytes: int = 64 * 1024 * 1024
    """Bodies of the held messages, the prefetched ones included: bounds memory."""
    turn_bytes: int = 64 * 1024 * 1024
    """Bodies in the hands of turns, beyond one a turn: bounds what large messages make of their growth."""
    prefetch: int = 1024
    """Messages that wait unread in the process, of one kind: bounds what a killed process delays."""

    @classmethod
    def of_process(cls, *, slots: int, replicas: int) -> Self:
        """Return the bounds of one of so many processes, which hold together what one alone would.

        It has fewer slots than wanted if it could not hold as many messages.
        """
        held = cls().held_messages // replicas
        return cls(slots=max(1, min(slots, held - held // FOR_WHAT_COMES)), held_messages=held)
