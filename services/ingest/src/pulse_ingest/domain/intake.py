"""Intake: the one way in, whatever the protocol. Effects come before acknowledgements."""

from dataclasses import dataclass

from pulse_contracts.envelope import format_time
from pulse_contracts.ids import MessageId, TenantId
from pulse_contracts.records import QuarantineRecord
from pulse_ingest.domain.admission import Refusal, Submission, admit
from pulse_ingest.domain.ports import Busy, QuarantineLog, Receipt, TelemetryLog
from pulse_runtime.clock import Clock

_QUARANTINED_BYTES = 16 * 1024
"""How much of an unacceptable message is kept: enough to see what it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The message is durable under this id."""

    message_id: MessageId
    duplicate: bool


class Intake:
    """Admits submissions and commits them."""

    def __init__(self, log: TelemetryLog, quarantine: QuarantineLog, clock: Clock) -> None:
        self._log = log
        self._quarantine = quarantine
        self._clock = clock

    async def submit(self, submission: Submission) -> Accepted | Refusal | Busy:
        """Commit a submission; a `Refusal` is final, a `Busy` is not, and only `Accepted` may be acknowledged."""
        envelope = admit(submission, self._clock.now())
        if isinstance(envelope, Refusal):
            return envelope
        outcome = await self._log.commit(envelope)
        if isinstance(outcome, Busy):
            return outcome
        return Accepted(message_id=envelope.message_id, duplicate=outcome.duplicate)

    async def quarantine(self, tenant: TenantId, topic: str, body: bytes, refusal: Refusal) -> Receipt | Busy:
        """Keep what cannot be refused to its sender, with the reason."""
        record = QuarantineRecord(
            tenant_id=tenant,
            topic=topic,
            reason=refusal.reason,
            error=refusal.error,
            payload=body[:_QUARANTINED_BYTES],
            received_at=format_time(self._clock.now()),
        )
        return await self._quarantine.commit(record)
