"""Intake: the one way in, whatever the protocol. Effects come before acknowledgements."""

from dataclasses import dataclass

from pulse_contracts.envelope import Envelope, format_time
from pulse_contracts.ids import MessageId, TenantId
from pulse_contracts.records import QuarantineRecord
from pulse_ingest.domain.admission import Refusal, Submission, admit
from pulse_ingest.domain.ports import Busy, QuarantineLog, Receipt, TelemetryLog
from pulse_runtime.clock import Clock

_QUARANTINED_BYTES = 4 * 1024
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
        envelope = self.admit(submission)
        return envelope if isinstance(envelope, Refusal) else await self.commit(envelope)

    def admit(self, submission: Submission) -> Envelope | Refusal:
        """Give the message its id and its time, once: who commits again after a `Busy` commits this same envelope."""
        return admit(submission, self._clock.now())

    async def commit(self, envelope: Envelope) -> Accepted | Busy:
        """Commit an admitted message. After a `Busy` some of it may be stored all the same: its id tells."""
        outcome = await self._log.commit(envelope)
        if isinstance(outcome, Busy):
            return outcome
        return Accepted(message_id=envelope.message_id, duplicate=outcome.duplicate)

    async def quarantine(self, tenant: TenantId, topic: str, body: bytes, refusal: Refusal) -> Receipt | Busy:
        """Keep what cannot be refused to its sender, with the reason."""
        return await self.keep(self.record(tenant, topic, body, refusal))

    def record(self, tenant: TenantId, topic: str, body: bytes, refusal: Refusal) -> QuarantineRecord:
        """Make the quarantine record, once, for the same reason as `admit`."""
        return QuarantineRecord(
            tenant_id=tenant,
            topic=topic,
            reason=refusal.reason,
            error=refusal.error,
            payload=body[:_QUARANTINED_BYTES],
            received_at=format_time(self._clock.now()),
        )

    async def keep(self, record: QuarantineRecord) -> Receipt | Busy:
        """Commit a quarantine record."""
        return await self._quarantine.commit(record)
