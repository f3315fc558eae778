"""A row in the default partition made the making of that day's partition fail, and ingest with it."""

from datetime import UTC, datetime

from pulse_contracts.envelope import Envelope
from pulse_contracts.ids import DeviceId, TenantId, new_message_id
from pulse_storage import telemetry
from pulse_storage.pool import open_pool
from pulse_testkit.postgres import Database


async def test_partitions_are_made_although_a_day_has_rows_in_the_default_one(database: Database) -> None:
    now = datetime.now(UTC)
    envelope = Envelope(
        message_id=new_message_id(),
        tenant_id=TenantId("acme"),
        device_id=DeviceId("d1"),
        type="t",
        topic="tenant/acme/device/d1/t",
        time=now,
        received_at=now,
        supplied_id=False,
        traceparent=None,
        payload=b"{}",
    )
    async with open_pool(database.dsn("pulse_ingest"), service="test") as pool:
        assert await telemetry.store(pool, [envelope]) == 1
        made = await telemetry.ensure_partitions(pool, days_ahead=7)
        assert made == 8
        assert await telemetry.ensure_partitions(pool, days_ahead=7) == 0
        assert await telemetry.store(pool, [envelope]) == 0
