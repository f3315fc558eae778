"""The writer of ``telemetry``."""

from collections.abc import Sequence

from pulse_bus.consumer import PullConsumer
from pulse_bus.incoming import Incoming
from pulse_bus.writer import BatchWriter, Entry
from pulse_contracts.envelope import Envelope, decode_envelope
from pulse_ingest.domain.admission import Refusal
from pulse_ingest.domain.intake import Intake
from pulse_ingest.domain.ports import Busy
from pulse_ingest.writers.quarantine import tenant_of
from pulse_runtime import failpoints
from pulse_runtime.clock import Clock
from pulse_runtime.events import MESSAGE_QUARANTINED, TELEMETRY_STORED
from pulse_runtime.logging import get_logger
from pulse_runtime.metrics import IngestMetrics
from pulse_runtime.tracing import trace_id_of
from pulse_storage import telemetry
from pulse_storage.pool import Pool

_log = get_logger(__name__)
_UNSTORED_PAUSE_S = 30.0
_LINGER_S = 0.1
"""Telemetry is safe in its stream before it is stored: transactions must not take the disk from those who wait."""


class TelemetryWriter:
    """Stores envelopes; what PostgreSQL refuses becomes a quarantine record."""

    def __init__(
        self, consumer: PullConsumer, pool: Pool, intake: Intake, metrics: IngestMetrics, clock: Clock
    ) -> None:
        self._pool = pool
        self._intake = intake
        self._metrics = metrics
        self._clock = clock
        self._writer = BatchWriter[Envelope](
            consumer,
            decode=decode_envelope,
            store=self._store,
            last_resort=self._quarantine,
            clock=clock,
            linger_s=_LINGER_S,
        )

    @property
    def trouble(self) -> str | None:
        return self._writer.trouble

    async def run(self) -> None:
        """Write until cancelled."""
        await self._writer.run()

    async def _store(self, entries: Sequence[Entry[Envelope]]) -> None:
        started = self._clock.monotonic()
        stored = await telemetry.store(self._pool, [entry.record for entry in entries])
        seconds = self._clock.monotonic() - started
        failpoints.hit("ingest.after_store")
        self._metrics.stored_total.inc(stored)
        self._metrics.store_duplicates_total.inc(len(entries) - stored)
        self._metrics.store_seconds.observe(seconds)
        first = entries[0].message
        _log.info(
            TELEMETRY_STORED,
            rows=stored,
            duplicates=len(entries) - stored,
            duration_s=round(seconds, 4),
            lag_s=round(self._clock.now().timestamp() - first.stored_at_s, 4),
            trace_id=trace_id_of(first.traceparent),
        )

    async def _quarantine(self, message: Incoming, error: str) -> None:
        """Keep what cannot be stored where an operator finds it, then let the stream forget it."""
        tenant = tenant_of(message.subject)
        refusal = Refusal(reason="store_refused", field="payload", error=error)
        trace_id = trace_id_of(message.traceparent)
        _log.error(MESSAGE_QUARANTINED, tenant_id=tenant, reason=refusal.reason, error=error, trace_id=trace_id)
        if isinstance(await self._intake.quarantine(tenant, message.subject, message.data, refusal), Busy):
            await message.nak(_UNSTORED_PAUSE_S)
        else:
            await message.ack()
