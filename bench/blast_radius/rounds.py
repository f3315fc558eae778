"""One round: the fleet sends for some seconds, among calm receivers or beside hostile ones."""

import asyncio
import gc
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from blast_radius.fleet import Fleet, Sent
from blast_radius.receiving import Receivers
from blast_radius.resources import Load, watching
from blast_radius.steps import Step
from blast_radius.systems import System
from blast_radius.tempers import Temper

_GRACE_S: Final = 5.0
_LOOK_S: Final = 0.25
NEVER: Final = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How much is sent in a round."""

    seconds: float
    rate_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What was sent in a round and when it arrived, of all strands."""

    step: Step | None
    seconds: float
    sent: Sequence[Sent]
    arrived_at: Mapping[str, float]
    """When each message first came to its receiver; those that did not are missing."""
    ends_at: float
    """When the sending ended, by the monotonic clock."""
    hostile: frozenset[int]
    load: Load

    @property
    def acknowledged(self) -> set[str]:
        return {message.message_id for message in self.sent if message.acknowledged_at is not None}

    def latencies_s(self, strands: frozenset[int]) -> list[float]:
        """Return how long each message of these strands took to its receiver, `NEVER` for one that did not come."""
        return [
            self.arrived_at.get(message.message_id, NEVER) - message.begun_at
            for message in self.sent
            if message.strand in strands
        ]

    def acks_s(self, strands: frozenset[int]) -> list[float]:
        """Return how long each device of these strands waited for its acknowledgement."""
        return [
            (message.acknowledged_at or NEVER) - message.begun_at for message in self.sent if message.strand in strands
        ]

    def arrivals_per_s(self, strands: frozenset[int]) -> float:
        """Return how many messages of these strands arrived a second while the fleet was sending."""
        in_time = [
            message
            for message in self.sent
            if message.strand in strands and self.arrived_at.get(message.message_id, NEVER) <= self.ends_at
        ]
        return len(in_time) / self.seconds


async def play(step: Step | None, system: System, receivers: Receivers, fleet: Fleet, pace: Pace) -> Round:
    """Play one round; returns when the system has settled and could play the next one."""
    tempers: Mapping[int, Temper] = step.tempers(system.strands) if step else {}
    hostile = frozenset(tempers)
    await receivers.become(tempers)
    # Not in the middle of the round: what is sent then would be late.
    gc.collect()
    async with watching(system.pids) as load:
        began = time.monotonic()
        sent = await fleet.send(pace.seconds, pace.rate_per_s)
        await _await_healthy(sent, receivers, hostile, began + pace.seconds + _GRACE_S)
    await system.settle(lambda: receivers.become(dict.fromkeys(hostile, Temper.CALM)))
    await receivers.look()
    # What a hostile receiver had only after it was healed is counted all the same: its strand is not looked at.
    arrived_at = {
        m.message_id: receivers.arrived_at[m.message_id] for m in sent if m.message_id in receivers.arrived_at
    }
    return Round(
        step=step,
        seconds=pace.seconds,
        sent=sent,
        arrived_at=arrived_at,
        ends_at=began + pace.seconds,
        hostile=hostile,
        load=load,
    )


async def _await_healthy(sent: Sequence[Sent], receivers: Receivers, hostile: frozenset[int], until: float) -> None:
    """Wait until everything that was sent to healthy receivers has arrived, or until *until*."""
    due = {message.message_id for message in sent if message.strand not in hostile}
    await receivers.look()
    while not due <= receivers.arrived_at.keys() and time.monotonic() < until:
        await asyncio.sleep(_LOOK_S)
        await receivers.look()
