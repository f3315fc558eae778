"""Finding what is on record of a message, in real streams and tables."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from pulse_contracts import headers, subjects
from pulse_contracts.envelope import Envelope
from pulse_contracts.ids import DeviceId, MessageId, RouteId, TenantId, new_message_id, supplied_message_id
from pulse_contracts.records import JudgementRecord
from pulse_control import trail_search
from pulse_control.context import Actor, Control
from pulse_control.errors import ControlRefused, NotFound
from pulse_control.tenants import create_tenant
from pulse_control.trail import TELEMETRY, Fate, Progress, Trail
from pulse_control.trail_search import find_trail
from pulse_storage import telemetry, trails
from pulse_storage.sealing import KeyRing
from pulse_testkit.nats import TESTER, Bus
from pulse_testkit.postgres import Database

ACME, GLOBEX = TenantId("acme"), TenantId("globex")
DEVICE = DeviceId("AA:BB.1")
ROUTE = RouteId("01890000-0000-7000-8000-000000000001")
NOW = datetime.now(UTC)


class Records:
    """Puts a message on record where the services would, and asks for its trail."""

    def __init__(self, bus: Bus, database: Database, control: Control) -> None:
        self._bus = bus
        self._database = database
        self._control = control

    async def stand(self, subject: str, data: bytes, msg_id: str, **fields: str) -> None:
        """Let a message stand in the stream of the subject."""
        named = {headers.MSG_ID: msg_id, **{f"Pulse-{name}": value for name, value in fields.items()}}
        connection = await self._bus.connect(TESTER)
        answer = await connection.request(subject, data, timeout_s=5, headers=named)
        assert "error" not in json.loads(answer.data)

    async def store(self, envelope: Envelope) -> None:
        await telemetry.store(await self._database.pool("pulse_ingest"), [envelope])

    async def trail(self, message_id: str, tenant: str | None = None) -> Trail:
        return await find_trail(self._control, self._bus.control, message_id, tenant)


@pytest.fixture
async def records(bus: Bus, database: Database) -> Records:
    control = Control(pool=await database.pool("pulse_control"), keys=KeyRing({"k": bytes(32)}))
    for tenant in (ACME, GLOBEX):
        await create_tenant(control, tenant, None, Actor("test"))
    return Records(bus, database, control)


def envelope(message_id: MessageId, time: datetime = NOW, *, supplied: bool = True) -> Envelope:
    return Envelope(
        message_id=message_id,
        tenant_id=ACME,
        device_id=DEVICE,
        type="t",
        topic=f"tenant/{ACME}/device/{DEVICE}/t",
        time=time,
        received_at=NOW,
        supplied_id=supplied,
        traceparent=None,
        payload=b"{}",
    )


async def test_what_was_only_accepted_waits_and_is_its_own_tenants(records: Records) -> None:
    message_id = new_message_id()
    accepted = envelope(message_id)
    await records.stand(subjects.telemetry(ACME, DEVICE, "t"), accepted.encode(), message_id)

    found = await records.trail(message_id.upper())

    assert (found.tenant_id, found.topic, found.received_at) == (ACME, accepted.topic, NOW)
    assert (found.stored, found.routed, found.routes) == (Progress.WAITING, Progress.WAITING, [])
    assert await records.trail(message_id, ACME) == found
    with pytest.raises(NotFound, match=r"nothing is on record of a message .* of tenant globex"):
        await records.trail(message_id, GLOBEX)


@pytest.mark.parametrize("supplied", [False, True])
async def test_a_row_is_found_whatever_the_device_says_of_its_time(records: Records, *, supplied: bool) -> None:
    message_id = supplied_message_id(ACME, DEVICE, "m-1") if supplied else new_message_id()
    measured = NOW - timedelta(days=364)
    await records.store(envelope(message_id, measured, supplied=supplied))

    found = await records.trail(message_id)

    assert (found.tenant_id, found.stored, found.measured_at) == (ACME, Progress.DONE, measured)
    assert (found.stored_at is not None) is supplied
    assert (found.routed, found.generation) == (Progress.UNKNOWN, None)
    with pytest.raises(NotFound):
        await records.trail(message_id, GLOBEX)


async def test_it_is_found_in_the_siding_since_when_and_why(records: Records) -> None:
    message_id = new_message_id()
    fields = {"Routed-At": str(int(NOW.timestamp() * 1000)), "Cause": "lane_stuck"}
    subject = subjects.siding("webhook", ACME, ROUTE)
    await records.stand(subject, envelope(message_id).encode(), f"{message_id}:{ROUTE}:s", **fields)

    found = await records.trail(message_id)

    [route] = found.routes
    assert (route.route_id, route.fate, route.reason) == (ROUTE, Fate.SIDING, "lane_stuck")
    assert found.routed_at == NOW.replace(microsecond=NOW.microsecond // 1000 * 1000)
    assert found.topic == envelope(message_id).topic


async def test_a_judgement_on_its_way_to_the_table_counts(records: Records) -> None:
    message_id = new_message_id()
    record = JudgementRecord(
        judgement_id=str(new_message_id()), tenant_id=ACME, generation=7, judged_at=NOW, message_ids=[message_id]
    )
    await records.stand(subjects.judgement(ACME), record.encode(), record.judgement_id)
    found = await records.trail(message_id)
    assert (found.tenant_id, found.routed, found.generation, found.routed_at) == (ACME, Progress.DONE, 7, NOW)


async def test_what_cannot_be_read_is_passed_over(records: Records) -> None:
    message_id = new_message_id()
    await records.stand(subjects.judgement(ACME), b"garbage", "j-1")
    await records.stand(f"attempt.{ACME}.{ROUTE}", b"garbage", f"{message_id}:{ROUTE}:a")
    await records.stand(f"deadletter.{ACME}.{ROUTE}", b"garbage", f"{message_id}:{ROUTE}:dlq")
    await records.stand("siding.webhook.a=zz.r", b"garbage", f"{message_id}:{ROUTE}:s")
    assert (await records.trail(message_id)).routes == []


async def test_a_stream_with_too_much_in_it_is_named(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail_search, "_MOST_READ", 2)
    message_id = new_message_id()
    await records.store(envelope(message_id))
    for number in range(3):
        await records.stand(subjects.siding("webhook", GLOBEX, ROUTE), b"{}", f"other-{number}")
    assert (await records.trail(message_id)).not_searched == ("SIDING",)
    assert (await records.trail(message_id, ACME)).not_searched == ()


async def test_a_table_that_takes_too_long_is_named_and_the_rest_is_told(
    records: Records, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trails, "_SEARCH_S", 1.0)
    message_id = new_message_id()
    await records.stand(
        subjects.siding("webhook", ACME, ROUTE), envelope(message_id).encode(), f"{message_id}:{ROUTE}:s"
    )
    owner = await database.owner()
    async with owner.transaction():
        await owner.execute("LOCK TABLE telemetry IN ACCESS EXCLUSIVE MODE")
        found = await records.trail(message_id)
    assert (found.stored, found.not_searched) == (Progress.UNKNOWN, (TELEMETRY,))
    assert [route.fate for route in found.routes] == [Fate.SIDING]


@pytest.mark.parametrize("text", ["nope", "", "01890000-0000-7000-8000", "\udcff"])
async def test_what_is_no_id_is_refused_with_the_fields_name(records: Records, text: str) -> None:
    with pytest.raises(ControlRefused, match=r"^message_id: must be a UUID"):
        await records.trail(text)


@pytest.mark.parametrize("stamp", ["00000000-0000", "ffffffff-ffff", "e677d21f-dbff"])
async def test_an_unknown_id_is_not_found_whatever_time_it_names(records: Records, stamp: str) -> None:
    with pytest.raises(NotFound, match="nothing is on record"):
        await records.trail(f"{stamp}-7000-8000-000000000000")
