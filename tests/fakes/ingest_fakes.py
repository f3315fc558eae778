"""What ingest's edges are tested between: each passes the suite that its real counterpart passes.

That suite is tests/integration/ingest/test_ingest_ports_conformance.py; what is not in it, these may not claim.
"""

import asyncio
from dataclasses import dataclass, field
from typing import cast

from pulse_contracts.envelope import Envelope
from pulse_contracts.ids import DeviceId, TenantId
from pulse_contracts.records import QuarantineRecord
from pulse_ingest.adapters.authentication import AuthenticationUnavailable, Authenticator
from pulse_ingest.domain.credentials import Registry
from pulse_ingest.domain.ports import Busy, Receipt
from pulse_storage.pool import Pool

BUSY = Busy(reason="the log is full")
STORED = Receipt(duplicate=False)


@dataclass(slots=True)
class TelemetryInMemory:
    """A telemetry log without a disk."""

    committed: list[Envelope] = field(default_factory=list[Envelope])
    refusals: int = 0
    """So many commits find no room."""
    closed: bool = False
    """Whether commits take until *opened*."""
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def commit(self, envelope: Envelope) -> Receipt | Busy:
        if self.closed:
            await self.opened.wait()
        if self.refusals:
            self.refusals -= 1
            return BUSY
        if any(known.message_id == envelope.message_id for known in self.committed):
            return Receipt(duplicate=True)
        self.committed.append(envelope)
        return STORED


@dataclass(slots=True)
class QuarantineInMemory:
    """A quarantine log without a disk."""

    records: list[QuarantineRecord] = field(default_factory=list[QuarantineRecord])
    refusals: int = 0
    """So many commits find no log."""
    budget: int | None = None
    """Records beyond it are not kept."""

    async def commit(self, record: QuarantineRecord) -> Receipt | Busy:
        if self.refusals:
            self.refusals -= 1
            return BUSY
        if record not in self.records and (self.budget is None or len(self.records) < self.budget):
            self.records.append(record)
        return STORED


class DevicesInMemory(Authenticator):
    """The real authenticator on a registry; of devices that this does not know it asks nobody, and says no.

    While *away* is above 0 it cannot say, so often.
    """

    def __init__(self, registry: Registry, *, away: int = 0) -> None:
        super().__init__(registry, cast("Pool", None))
        self.away = away

    async def knows_device(self, tenant: TenantId, device: DeviceId) -> bool:
        if self._registry.knows_device(tenant, device):
            return True
        if self.away:
            self.away -= 1
            raise AuthenticationUnavailable
        return False
