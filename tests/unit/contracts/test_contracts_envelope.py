import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pulse_contracts.envelope import Envelope, InvalidEnvelope, decode_envelope, format_time
from pulse_contracts.ids import DeviceId, MessageId, RouteId, TenantId
from pulse_contracts.records import AttemptRecord, DeadLetterRecord, QuarantineRecord, clip_error

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
TRICKY = [',"payload":', '"', "\\", '\\",\\"payload\\":', "}", "\x00", "\u2028", "ä😀", ',"envelope":']
TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(TRICKY)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=8,
)
TIMES = st.datetimes(timezones=st.just(UTC))


@st.composite
def envelopes(draw: st.DrawFn) -> Envelope:
    indent = draw(st.sampled_from([None, 2]))
    return Envelope(
        message_id=MessageId(draw(TEXT)),
        tenant_id=TenantId(draw(TEXT)),
        device_id=DeviceId(draw(TEXT)),
        type=draw(TEXT),
        topic=draw(TEXT),
        time=draw(TIMES),
        received_at=draw(TIMES),
        supplied_id=draw(st.booleans()),
        traceparent=draw(st.none() | TEXT),
        payload=json.dumps(draw(st.dictionaries(TEXT, JSON)), indent=indent, ensure_ascii=draw(st.booleans())).encode(),
    )


def envelope(payload: bytes = b'{"metrics": {"t": 21.50}}') -> Envelope:
    return Envelope(
        message_id=MessageId("m1"),
        tenant_id=TenantId("acme"),
        device_id=DeviceId("d1"),
        type="t",
        topic="tenant/acme/device/d1/t",
        time=NOON,
        received_at=NOON + timedelta(seconds=1),
        supplied_id=False,
        traceparent=None,
        payload=payload,
    )


@settings(max_examples=40, deadline=None)
@given(envelopes())
def test_an_envelope_comes_back_with_its_payload_byte_for_byte(made: Envelope) -> None:
    assert decode_envelope(made.encode()) == made


@settings(max_examples=40, deadline=None)
@given(envelopes())
def test_the_wire_form_is_json_with_the_payload_inside(made: Envelope) -> None:
    wire = json.loads(made.encode())

    assert wire["payload"] == json.loads(made.payload)
    assert wire["topic"] == made.topic


def test_a_webhook_gets_the_documented_members_and_nothing_else() -> None:
    body = json.loads(envelope().public_body())

    assert body == {
        "message_id": "m1",
        "tenant_id": "acme",
        "device_id": "d1",
        "type": "t",
        "topic": "tenant/acme/device/d1/t",
        "time": "2026-01-05T12:00:00.000000Z",
        "payload": {"metrics": {"t": 21.5}},
    }


def test_the_public_body_keeps_the_devices_own_bytes() -> None:
    payload = b'{ "a" : 1.50e3 , "payload":{"x":1} }'

    assert envelope(payload).public_body().endswith(b',"payload":' + payload + b"}")


def test_times_are_told_in_utc() -> None:
    east = datetime(2026, 1, 5, 14, 30, tzinfo=timezone(timedelta(hours=2, minutes=30)))

    assert format_time(east) == "2026-01-05T12:00:00.000000Z"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"a":1,"payload":{}}',
        b',"payload":{}}',
        b'[1,"payload":{}}',
        b'"x","payload":{}}',
        b'{"\xff":1,"payload":{}}',
        envelope().encode().replace(b"2026-01-05T12:00:00", b"yesterday"),
        envelope().encode().replace(b'"time"', b'"when"'),
    ],
)
def test_what_is_no_envelope_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidEnvelope):
        decode_envelope(data)


def dead_letter(made: Envelope, config: dict[str, object], error: str = "status 404") -> DeadLetterRecord:
    return DeadLetterRecord(
        route_id=RouteId("r1"),
        kind="webhook",
        config=config,
        reason="status_404",
        error=error,
        attempts=3,
        created_at=NOON,
        envelope=made,
    )


@settings(max_examples=40, deadline=None)
@given(envelopes(), st.dictionaries(TEXT, JSON))
def test_a_dead_letter_comes_back_whole(made: Envelope, config: dict[str, object]) -> None:
    record = dead_letter(made, config)

    assert DeadLetterRecord.decode(record.encode()) == record


def test_a_member_of_the_configuration_is_not_taken_for_the_envelope() -> None:
    headers: dict[str, object] = {"a": 1, "envelope": {"message_id": "forged"}}
    record = dead_letter(envelope(), {"headers": headers})

    assert DeadLetterRecord.decode(record.encode()) == record


@pytest.mark.parametrize("data", [b"", b"{}", b'{"a":1,"envelope":{}}', b"null", envelope().encode()])
def test_what_is_no_dead_letter_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidEnvelope):
        DeadLetterRecord.decode(data)


@given(st.binary(), TEXT, TEXT)
def test_a_quarantine_record_comes_back_with_any_bytes(payload: bytes, topic: str, error: str) -> None:
    record = QuarantineRecord(
        tenant_id=TenantId("acme"),
        topic=topic,
        reason="payload_not_json",
        error=clip_error(error),
        payload=payload,
        received_at=NOON.isoformat(),
    )

    assert QuarantineRecord.decode(record.encode()) == record


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b'{"payload":"zz"}', b'{"payload":1}'])
def test_what_is_no_quarantine_record_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidEnvelope):
        QuarantineRecord.decode(data)


def attempt() -> AttemptRecord:
    return AttemptRecord(
        message_id=MessageId("m1"),
        tenant_id=TenantId("acme"),
        route_id=RouteId("r1"),
        revision=2,
        attempt=1,
        outcome="failed",
        status=None,
        error="refused",
        duration_ms=1.5,
        at=NOON.isoformat(),
    )


def test_an_attempt_comes_back() -> None:
    assert AttemptRecord.decode(attempt().encode()) == attempt()


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b'{"surprise":1}'])
def test_what_is_no_attempt_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidEnvelope):
        AttemptRecord.decode(data)


def test_an_error_is_clipped_to_what_the_table_holds() -> None:
    assert clip_error("a\x00b") == "a\ufffdb"
    assert len(clip_error("x" * 5000)) == 2000


def test_an_overlong_error_is_clipped_on_the_wire() -> None:
    record = DeadLetterRecord.decode(replace(dead_letter(envelope(), {}), error="x" * 5000).encode())

    assert len(record.error) == 2000
