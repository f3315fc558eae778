"""Streams and durable consumers: their names, limits, and what protects which promise (ADR 0002)."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

MIB: Final = 1024 * 1024
ACK_WAIT_S: Final = 12.0
"""Short, because it is how long a killed process delays what it held; work that lasts longer is held by signals."""
DUPLICATE_WINDOW_S: Final = 300.0
"""More than ten times the longest ``ack_wait``, so that a redelivered message's publish is still recognised."""
MAX_BATCH: Final = 1000
"""nats-server's bound on one atomic batch."""


class Retention(StrEnum):
    LIMITS = "limits"
    """Kept until the reaper purges below the required consumers; removal costs no fsync a message."""
    WORK_QUEUE = "workqueue"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSpec:
    """What `pulse provision` makes a stream match."""

    name: str
    subjects: tuple[str, ...]
    retention: Retention
    max_bytes: int
    discard: str = "new"
    """``new`` wherever a message is owed: a full stream refuses, it never drops."""
    max_msgs_per_subject: int = -1
    max_consumers: int = 64
    allow_atomic: bool = True
    allow_direct: bool = True
    duplicate_window_s: float = DUPLICATE_WINDOW_S


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerSpec:
    """What `pulse provision` makes a durable consumer match."""

    stream: str
    name: str
    filter_subject: str
    service: str
    max_ack_pending: int
    ack_wait_s: float = ACK_WAIT_S
    metadata: dict[str, str] = field(default_factory=dict[str, str])


TELEMETRY: Final = StreamSpec(
    name="TELEMETRY", subjects=("telemetry.>",), retention=Retention.LIMITS, max_bytes=2048 * MIB
)
DELIVERY: Final = StreamSpec(
    name="DELIVERY", subjects=("delivery.>",), retention=Retention.LIMITS, max_bytes=2048 * MIB
)
SIDING: Final = StreamSpec(
    name="SIDING",
    subjects=("siding.>",),
    retention=Retention.WORK_QUEUE,
    max_bytes=2048 * MIB,
    max_msgs_per_subject=100_000,
    max_consumers=1024,
)
DEADLETTER: Final = StreamSpec(
    name="DEADLETTER", subjects=("deadletter.>",), retention=Retention.WORK_QUEUE, max_bytes=1024 * MIB
)
QUARANTINE: Final = StreamSpec(
    name="QUARANTINE",
    subjects=("quarantine.>",),
    retention=Retention.WORK_QUEUE,
    max_bytes=512 * MIB,
    max_msgs_per_subject=2_000,
)
ATTEMPT: Final = StreamSpec(
    name="ATTEMPT",
    subjects=("attempt.>", "judgement.>"),
    retention=Retention.LIMITS,
    max_bytes=512 * MIB,
    discard="old",
)
"""The log: what was tried, and which routes judged what. Nothing in it is owed to anybody."""
STREAMS: Final = (TELEMETRY, DELIVERY, SIDING, DEADLETTER, QUARANTINE, ATTEMPT)

STORE: Final = ConsumerSpec(
    stream="TELEMETRY", name="store", filter_subject="telemetry.>", service="ingest", max_ack_pending=10_000
)
ROUTER: Final = ConsumerSpec(
    stream="TELEMETRY", name="router", filter_subject="telemetry.>", service="router", max_ack_pending=10_000
)
DEAD_LETTER_WRITER: Final = ConsumerSpec(
    stream="DEADLETTER",
    name="dead-letter-writer",
    filter_subject="deadletter.>",
    service="delivery",
    max_ack_pending=2_000,
)
QUARANTINE_WRITER: Final = ConsumerSpec(
    stream="QUARANTINE",
    name="quarantine-writer",
    filter_subject="quarantine.>",
    service="ingest",
    max_ack_pending=2_000,
)
DELIVERY_LOG_WRITER: Final = ConsumerSpec(
    stream="ATTEMPT", name="delivery-log-writer", filter_subject="attempt.>", service="delivery", max_ack_pending=5_000
)
JUDGEMENT_WRITER: Final = ConsumerSpec(
    stream="ATTEMPT", name="judgement-writer", filter_subject="judgement.>", service="router", max_ack_pending=2_000
)
FIXED_CONSUMERS: Final = (
    STORE,
    ROUTER,
    DEAD_LETTER_WRITER,
    QUARANTINE_WRITER,
    DELIVERY_LOG_WRITER,
    JUDGEMENT_WRITER,
)

DELIVER_MAX_ACK_PENDING: Final = 10_000


def deliver_consumer(kind: str) -> ConsumerSpec:
    """Return the durable consumer of one destination kind: the fast lane."""
    return ConsumerSpec(
        stream=DELIVERY.name,
        name=f"deliver-{kind}",
        filter_subject=f"delivery.{kind}.>",
        service="delivery",
        max_ack_pending=DELIVER_MAX_ACK_PENDING,
        metadata={"kind": kind},
    )


def consumers(kinds: Iterable[str]) -> tuple[ConsumerSpec, ...]:
    """Return every durable consumer of a system whose emitting kinds are *kinds*."""
    return (*FIXED_CONSUMERS, *(deliver_consumer(kind) for kind in kinds))
