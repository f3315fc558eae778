import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pulse_contracts import subjects
from pulse_contracts.ids import DeviceId, RouteId, TenantId
from pulse_contracts.subjects import RouteAddress, parse_route_address, tenant_token
from pulse_contracts.tokens import InvalidToken, decode_token, encode_token

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
ACME, D1, R1 = TenantId("acme"), DeviceId("AA:BB"), RouteId("01a7-r1")


@given(TEXT)
@example("")
@example("=")
@example("=2E")
def test_a_token_gives_its_text_back(text: str) -> None:
    assert decode_token(encode_token(text)) == text


@given(TEXT, TEXT)
@example("", "=")
@example(".", "=2E")
@example("a=", "a=3D")
def test_different_texts_have_different_tokens(one: str, other: str) -> None:
    assert (encode_token(one) == encode_token(other)) == (one == other)


@given(TEXT)
def test_a_token_is_one_token_of_a_subject(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_=-]+", encode_token(text))


@pytest.mark.parametrize(
    ("text", "token"), [("sensor-1", "sensor-1"), ("AA:BB", "AA=3ABB"), ("a.b", "a=2Eb"), ("", "="), ("ä", "=C3=A4")]
)
def test_tokens_are_readable(text: str, token: str) -> None:
    assert encode_token(text) == token


@pytest.mark.parametrize("token", ["", "a.b", "a=2e", "a=41", "a=", "=4", "==", "=FF", "a b", "é", "a=2E*", "=  "])
def test_a_token_of_other_make_is_refused(token: str) -> None:
    with pytest.raises(InvalidToken):
        decode_token(token)


@given(st.text(st.sampled_from("aA0=-_.* "), max_size=6))
def test_whatever_decodes_was_encoded_so(token: str) -> None:
    try:
        text = decode_token(token)
    except InvalidToken:
        return
    assert encode_token(text) == token


def test_each_kind_of_message_has_its_subject() -> None:
    assert subjects.telemetry(ACME, D1, "up/status") == "telemetry.acme.AA=3ABB.up.status"
    assert subjects.delivery("webhook", ACME, R1) == "delivery.webhook.acme.01a7-r1"
    assert subjects.siding("mqtt_republish", ACME, R1) == "siding.mqtt_republish.acme.01a7-r1"
    assert subjects.dead_letter(ACME, R1) == "deadletter.acme.01a7-r1"
    assert subjects.quarantine(ACME) == "quarantine.acme"
    assert subjects.attempt(ACME, R1) == "attempt.acme.01a7-r1"


@given(TEXT, TEXT, TEXT)
def test_a_route_address_is_read_back_from_its_subjects(kind: str, tenant: str, route: str) -> None:
    address = RouteAddress(kind=kind, tenant=TenantId(tenant), route=RouteId(route))

    assert parse_route_address(subjects.delivery(kind, address.tenant, address.route)) == address
    assert parse_route_address(subjects.siding(kind, address.tenant, address.route)) == address


@pytest.mark.parametrize("subject", ["telemetry.a.b.c", "delivery.a.b", "delivery.a.b.c.d", "", "siding.a.b.c=2e"])
def test_a_subject_that_names_no_route_is_refused(subject: str) -> None:
    with pytest.raises(InvalidToken):
        parse_route_address(subject)


@given(TEXT)
def test_the_tenants_token_is_found_in_every_subject(tenant: str) -> None:
    of = TenantId(tenant)
    made = [
        subjects.telemetry(of, D1, "t"),
        subjects.delivery("webhook", of, R1),
        subjects.siding("webhook", of, R1),
        subjects.dead_letter(of, R1),
        subjects.quarantine(of),
        subjects.attempt(of, R1),
    ]

    assert {tenant_token(subject) for subject in made} == {encode_token(tenant)}
