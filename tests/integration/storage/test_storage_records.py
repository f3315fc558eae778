from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from storage_rows import ACME, GLOBEX, NOON, add_tenants, dead_letter

from pulse_contracts.ids import RouteId, new_message_id
from pulse_contracts.records import AttemptRecord, JudgementRecord, QuarantineRecord
from pulse_contracts.storing import DataRefused, StorageUnavailable
from pulse_storage import dead_letters, delivery_log, judgements, quarantine
from pulse_storage.pool import Pool
from pulse_testkit.postgres import Database


@pytest.fixture
async def delivery(database: Database) -> Pool:
    await add_tenants(await database.owner())
    return await database.pool("pulse_delivery")


async def test_a_quarantined_message_is_one_row_however_often_it_is_delivered(database: Database) -> None:
    ingest = await database.pool("pulse_ingest")
    record = QuarantineRecord(
        tenant_id=ACME,
        topic="tenant/acme/device/d1/\x00",
        reason="topic_invalid",
        error="type must be printable",
        payload=b"\x00\xff",
        received_at=NOON.isoformat(),
    )

    for _ in range(2):
        await quarantine.store(ingest, [(7, record), (8, record)])

    owner = await database.owner()
    rows = await owner.fetch("SELECT tenant_id, payload, reason FROM quarantine")
    assert [tuple(row) for row in rows] == [("acme", b"\x00\xff", "topic_invalid")] * 2


async def test_a_dead_letter_is_one_row_that_its_own_tenant_sees(database: Database, delivery: Pool) -> None:
    record = dead_letter(tenant=ACME)
    for _ in range(2):
        await dead_letters.store(delivery, ACME, [record])

    control = await database.pool("pulse_control")
    [row] = await dead_letters.find(control, ACME)
    assert await dead_letters.find(control, GLOBEX) == []
    assert (row.message_id, row.status, row.payload) == (
        record.envelope.message_id,
        "FAILED",
        {"metrics": {"t": 21.5}},
    )
    assert await dead_letters.find(control, ACME, message_id=str(new_message_id())) == []


async def test_a_dead_letter_of_another_tenant_is_not_stored(database: Database, delivery: Pool) -> None:
    with pytest.raises((DataRefused, StorageUnavailable)):
        await dead_letters.store(delivery, ACME, [dead_letter(tenant=ACME), dead_letter(tenant=GLOBEX)])

    owner = await database.owner()
    assert await owner.fetchval("SELECT count(*) FROM dead_letter_messages") == 0


async def test_an_endless_error_is_clipped(database: Database, delivery: Pool) -> None:
    await dead_letters.store(delivery, ACME, [dead_letter(error="x\x00" * 5000)])

    owner = await database.owner()
    assert await owner.fetchval("SELECT length(error_message) FROM dead_letter_messages") == 2000


def attempt() -> AttemptRecord:
    return AttemptRecord(
        message_id=new_message_id(),
        tenant_id=ACME,
        route_id=RouteId(str(new_message_id())),
        revision=3,
        attempt=1,
        outcome="failed",
        status=503,
        error="status 503",
        duration_ms=12.5,
        at=NOON.isoformat(),
    )


async def test_attempts_of_many_tenants_are_stored_once(database: Database, delivery: Pool) -> None:
    first = attempt()
    records = [first, replace(first, attempt=2, outcome="delivered"), replace(first, tenant_id=GLOBEX)]

    for _ in range(2):
        await delivery_log.store(delivery, records)

    owner = await database.owner()
    assert await owner.fetchval("SELECT count(*) FROM delivery_log") == 3


async def test_an_attempt_that_makes_no_sense_is_refused_data(delivery: Pool) -> None:
    with pytest.raises(DataRefused):
        await delivery_log.store(delivery, [replace(attempt(), route_id=RouteId("no-uuid"))])


def judgement(judged_at: datetime) -> JudgementRecord:
    return JudgementRecord(
        judgement_id=str(uuid4()),
        tenant_id=ACME,
        generation=4,
        judged_at=judged_at,
        message_ids=[new_message_id(), new_message_id()],
    )


async def test_a_judgement_is_one_row_however_often_it_is_delivered(database: Database) -> None:
    router = await database.pool("pulse_router")
    record = judgement(NOON)
    for _ in range(2):
        await judgements.store(router, [record])

    owner = await database.owner()
    rows = await owner.fetch("SELECT generation, message_ids::text[] FROM judgements")
    assert [tuple(row) for row in rows] == [(4, record.message_ids)]


async def test_old_judgements_are_forgotten(database: Database) -> None:
    router, now = await database.pool("pulse_router"), datetime.now(UTC)
    kept, forgotten = judgement(now - timedelta(days=6)), judgement(now - timedelta(days=8))
    await judgements.store(router, [kept, forgotten])
    await judgements.prune(router, older_than_days=7)

    owner = await database.owner()
    assert await owner.fetchval("SELECT array_agg(judged_at) FROM judgements") == [kept.judged_at]


async def test_old_attempts_are_forgotten(database: Database, delivery: Pool) -> None:
    now = datetime.now(UTC)
    kept, forgotten = (replace(attempt(), at=(now - timedelta(days=days)).isoformat()) for days in (29, 31))
    await delivery_log.store(delivery, [kept, forgotten])
    await delivery_log.prune(delivery, older_than_days=30)

    owner = await database.owner()
    assert await owner.fetchval("SELECT array_agg(at) FROM delivery_log") == [datetime.fromisoformat(kept.at)]
