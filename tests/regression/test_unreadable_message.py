"""A message that could not be read was given back every 60 s for ever: one was enough.

Seen: in DELIVERY it pinned the ack floor, and the reaper purged nothing behind it until the stream was full and ingest
refused every tenant; in SIDING it stayed the head of its route, and nothing of the route was delivered any more.
"""

import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest
from support.pulse import Pulse, running
from support.receiver import open_receiver
from support.waiting import eventually

from pulse_bus.address import BusAddress
from pulse_bus.api import api_request
from pulse_bus.connection import Connection, connect
from pulse_contracts import headers

MESSAGE = "01890000-0000-7000-8000-000000000001"
NOT_UTF8 = b'\xff"a later form'
LATER_FORM = b'{"v":2,"body":"a later form"}'


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


@asynccontextmanager
async def _as(pulse: Pulse, service: str) -> AsyncGenerator[Connection]:
    url = pulse.stack.addresses.nats.url("nats")
    address = BusAddress(url=url, user=service, password=pulse.secrets.nats[service], service=service)
    async with connect(address) as connection:
        yield connection


async def _unacknowledged(pulse: Pulse) -> int:
    async with pulse.bus() as bus:
        info = await api_request(bus, "CONSUMER.INFO.DELIVERY.deliver-webhook")
    return info["num_ack_pending"]
