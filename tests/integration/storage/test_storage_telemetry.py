import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from storage_rows import ACME, GLOBEX, NOON, envelope

from pulse_contracts.envelope import Envelope
from pulse_contracts.ids import MessageId, new_message_id
from pulse_contracts.storing import DataRefused, StorageUnavailable
from pulse_storage import telemetry
from pulse_storage.census import read
from pulse_storage.pool import Pool
from pulse_testkit.postgres import Database


@pytest.fixture
async def ingest(database: Database) -> Pool:
    return await database.pool("pulse_ingest")


async def test_a_batch_of_many_tenants_is_stored(database: Database, ingest: Pool) -> None:
    batch = [envelope(tenant=tenant) for tenant in (ACME, GLOBEX) for _ in range(50)]

    assert await telemetry.store(ingest, batch) == 100

    control = await database.pool("pulse_control")
    stored = (await read(control, ACME)).stored
    assert sorted(row.message_id for row in stored) == sorted(message.message_id for message in batch[:50])


async def test_a_redelivered_batch_adds_nothing(ingest: Pool) -> None:
    batch = [envelope(), envelope(supplied_id=True, message_id=MessageId(str(uuid4())))]

    assert [await telemetry.store(ingest, batch) for _ in range(2)] == [2, 0]


async def test_a_redelivery_mixed_with_news_adds_the_news(ingest: Pool) -> None:
    old, new = envelope(), envelope()
    await telemetry.store(ingest, [old])

    assert await telemetry.store(ingest, [old, new]) == 1


async def test_a_resend_with_its_id_and_another_time_is_one_row(ingest: Pool) -> None:
    supplied = MessageId(str(uuid4()))
    await telemetry.store(ingest, [envelope(message_id=supplied, supplied_id=True)])

    later = envelope(message_id=supplied, supplied_id=True, time=NOON + timedelta(days=1))

    assert await telemetry.store(ingest, [later]) == 0


@pytest.mark.parametrize("supplied", [True, False])
async def test_a_message_that_is_twice_in_a_batch_is_one_row(ingest: Pool, *, supplied: bool) -> None:
    twice = envelope(message_id=new_message_id(), supplied_id=supplied)

    assert await telemetry.store(ingest, [twice, twice]) == 1


async def test_a_supplied_id_that_is_twice_in_a_batch_with_two_times_is_one_row(ingest: Pool) -> None:
    supplied = MessageId(str(uuid4()))
    batch = [
        envelope(message_id=supplied, supplied_id=True, time=NOON + timedelta(seconds=second)) for second in range(3)
    ]

    assert await telemetry.store(ingest, batch) == 1


async def test_two_writers_of_the_same_messages_store_each_once(database: Database, ingest: Pool) -> None:
    other = await database.pool("pulse_ingest")
    batch = [envelope(message_id=MessageId(str(uuid4())), supplied_id=n % 2 == 0) for n in range(400)]

    async def store(pool: Pool, messages: list[Envelope]) -> int:
        for _ in range(5):
            try:
                return await telemetry.store(pool, messages)
            except StorageUnavailable:  # a deadlock: the writer tries again
                continue
        raise AssertionError("five deadlocks in a row")

    stored = await asyncio.gather(store(ingest, batch), store(other, batch[::-1]))

    assert sum(stored) == 400


@pytest.mark.parametrize("time", [datetime(1999, 1, 1, tzinfo=UTC), datetime(2199, 1, 1, tzinfo=UTC)])
async def test_a_time_outside_all_partitions_goes_to_the_default_one(
    database: Database, ingest: Pool, time: datetime
) -> None:
    await telemetry.ensure_partitions(ingest, days_ahead=1)

    await telemetry.store(ingest, [envelope(time=time)])

    owner = await database.owner()
    assert await owner.fetchval("SELECT count(*) FROM telemetry_default") == 1


async def test_todays_messages_go_to_todays_partition(database: Database, ingest: Pool) -> None:
    await telemetry.ensure_partitions(ingest, days_ahead=1)

    await telemetry.store(ingest, [envelope(time=datetime.now(UTC))])

    owner = await database.owner()
    assert await owner.fetchval("SELECT count(*) FROM telemetry_default") == 0


async def test_the_payload_is_stored_with_its_numbers(database: Database, ingest: Pool) -> None:
    payload = b'{"t": 21.50, "n": 12345678901234567890123, "s": "\\u00e4\xc3\xa4"}'

    await telemetry.store(ingest, [envelope(payload=payload)])

    owner = await database.owner()
    text = await owner.fetchval("SELECT payload::text FROM telemetry")
    assert text == '{"n": 12345678901234567890123, "s": "ää", "t": 21.50}'


@pytest.mark.parametrize("payload", [b'{"a": "\\u0000"}', b'{"a": "\\ud800"}', b'{"a": ', b'{"a": "\xff"}'])
async def test_data_that_the_database_cannot_hold_is_refused_whole(
    database: Database, ingest: Pool, payload: bytes
) -> None:
    with pytest.raises(DataRefused):
        await telemetry.store(ingest, [envelope(), envelope(payload=payload)])

    owner = await database.owner()
    assert await owner.fetchval("SELECT count(*) FROM telemetry") == 0
    assert await telemetry.store(ingest, [envelope()]) == 1, "the connection is usable"


async def test_a_database_that_is_down_is_unavailability_and_then_works_again(database: Database, ingest: Pool) -> None:
    await telemetry.store(ingest, [envelope()])

    # The kernel ends the postmaster first: a backend may answer once more until it notices.
    gone = asyncio.Event()
    async with ingest.acquire() as connection:
        connection.add_termination_listener(lambda _connection: gone.set())
    database.postgres.kill()
    await gone.wait()
    with pytest.raises(StorageUnavailable):
        await telemetry.store(ingest, [envelope()])
    await database.postgres.until_ready()

    assert await telemetry.store(ingest, [envelope()]) == 1


async def test_partitions_are_made_ahead_once(database: Database, ingest: Pool) -> None:
    made = [await telemetry.ensure_partitions(ingest, days_ahead=3) for _ in range(2)]

    assert made == [5, 0], "yesterday, today, and three days"
    owner = await database.owner()
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).strftime("telemetry_%Y%m%d")
    assert await owner.fetchval("SELECT to_regclass($1)::text", tomorrow) == tomorrow


async def test_replicas_that_make_partitions_at_once_do_not_disturb_each_other(database: Database) -> None:
    pools = [await database.pool("pulse_ingest") for _ in range(3)]

    made = await asyncio.gather(*(telemetry.ensure_partitions(pool, days_ahead=2) for pool in pools))

    assert sum(made) == 4


async def test_a_day_that_the_default_partition_has_begun_stays_there(database: Database, ingest: Pool) -> None:
    await telemetry.store(ingest, [envelope(time=datetime.now(UTC))])

    assert await telemetry.ensure_partitions(ingest, days_ahead=1) == 2, "yesterday and tomorrow"
    assert await telemetry.store(ingest, [envelope(time=datetime.now(UTC))]) == 1


async def test_ids_are_forgotten_after_their_time(database: Database, ingest: Pool) -> None:
    supplied = MessageId(str(uuid4()))
    await telemetry.store(ingest, [envelope(message_id=supplied, supplied_id=True)])
    owner = await database.owner()
    await owner.execute("UPDATE message_ids SET stored_at = now() - interval '8 days'")

    await telemetry.prune_message_ids(ingest, older_than_days=7)

    later = envelope(message_id=supplied, supplied_id=True, time=NOON + timedelta(days=9))
    assert await telemetry.store(ingest, [later]) == 1


async def test_rows_of_a_day_without_a_partition_are_counted(ingest: Pool) -> None:
    await telemetry.ensure_partitions(ingest, days_ahead=1)
    await telemetry.store(ingest, [envelope(time=datetime.now(UTC))])
    assert await telemetry.default_partition_rows(ingest) == 0

    await telemetry.store(ingest, [envelope(time=datetime.now(UTC) - timedelta(days=300))])
    assert await telemetry.default_partition_rows(ingest) == 1
