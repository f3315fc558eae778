import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingest_builders import ACME, NOW, SENSOR, submission, topic

from pulse_contracts.envelope import Envelope, decode_envelope
from pulse_contracts.ids import DeviceId, TenantId, supplied_message_id
from pulse_ingest.domain.admission import MAX_PAYLOAD_BYTES, Refusal, Submission, admit, credible_time


def admitted(wanted: Submission) -> Envelope:
    outcome = admit(wanted, NOW)
    assert isinstance(outcome, Envelope)
    return outcome


def refused(wanted: Submission) -> Refusal:
    outcome = admit(wanted, NOW)
    assert isinstance(outcome, Refusal)
    return outcome


def test_a_message_without_an_id_gets_a_new_one_each_time() -> None:
    first, second = admitted(submission()), admitted(submission())
    assert first.message_id != second.message_id
    assert not first.supplied_id


@pytest.mark.parametrize(
    ("header", "payload_id", "counts"),
    [
        ("h-1", None, "h-1"),
        (None, "p-1", "p-1"),
        ("h-1", "p-1", "h-1"),
        ("", "p-1", "p-1"),
    ],
)
def test_the_id_of_the_protocol_goes_before_the_payloads(
    header: str | None, payload_id: str | None, counts: str
) -> None:
    envelope = admitted(submission(json.dumps({"message_id": payload_id}).encode(), supplied_id=header))
    assert supplied_message_id(ACME, SENSOR, counts) == envelope.message_id
    assert envelope.supplied_id


def test_the_same_supplied_id_of_another_device_or_tenant_is_another_message() -> None:
    sent = [("acme", "a"), ("acme", "b"), ("globex", "a")]
    ids = {
        admitted(Submission(topic=topic(tenant, device), body=b"{}", supplied_id="1")).message_id
        for tenant, device in sent
    }
    assert len(ids) == 3


@pytest.mark.parametrize("given_id", ["x" * 257, "a\nb", "\x7f", "\ud800"])
def test_an_id_that_cannot_be_kept_is_refused(given_id: str) -> None:
    assert (
        refused(submission(supplied_id=given_id)).reason,
        refused(submission(supplied_id=given_id)).field,
    ) == ("message_id_invalid", "message_id")


@pytest.mark.parametrize("value", [5, 0, False, 1.5, [], {}, ["a"]])
def test_a_payloads_id_must_be_text(value: object) -> None:
    refusal = refused(submission(json.dumps({"message_id": value}).encode()))
    assert (refusal.reason, refusal.field) == ("message_id_invalid", "message_id")


@pytest.mark.parametrize("body", [b"{}", b'{"message_id":null}', b'{"message_id":""}'])
def test_no_id_null_and_an_empty_one_mean_that_none_was_given(body: bytes) -> None:
    assert not admitted(submission(body)).supplied_id


@pytest.mark.parametrize("body", [b"[]", b"null", b"5", b'"text"', b"true"])
def test_a_payload_must_be_an_object(body: bytes) -> None:
    assert refused(submission(body)).reason == "payload_not_object"


def test_a_payload_is_bounded_in_bytes() -> None:
    frame = b'{"a":""}'
    fits = b'{"a":"' + b"x" * (MAX_PAYLOAD_BYTES - len(frame)) + b'"}'
    assert fits == admitted(submission(fits)).payload
    assert refused(submission(fits + b" ")).reason == "payload_too_large"


def test_a_refusal_of_the_payload_names_the_place() -> None:
    refusal = refused(submission(b'{"metrics":{"a":"\\u0000"}}'))
    assert refusal.field == "payload.metrics.a"
    assert refusal.error == "payload: metrics.a: contains a NUL character"


def test_the_payload_travels_byte_for_byte() -> None:
    body = b'{ "t" : 1.50, "u":"\\u00e9", "v":"\xc3\xa9" }'
    envelope = admitted(submission(b"\n" + body + b"\r\n"))
    assert body == envelope.payload
    assert envelope == decode_envelope(envelope.encode())


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=8), st.text(st.characters(codec="utf-8"))))
def test_whatever_is_admitted_can_be_read_back(payload: dict[str, str]) -> None:
    outcome = admit(submission(json.dumps({**payload, "message_id": "m", "ts": None}).encode()), NOW)
    if isinstance(outcome, Envelope):
        assert outcome == decode_envelope(outcome.encode())


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        ("2026-01-05T11:59:00Z", datetime(2026, 1, 5, 11, 59, tzinfo=UTC)),
        ("2026-01-05T12:59:00.25+01:00", datetime(2026, 1, 5, 11, 59, 0, 250_000, tzinfo=UTC)),
        (1767614400000, datetime(2026, 1, 5, 12, tzinfo=UTC)),
        (1767614400000.5, datetime(2026, 1, 5, 12, 0, 0, 500, tzinfo=UTC)),
    ],
)
def test_a_devices_time_is_read_as_rfc_3339_or_epoch_milliseconds(stamp: object, expected: datetime) -> None:
    assert expected == credible_time(stamp, NOW)


@pytest.mark.parametrize(
    "stamp",
    [
        None,
        "",
        "yesterday",
        "2026-01-05T11:59:00",
        "2026-01-05",
        "2026-02-30T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        1767614400,
        0,
        -1,
        10**18,
        -(10**18),
        2**63 - 1,
        1e300,
        True,
        [],
        {"$date": 1},
    ],
)
def test_a_time_that_is_missing_naive_malformed_or_incredible_is_the_time_of_receipt(stamp: object) -> None:
    assert credible_time(stamp, NOW) == NOW


@pytest.mark.parametrize(
    ("offset", "is_credible"),
    [
        (timedelta(days=-365), True),
        (timedelta(days=-365, microseconds=-1), False),
        (timedelta(days=1), True),
        (timedelta(days=1, microseconds=1), False),
    ],
)
def test_credible_is_the_last_year_and_the_next_day(offset: timedelta, *, is_credible: bool) -> None:
    moment = NOW + offset
    assert (moment if is_credible else NOW) == credible_time(moment.isoformat(), NOW)


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text() | st.datetimes().map(str))
def test_no_time_that_a_device_may_send_raises_or_leaves_the_bounds(stamp: object) -> None:
    moment = credible_time(stamp, NOW)
    assert NOW - timedelta(days=365) <= moment <= NOW + timedelta(days=1)
    assert moment.tzinfo is not None


def test_an_envelope_says_where_and_when_the_message_came_from() -> None:
    envelope = admitted(
        Submission(topic=topic("acme", "AA:BB", "a/b"), body=b'{"ts":"2026-01-05T11:00:00Z"}', traceparent="00-t")
    )
    assert (TenantId("acme"), DeviceId("AA:BB"), "a/b") == (envelope.tenant_id, envelope.device_id, envelope.type)
    assert envelope.topic == "tenant/acme/device/AA:BB/a/b"
    assert datetime(2026, 1, 5, 11, tzinfo=UTC) == envelope.time
    assert envelope.received_at == NOW
    assert envelope.traceparent == "00-t"
