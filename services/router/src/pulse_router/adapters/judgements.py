"""Puts on record which routes judged which messages: a log, so it delays nothing, and gaps are counted (ADR 0022)."""

import asyncio
from datetime import datetime
from typing import Final
from uuid import uuid4

from pulse_bus.errors import BusUnavailable, PublishRefused
from pulse_bus.outgoing import Outgoing
from pulse_bus.publisher import Publisher
from pulse_contracts import subjects
from pulse_contracts.envelope import Envelope
from pulse_contracts.records import JudgementRecord
from pulse_router.domain.judged import Judged, JudgedMessages
from pulse_runtime.clock import Clock
from pulse_runtime.events import JUDGEMENT_RECORDS_LOST
from pulse_runtime.logging import get_logger
from pulse_runtime.metrics import RouterMetrics

_log = get_logger(__name__)
_GATHER_S: Final = 0.5


class Judgements:
    """Gathers what was judged and publishes it a few times a second."""

    def __init__(self, publisher: Publisher, *, metrics: RouterMetrics, clock: Clock) -> None:
        self._publisher = publisher
        self._metrics = metrics
        self._clock = clock
        self._judged = JudgedMessages()
        self._publishing: set[asyncio.Task[None]] = set()

    def note(self, envelope: Envelope, generation: int) -> None:
        """Remember that this generation of the tenant's routes judged the message. Never blocks."""
        self._judged.note(envelope.tenant_id, generation, envelope.message_id)

    async def run(self) -> None:
        """Publish until cancelled; call `flush` for what is left."""
        while True:
            await self._clock.sleep(_GATHER_S)
            await self.flush()

    async def flush(self) -> None:
        """Publish what was gathered; what the log does not take is counted and let go.

        Returns when it is on record, and also what a flush that was cancelled had begun to publish.
        """
        now = self._clock.now()
        self._publishing |= {asyncio.create_task(self._publish(judged, now)) for judged in self._judged.take()}
        if self._publishing:
            done, self._publishing = await asyncio.wait(self._publishing)
            for task in done:
                task.result()
        if lost := self._judged.take_lost():
            self._count_lost(lost, "too many wait to be put on record")

    async def _publish(self, judged: Judged, now: datetime) -> None:
        record = JudgementRecord(
            judgement_id=str(uuid4()),
            tenant_id=judged.tenant,
            generation=judged.generation,
            judged_at=now,
            message_ids=judged.messages,
        )
        outgoing = Outgoing(
            subject=subjects.judgement(judged.tenant), data=record.encode(), message_id=record.judgement_id
        )
        try:
            await self._publisher.publish(outgoing)
        except (PublishRefused, BusUnavailable) as exc:
            self._count_lost(len(judged.messages), str(exc))

    def _count_lost(self, messages: int, error: str) -> None:
        self._metrics.judgement_records_lost_total.inc(messages)
        _log.warning(JUDGEMENT_RECORDS_LOST, count=messages, error=error)
