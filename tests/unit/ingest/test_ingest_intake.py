import asyncio

import pytest
from ingest_builders import ACME, submission
from ingest_fakes import BUSY, STORED, QuarantineInMemory, TelemetryInMemory

from pulse_ingest.domain.admission import Refusal
from pulse_ingest.domain.intake import Accepted, Intake
from pulse_testkit.clock import ManualClock


async def test_accepted_is_not_said_before_the_log_has_committed(manual_clock: ManualClock) -> None:
    log = TelemetryInMemory(closed=True)
    submitting = asyncio.create_task(Intake(log, QuarantineInMemory(), manual_clock).submit(submission()))
    await manual_clock.advance(60)
    assert not submitting.done()
    log.opened.set()
    outcome = await submitting
    assert [outcome] == [Accepted(message_id=log.committed[0].message_id, duplicate=False)]


async def test_a_busy_log_accepts_nothing(manual_clock: ManualClock) -> None:
    log = TelemetryInMemory(refusals=1)
    assert await Intake(log, QuarantineInMemory(), manual_clock).submit(submission()) == BUSY
    assert log.committed == []


async def test_the_next_try_is_the_same_message_if_it_brings_its_id(manual_clock: ManualClock) -> None:
    log = TelemetryInMemory()
    intake = Intake(log, QuarantineInMemory(), manual_clock)
    first = await intake.submit(submission(supplied_id="m-1"))
    second = await intake.submit(submission(supplied_id="m-1"))
    assert isinstance(first, Accepted)
    assert Accepted(message_id=first.message_id, duplicate=True) == second


async def test_a_refusal_reaches_no_log(manual_clock: ManualClock) -> None:
    log, quarantine = TelemetryInMemory(), QuarantineInMemory()
    outcome = await Intake(log, quarantine, manual_clock).submit(submission(b"not json"))
    assert isinstance(outcome, Refusal)
    assert (log.committed, quarantine.records) == ([], [])


async def test_the_time_of_receipt_is_the_clocks(manual_clock: ManualClock) -> None:
    log = TelemetryInMemory()
    await manual_clock.advance(90)
    await Intake(log, QuarantineInMemory(), manual_clock).submit(submission())
    assert [manual_clock.now()] == [envelope.received_at for envelope in log.committed]


@pytest.mark.parametrize("size", [0, 100, 4 * 1024, 300_000])
async def test_quarantine_keeps_the_beginning_of_what_was_sent_and_why(manual_clock: ManualClock, size: int) -> None:
    quarantine = QuarantineInMemory()
    refusal = Refusal(reason="payload_not_json", field="payload", error="payload: not JSON")
    body = b"\xff" * size
    intake = Intake(TelemetryInMemory(), quarantine, manual_clock)
    assert await intake.quarantine(ACME, "tenant/acme/device/d/t", body, refusal) == STORED
    [record] = quarantine.records
    assert (body[: 4 * 1024], "payload_not_json", ACME) == (record.payload, record.reason, record.tenant_id)
    assert record == type(record).decode(record.encode())
