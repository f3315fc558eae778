"""What the intake needs from outside, and what each answer promises."""

from dataclasses import dataclass
from typing import Protocol

from pulse_contracts.envelope import Envelope
from pulse_contracts.records import QuarantineRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """Nothing was accepted; the sender should try again. Some of it may be stored all the same: ids tell."""

    reason: str
    retry_after_s: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The message is durable."""

    duplicate: bool


class TelemetryLog(Protocol):
    """The log of accepted messages."""

    async def commit(self, envelope: Envelope) -> Receipt | Busy:
        """Return a `Receipt` only after the message is on disk; never raises for a full or absent log."""
        ...


class QuarantineLog(Protocol):
    """The log of what could not be accepted."""

    async def commit(self, record: QuarantineRecord) -> Receipt | Busy:
        """As `TelemetryLog.commit`. A record beyond the tenant's budget is counted, not kept, and gets a receipt."""
        ...
