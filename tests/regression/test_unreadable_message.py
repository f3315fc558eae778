"""A message that could not be read was given back every 60 s for ever: one was enough.

Seen: in DELIVERY it pinned the ack floor, and the reaper purged nothing behind it until the stream was full and ingest
refused every tenant; in SIDING it stayed the head of its route, and nothing of the route was delivered any more.
"""

import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from support.pulse import Pulse, running
from support.receiver import open_receiver
from support.tenant import Route, Tenant
from support.waiting import eventually

from pulse_bus.address import BusAddress
from pulse_bus.api import api_request
from pulse_bus.connection import Connection, connect
from pulse_contracts import headers
from pulse_contracts.envelope import Envelope
from pulse_contracts.ids import DeviceId, MessageId, RouteId, TenantId
from pulse_contracts.records import DeadLetterRecord

MESSAGE = "01890000-0000-7000-8000-000000000001"
NOT_UTF8 = b'\xff"a later form'
LATER_FORM = b'{"v":2,"body":"a later form"}'
RECORDS = ("01890000-0000-7000-8000-000000000002", "01890000-0000-7000-8000-000000000003")
NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
REFUSED_BY_JSONB = DeadLetterRecord(
    route_id=RouteId(str(UUID(int=1))),
    kind="webhook",
    config={},
    reason="status_400",
    error="answered 400",
    attempts=1,
    created_at=NOW,
    envelope=Envelope(
        message_id=MessageId(RECORDS[1]),
        tenant_id=TenantId("acme"),
        device_id=DeviceId("d1"),
        type="data",
        topic="tenant/acme/device/d1/data",
        time=NOW,
        received_at=NOW,
        supplied_id=False,
        traceparent=None,
        payload=rb'{"text":"\u0000"}',
    ),
).encode()


@pytest.mark.timeout(120)
async def test_an_unreadable_message_becomes_a_dead_letter_and_is_in_nobodys_way(tmp_path: Path) -> None:
    async with open_receiver() as receiver, running(tmp_path / "pulse") as pulse:
        tenant = await pulse.tenant()
        device = await tenant.device()
        await receiver.close()
        route = await tenant.webhook(receiver.url("/hook"))
        place = f"webhook.{tenant.tenant_id}.{route.route_id}"
        named = {headers.MSG_ID: f"{MESSAGE}:{route.route_id}"}
        async with _as(pulse, "delivery") as bus:
            await bus.request(f"siding.{place}", LATER_FORM, timeout_s=5)
        sent = await device.accepted({"n": 1})
        await eventually(route.waiting, until=lambda waiting: waiting >= 1, what="the siding")
        async with _as(pulse, "router") as bus:
            await bus.publish(f"delivery.{place}", NOT_UTF8, headers=named)
            await bus.publish("delivery.webhook.x.not-an-id", b"", headers={})
        await receiver.open()

        await eventually(lambda: [request.message_id for request in receiver.of("/hook")] == [sent], 15)
        dead = {row.message_id: row for row in await eventually(tenant.dead_letters, until=lambda rows: len(rows) == 2)}
        assert {row.reason for row in dead.values()} == {"unreadable"}
        assert {row.route_id for row in dead.values()} == {route.route_id}
        assert base64.b64decode(dead.pop(MESSAGE).payload["base64"]) == NOT_UTF8
        assert [row.payload["text"] for row in dead.values()] == [LATER_FORM.decode()]
        stray = await eventually(lambda: pulse.rows("SELECT * FROM dead_letter_messages WHERE tenant_id = 'x'"))
        assert [(row["route_id"], row["original_topic"]) for row in stray] == [
            (UUID(int=0), "delivery.webhook.x.not-an-id")
        ]
        await eventually(lambda: _unacknowledged(pulse), until=lambda count: count == 0, what="the ack floor")
        await _expect_their_writers_to_store_them_too(pulse, tenant, route)


async def _expect_their_writers_to_store_them_too(pulse: Pulse, tenant: Tenant, route: Route) -> None:
    async with _as(pulse, "delivery") as bus:
        for number, record in enumerate((LATER_FORM, REFUSED_BY_JSONB)):
            named = {headers.MSG_ID: f"{RECORDS[number]}:{route.route_id}:dlq"}
            await bus.publish(f"deadletter.{tenant.tenant_id}.{route.route_id}", record, headers=named)
    async with _as(pulse, "ingest") as bus:
        await bus.publish(f"quarantine.{tenant.tenant_id}", NOT_UTF8, headers={})

    rows = await eventually(tenant.dead_letters, until=lambda rows: len(rows) == 4, what="rows for both records")
    found = {row.message_id: row for row in rows}
    assert [found[message].payload["text"].encode() for message in RECORDS] == [LATER_FORM, REFUSED_BY_JSONB]
    assert [found[message].reason for message in RECORDS] == ["unreadable", "unreadable"]
    assert "\\u0000" in found[RECORDS[1]].error_message
    [kept] = await eventually(tenant.quarantined, what="a row in quarantine")
    assert (kept["reason"], kept["payload"]) == ("unreadable", NOT_UTF8)
    for consumer in ("DEADLETTER.dead-letter-writer", "QUARANTINE.quarantine-writer"):
        await eventually(lambda c=consumer: _unacknowledged(pulse, c), until=lambda count: count == 0, what=consumer)


@asynccontextmanager
async def _as(pulse: Pulse, service: str) -> AsyncGenerator[Connection]:
    url = pulse.stack.addresses.nats.url("nats")
    address = BusAddress(url=url, user=service, password=pulse.secrets.nats[service], service=service)
    async with connect(address) as connection:
        yield connection


async def _unacknowledged(pulse: Pulse, consumer: str = "DELIVERY.deliver-webhook") -> int:
    async with pulse.bus() as bus:
        info = await api_request(bus, f"CONSUMER.INFO.{consumer}")
    return info["num_ack_pending"]
