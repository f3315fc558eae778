"""Data and logs for the tests of ingest."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast

from pydantic import SecretStr

from pulse_contracts.envelope import Envelope
from pulse_contracts.ids import DeviceId, TenantId
from pulse_contracts.records import QuarantineRecord
from pulse_contracts.topics import DeviceTopic
from pulse_ingest.adapters.authentication import AuthenticationUnavailable, Authenticator
from pulse_ingest.domain.admission import Submission
from pulse_ingest.domain.credentials import Principal, Registry, digest
from pulse_ingest.domain.ports import Busy, Receipt
from pulse_ingest.settings import IngestSettings
from pulse_storage.pool import Pool

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
ACME = TenantId("acme")
GLOBEX = TenantId("globex")
SENSOR = DeviceId("sensor-1")
SENSOR_TOKEN = "dev_sensor"
OTHER_TOKEN = "dev_other"
ACME_KEY = "key_acme"
BUSY = Busy(reason="the log is full")
STORED = Receipt(duplicate=False)


def topic(tenant: str = ACME, device: str = SENSOR, message_type: str = "weather") -> DeviceTopic:
    return DeviceTopic(tenant=TenantId(tenant), device=DeviceId(device), type=message_type)


def submission(body: bytes = b'{"metrics":{"t":1}}', supplied_id: str | None = None) -> Submission:
    return Submission(topic=topic(), body=body, supplied_id=supplied_id)


def registry() -> Registry:
    """Two devices of acme, its ingest key, and a device of globex."""
    made = Registry()
    made.replace(
        [
            (digest(SENSOR_TOKEN), Principal(tenant=ACME, device=SENSOR)),
            (digest("dev_second"), Principal(tenant=ACME, device=DeviceId("sensor-2"))),
            (digest(ACME_KEY), Principal(tenant=ACME, device=None)),
            (digest(OTHER_TOKEN), Principal(tenant=GLOBEX, device=SENSOR)),
        ]
    )
    return made


def settings() -> IngestSettings:
    return IngestSettings(
        nats_url="nats://nats:4222",
        nats_user="ingest",
        nats_password=SecretStr("secret"),
        database_url=SecretStr("postgresql://writer@db/pulse"),
        admin_port=0,
        http_port=0,
        mqtt_host="broker",
    )


@dataclass
class ListedTelemetry:
    """A telemetry log in memory: gives *answers* one by one, then receipts; commits once *opened*."""

    answers: list[Receipt | Busy] = field(default_factory=list[Receipt | Busy])
    committed: list[Envelope] = field(default_factory=list[Envelope])
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    closed: bool = False

    async def commit(self, envelope: Envelope) -> Receipt | Busy:
        if self.closed:
            await self.opened.wait()
        answer = self.answers.pop(0) if self.answers else STORED
        if isinstance(answer, Receipt):
            self.committed.append(envelope)
        return answer


@dataclass
class ListedQuarantine:
    """A quarantine log in memory: gives *answers* one by one, then receipts."""

    answers: list[Receipt | Busy] = field(default_factory=list[Receipt | Busy])
    records: list[QuarantineRecord] = field(default_factory=list[QuarantineRecord])

    async def commit(self, record: QuarantineRecord) -> Receipt | Busy:
        answer = self.answers.pop(0) if self.answers else STORED
        if isinstance(answer, Receipt):
            self.records.append(record)
        return answer


class RegistryOnly(Authenticator):
    """Knows what the registry knows; of other devices it says no, after being *away* so often."""

    def __init__(self, *, away: int = 0) -> None:
        super().__init__(registry(), cast("Pool", None))
        self.away = away

    async def knows_device(self, tenant: TenantId, device: DeviceId) -> bool:
        if self._registry.knows_device(tenant, device):
            return True
        if self.away:
            self.away -= 1
            raise AuthenticationUnavailable
        return False
