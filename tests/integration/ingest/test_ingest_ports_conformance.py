"""One suite for each port of ingest, which the fakes of its unit tests pass as their real counterparts do."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
from ingest_fakes import DevicesInMemory, QuarantineInMemory, TelemetryInMemory
from prometheus_client import CollectorRegistry

from pulse_bus.api import api_request
from pulse_bus.inspection import unacknowledged
from pulse_bus.publisher import Publisher
from pulse_contracts.envelope import Envelope, decode_envelope
from pulse_contracts.ids import DeviceId, MessageId, TenantId
from pulse_contracts.records import QuarantineRecord
from pulse_ingest.adapters.authentication import AuthenticationUnavailable, Authenticator
from pulse_ingest.adapters.logs import JetStreamQuarantineLog, JetStreamTelemetryLog
from pulse_ingest.domain.credentials import Principal, Registry, digest
from pulse_ingest.domain.ports import Busy, QuarantineLog, Receipt, TelemetryLog
from pulse_runtime.clock import SystemClock
from pulse_runtime.metrics import BusMetrics, IngestMetrics
from pulse_storage import devices, tenants
from pulse_storage.devices import TokenHashes
from pulse_testkit.nats import Bus
from pulse_testkit.postgres import Database

ACME, GLOBEX = TenantId("acme"), TenantId("globex")
LISTED, NEW, REVOKED, NEVER_MADE = (DeviceId(name) for name in ("listed", "new", "revoked", "never-made"))
NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
ENVELOPE = Envelope(
    message_id=MessageId("m-1"),
    tenant_id=ACME,
    device_id=LISTED,
    type="data",
    topic="tenant/acme/device/listed/data",
    time=NOW,
    received_at=NOW,
    supplied_id=False,
    traceparent=None,
    payload=b'{"v":1}',
)
RECORD = QuarantineRecord(
    tenant_id=ACME,
    topic=ENVELOPE.topic,
    reason="payload_not_json",
    error="payload: not JSON",
    payload=b"\xff",
    received_at=NOW.isoformat(),
)


both = ["real", "fake"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryRig:
    """A telemetry log, and how to look into it and to fill it up."""

    log: TelemetryLog
    standing: Callable[[], Awaitable[list[Envelope]]]
    full: Callable[[], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineRig:
    """A quarantine log, how to look into it, to set a tenant's budget and to take the log away."""

    log: QuarantineLog
    standing: Callable[[], Awaitable[list[QuarantineRecord]]]
    budget: Callable[[int], Awaitable[None]]
    away: Callable[[], Awaitable[None]]


@pytest.fixture
async def telemetry(request: pytest.FixtureRequest, bus: Bus) -> AsyncGenerator[TelemetryRig]:
    if request.param == "fake":
        yield _fake_telemetry()
        return
    async with _publisher(bus, "TELEMETRY") as publisher:

        async def standing() -> list[Envelope]:
            return [
                decode_envelope(one.data) for one in await unacknowledged(bus.control, "TELEMETRY", "telemetry.>", None)
            ]

        @asynccontextmanager
        async def full() -> AsyncGenerator[None]:
            await _change(bus, "TELEMETRY", max_bytes=1)
            yield
            await _change(bus, "TELEMETRY", max_bytes=1024 * 1024)

        yield TelemetryRig(log=JetStreamTelemetryLog(publisher), standing=standing, full=full)


def _fake_telemetry() -> TelemetryRig:
    fake = TelemetryInMemory()

    async def standing() -> list[Envelope]:
        return fake.committed

    @asynccontextmanager
    async def full() -> AsyncGenerator[None]:
        fake.refusals = 1000
        yield
        fake.refusals = 0

    return TelemetryRig(log=fake, standing=standing, full=full)


@pytest.fixture
async def quarantine(request: pytest.FixtureRequest, bus: Bus) -> AsyncGenerator[QuarantineRig]:
    if request.param == "fake":
        yield _fake_quarantine()
        return
    async with _publisher(bus, "QUARANTINE") as publisher:

        async def standing() -> list[QuarantineRecord]:
            return [
                QuarantineRecord.decode(one.data)
                for one in await unacknowledged(bus.control, "QUARANTINE", "quarantine.>", None)
            ]

        async def budget(records: int) -> None:
            await _change(bus, "QUARANTINE", max_msgs_per_subject=records)

        async def away() -> None:
            await api_request(bus.control, "STREAM.DELETE.QUARANTINE")

        log = JetStreamQuarantineLog(publisher, IngestMetrics(CollectorRegistry()))
        yield QuarantineRig(log=log, standing=standing, budget=budget, away=away)


def _fake_quarantine() -> QuarantineRig:
    fake = QuarantineInMemory()

    async def standing() -> list[QuarantineRecord]:
        return fake.records

    async def budget(records: int) -> None:
        fake.budget = records

    async def away() -> None:
        fake.refusals = 1

    return QuarantineRig(log=fake, standing=standing, budget=budget, away=away)


@pytest.mark.parametrize("telemetry", both, indirect=True)
async def test_a_receipt_means_that_the_message_stands_in_the_log_as_it_was_given(telemetry: TelemetryRig) -> None:
    assert await telemetry.log.commit(ENVELOPE) == Receipt(duplicate=False)
    assert await telemetry.standing() == [ENVELOPE]


@pytest.mark.parametrize("telemetry", both, indirect=True)
async def test_a_message_that_stands_there_already_is_a_duplicate(telemetry: TelemetryRig) -> None:
    answers = [await telemetry.log.commit(ENVELOPE) for _ in range(3)]
    other = await telemetry.log.commit(replace(ENVELOPE, message_id=MessageId("m-2")))
    assert answers == [Receipt(duplicate=False), Receipt(duplicate=True), Receipt(duplicate=True)]
    assert other == Receipt(duplicate=False)
    assert [envelope.message_id for envelope in await telemetry.standing()] == ["m-1", "m-2"]


@pytest.mark.parametrize("telemetry", both, indirect=True)
async def test_a_full_log_is_busy_takes_nothing_and_takes_it_once_there_is_room(telemetry: TelemetryRig) -> None:
    async with telemetry.full():
        assert isinstance(await telemetry.log.commit(ENVELOPE), Busy)
        assert await telemetry.standing() == []
    assert await telemetry.log.commit(ENVELOPE) == Receipt(duplicate=False)
    assert await telemetry.standing() == [ENVELOPE]


@pytest.mark.parametrize("quarantine", both, indirect=True)
async def test_a_record_with_a_receipt_stands_in_quarantine_once(quarantine: QuarantineRig) -> None:
    assert [await quarantine.log.commit(RECORD) for _ in range(2)] == [Receipt(duplicate=False)] * 2
    assert await quarantine.standing() == [RECORD]


@pytest.mark.parametrize("quarantine", both, indirect=True)
async def test_a_record_beyond_the_budget_has_a_receipt_and_is_not_kept(quarantine: QuarantineRig) -> None:
    await quarantine.budget(1)
    second = replace(RECORD, reason="topic_invalid")
    assert [await quarantine.log.commit(each) for each in (RECORD, second)] == [Receipt(duplicate=False)] * 2
    assert await quarantine.standing() == [RECORD]


@pytest.mark.parametrize("quarantine", both, indirect=True)
async def test_a_quarantine_that_is_away_is_busy(quarantine: QuarantineRig) -> None:
    await quarantine.away()
    assert isinstance(await quarantine.log.commit(RECORD), Busy)


@pytest.mark.parametrize("kind", both)
async def test_a_device_is_known_if_it_was_made_and_not_revoked(database: Database, kind: str) -> None:
    """The fake's registry has what the real one finds in its own or in the database."""
    control = await database.pool("pulse_control")
    for tenant in (ACME, GLOBEX):
        await tenants.create(control, tenant, name=tenant, key_sha256=tenant.encode(), key_bcrypt="$2b$", actor="op")
    made = [TokenHashes(device_id=name, sha256=name.encode(), bcrypt="$2b$04$x") for name in (LISTED, NEW, REVOKED)]
    await devices.create(control, ACME, made, "op")
    assert await devices.revoke(control, ACME, REVOKED, "op")
    authenticator = (
        Authenticator(_registry(LISTED), await database.pool("pulse_ingest"))
        if kind == "real"
        else DevicesInMemory(_registry(LISTED, NEW))
    )
    for device, is_known in ((LISTED, True), (NEW, True), (REVOKED, False), (NEVER_MADE, False)):
        assert await authenticator.knows_device(ACME, device) is is_known
    assert not await authenticator.knows_device(GLOBEX, LISTED)


@pytest.mark.parametrize("kind", both)
async def test_while_the_database_is_away_only_what_is_in_memory_is_known(database: Database, kind: str) -> None:
    pool = await database.pool("pulse_ingest")
    await pool.close()
    authenticator = (
        Authenticator(_registry(LISTED), pool) if kind == "real" else DevicesInMemory(_registry(LISTED), away=1)
    )
    assert await authenticator.knows_device(ACME, LISTED)
    with pytest.raises(AuthenticationUnavailable):
        await authenticator.knows_device(ACME, NEW)


def _registry(*names: DeviceId) -> Registry:
    made = Registry()
    made.replace([(digest(f"token of {name}"), Principal(tenant=ACME, device=name)) for name in names])
    return made


@asynccontextmanager
async def _publisher(bus: Bus, stream: str) -> AsyncGenerator[Publisher]:
    publisher = Publisher(
        await bus.connect("ingest"), stream, clock=SystemClock(), metrics=BusMetrics(CollectorRegistry())
    )
    running = asyncio.create_task(publisher.run(), name=f"test.publisher[{stream}]")
    try:
        yield publisher
    finally:
        running.cancel()
        await asyncio.wait({running})


async def _change(bus: Bus, stream: str, **limits: int) -> None:
    info = await api_request(bus.control, f"STREAM.INFO.{stream}")
    await api_request(bus.control, f"STREAM.UPDATE.{stream}", {**info["config"], **limits})
