import base64
import json
from uuid import UUID

import pytest
from delivery_builders import NOW
from hypothesis import given
from hypothesis import strategies as st

from pulse_contracts import headers
from pulse_contracts.envelope import decode_envelope
from pulse_delivery.adapters.remains import remains_of

ROUTE = "01890000-0000-7000-8000-00000000000a"
MESSAGE = "01890000-0000-7000-8000-000000000001"
SUBJECT = f"siding.webhook.acme.{ROUTE}"


def test_remains_are_named_as_the_message_was() -> None:
    remains = remains_of(SUBJECT, b"{}", {headers.MSG_ID: f"{MESSAGE}:{ROUTE}:s"}, NOW)
    assert (remains.address.kind, remains.address.tenant, remains.address.route) == ("webhook", "acme", ROUTE)
    assert remains.delivery_id == f"{MESSAGE}:{ROUTE}"


def test_remains_of_a_dead_letter_are_of_its_route() -> None:
    remains = remains_of(f"deadletter.acme.{ROUTE}", b"{}", {headers.MSG_ID: f"{MESSAGE}:{ROUTE}:dlq"}, NOW)
    assert (remains.address.kind, remains.address.tenant, remains.address.route) == ("unknown", "acme", ROUTE)
    assert remains.delivery_id == f"{MESSAGE}:{ROUTE}"


@pytest.mark.parametrize(
    ("subject", "tenant"),
    [
        ("delivery.webhook.acme.r-1", "acme"),
        ("deadletter.acme.r-1", "acme"),
        ("delivery.webhook.=ZZ.r", "unknown"),
        ("elsewhere", "unknown"),
    ],
)
def test_a_route_that_the_table_does_not_take_is_none(subject: str, tenant: str) -> None:
    remains = remains_of(subject, b"", {}, NOW)
    assert (remains.address.tenant, UUID(remains.address.route), remains.envelope.topic) == (
        tenant,
        UUID(int=0),
        subject,
    )


def test_the_same_bytes_without_a_name_have_one_id_and_others_another() -> None:
    first, again, other = (remains_of(SUBJECT, data, {}, NOW).envelope.message_id for data in (b"a", b"a", b"b"))
    assert first == again != other


@given(st.binary() | st.text().map(str.encode), st.dictionaries(st.text(max_size=3), st.text(max_size=9), max_size=2))
def test_no_byte_is_lost(data: bytes, fields: dict[str, str]) -> None:
    envelope = remains_of(SUBJECT, data, fields, NOW).envelope
    assert decode_envelope(envelope.encode()) == envelope
    kept = json.loads(envelope.payload)
    assert "\x00" not in str(kept.get("text")), "jsonb refuses NUL"
    assert (kept["text"].encode() if "text" in kept else base64.b64decode(kept["base64"])) == data
