import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse_contracts.ids import (
    DeviceId,
    InvalidIdentity,
    TenantId,
    device_id,
    new_message_id,
    supplied_message_id,
    tenant_id,
)
from pulse_contracts.topics import DeviceTopic, InvalidTopic, check_type, parse_device_topic

ACME, D1 = TenantId("acme"), DeviceId("d1")


@pytest.mark.parametrize("text", ["a", "acme", "a-b_c", "0", "a" * 64])
def test_a_tenant_id(text: str) -> None:
    assert tenant_id(text) == text


@pytest.mark.parametrize("text", ["", "-a", "a-", "_a", "A", "a.b", "a/b", "a b", "a" * 65, "a\n", "ä", "*"])
def test_no_tenant_id(text: str) -> None:
    with pytest.raises(InvalidIdentity, match="tenant_id"):
        tenant_id(text)


@pytest.mark.parametrize("text", ["d1", "AA:BB:CC:00:11:22", "0011.2233", "a@b", "a~b=c-d_e", "x" * 128])
def test_a_device_id(text: str) -> None:
    assert device_id(text) == text


@pytest.mark.parametrize("text", ["", "a/b", "a+b", "a#", "a b", "x" * 129, "a\n", "a\x00", "ä", "a*"])
def test_no_device_id(text: str) -> None:
    with pytest.raises(InvalidIdentity, match="device_id"):
        device_id(text)


def test_a_new_message_id_is_a_version_7_uuid() -> None:
    made = uuid.UUID(new_message_id())

    assert (made.version, made.variant) == (7, uuid.RFC_4122)


def test_new_message_ids_are_ordered_by_the_millisecond_and_unique() -> None:
    made = [new_message_id() for _ in range(1000)]

    assert len(set(made)) == 1000
    stamps = [uuid.UUID(name).int >> 80 for name in made]
    assert stamps == sorted(stamps)


def test_the_same_supplied_id_is_the_same_message() -> None:
    assert supplied_message_id(ACME, D1, "m-1") == supplied_message_id(ACME, D1, "m-1")
    assert uuid.UUID(supplied_message_id(ACME, D1, "m-1")).version == 5


def test_the_derivation_of_supplied_ids_never_changes() -> None:
    assert supplied_message_id(ACME, D1, "m-1") == "238a1538-8bf5-5004-9f6d-b1ac4b1e5567"


PRINTABLE = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=20)


@given(PRINTABLE, PRINTABLE, PRINTABLE, PRINTABLE)
def test_another_tenant_device_or_id_is_another_message(one: str, two: str, three: str, four: str) -> None:
    first = supplied_message_id(TenantId(one), DeviceId(two), three)
    second = supplied_message_id(TenantId(one), DeviceId(three), two)
    third = supplied_message_id(TenantId(four), DeviceId(two), three)

    assert (first == second) == (two == three)
    assert (first == third) == (one == four)


@pytest.mark.parametrize("supplied", ["", "x" * 257, "a\x1fb", "a\nb", "\x00"])
def test_no_supplied_id(supplied: str) -> None:
    with pytest.raises(InvalidIdentity, match="message_id"):
        supplied_message_id(ACME, D1, supplied)


def test_a_device_topic_is_read_and_written() -> None:
    topic = "tenant/acme/device/AA:BB/up/status"

    parsed = parse_device_topic(topic)

    assert parsed == DeviceTopic(tenant=ACME, device=DeviceId("AA:BB"), type="up/status")
    assert str(parsed) == topic


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "tenant/acme/device/d1",
        "tenant/acme/device/d1/",
        "tenant/acme/device/d1/a//b",
        "tenant/acme/device/d1/a/",
        "tenants/acme/device/d1/t",
        "tenant/acme/devices/d1/t",
        "tenant/ACME/device/d1/t",
        "tenant/acme/device//t",
        "/tenant/acme/device/d1/t",
        "tenant/acme/device/d1/+",
        "tenant/acme/device/d1/a\x00",
        "tenant/acme/device/d1/a b",
        "tenant/acme/device/d1/" + "x" * 600,
        "tenant/acme/device/d1/" + "/".join("x" * 17),
        "tenant/acme/device/d1/\ud800",
    ],
)
def test_a_topic_of_no_device_is_refused(topic: str) -> None:
    with pytest.raises(InvalidTopic, match="topic"):
        parse_device_topic(topic)


def test_a_type_of_sixteen_levels_is_the_longest() -> None:
    assert check_type("/".join("x" * 16))
