import asyncio

import pytest
from delivery_builders import ACME, envelope, parcel, route
from hypothesis import given
from hypothesis import strategies as st
from mqtt_by_hand import CONNECTED, is_ended_by_a_cancellation_that_meets, made_by_hand

from pulse_contracts.ids import InvalidIdentity, TenantId, device_id
from pulse_contracts.kinds import InvalidConfig
from pulse_contracts.outcome import Failed, Rejected
from pulse_contracts.topics import InvalidTopic, check_type, parse_device_topic
from pulse_delivery.kinds.context import MqttTarget
from pulse_delivery.kinds.mqtt_republish.descriptor import DESCRIPTOR, check_topic, expand
from pulse_delivery.kinds.mqtt_republish.sender import MqttRepublisher
from pulse_matching.topic import matches
from pulse_testkit.clock import ManualClock

SUBSCRIBED = "tenant/+/device/+/#"


@pytest.mark.parametrize(
    "template",
    [
        "tenant/acme/copy",
        "tenant/{tenant_id}/weather/{device_id}",
        "tenant/{tenant_id}/by-type/{type}",
        "tenant/acme/{type}/{device_id}",
        "tenant/acme/devices/x",
        "tenant/acme/Device/x",
        "tenant/acme/a.b/x",
    ],
)
def test_a_topic_in_the_tenants_own_space_is_taken(template: str) -> None:
    DESCRIPTOR.check_config(ACME, {"topic": template})


@pytest.mark.parametrize(
    "template",
    [
        "tenant/globex/copy",
        "tenant/acme",
        "tenant/acme/",
        "tenant//copy",
        "tenant/acme//copy",
        "/tenant/acme/copy",
        "tenant/acme/copy/",
        "other/acme/copy",
        "Tenant/acme/copy",
        "tenant/acme/../globex/copy"[:14] + "globex/" * 60,
        "{tenant_id}/acme/copy",
        "tenant/{device_id}/copy",
        "tenant/acme/device",
        "tenant/acme/device/other/weather",
        "tenant/acme/device/{device_id}/{type}",
        "tenant/{tenant_id}/device/x/y",
        "tenant/acme/+/copy",
        "tenant/acme/#",
        "$SYS/acme/copy",
        "tenant/acme/$share",
        "tenant/acme/a b",
        "tenant/acme/a\x00b",
        "tenant/acme/\ud800",
        "tenant/acme/>",
        "tenant/acme/*",
        "tenant/acme/{other}",
        "tenant/acme/{",
        "tenant/acme/}",
        "tenant/acme/{}",
        "tenant/acme/{{type}}",
        "tenant/acme/{tenant_{type}id}",
        "tenant/acme/{{tenant_id}type}",
        "tenant/acme/{device_id.__class__}",
        "tenant/acme/{type!r}",
    ],
)
def test_any_other_template_is_refused_when_the_route_is_made(template: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        DESCRIPTOR.check_config(ACME, {"topic": template})
    assert caught.value.field == "topic"


@pytest.mark.parametrize(
    ("template", "device", "message_type", "expected"),
    [
        ("tenant/acme/x/{type}", "d", "a/b", "tenant/acme/x/a/b"),
        ("tenant/acme/x/{type}", "d", "{tenant_id}", "tenant/acme/x/{tenant_id}"),
        ("tenant/acme/x/{type}", "d", "{", "tenant/acme/x/{"),
        ("tenant/acme/{device_id}{device_id}", "d", "t", "tenant/acme/dd"),
    ],
)
def test_what_a_device_says_is_filled_in_as_it_is(template: str, device: str, message_type: str, expected: str) -> None:
    assert expand(template, "acme", device, message_type) == expected


@pytest.mark.parametrize(
    ("template", "device", "message_type"),
    [
        ("tenant/{tenant_id}/{type}", "d", "device/d/weather"),
        ("tenant/{tenant_id}/{device_id}/copy/x", "device", "t"),
        ("tenant/{tenant_id}/{type}", "d", "device"),
        ("tenant/acme/x/{type}", "d", "t" * 400),
    ],
)
async def test_a_device_cannot_send_a_message_round_in_a_circle(
    manual_clock: ManualClock, template: str, device: str, message_type: str
) -> None:
    made = parcel()
    hostile = type(made)(
        address=made.address,
        revision=1,
        routed_at=made.routed_at,
        attempts=0,
        answered=0,
        envelope=envelope(device=device, message_type=message_type),
    )
    outcome = await MqttRepublisher(None, manual_clock).attempt(hostile, route({"topic": template}), {})
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "config_invalid"


async def test_without_a_broker_the_attempt_fails_and_does_not_count_as_answered(manual_clock: ManualClock) -> None:
    sender = MqttRepublisher(None, manual_clock)
    outcome = await sender.attempt(parcel(), route({"topic": "tenant/acme/copy"}), {})
    assert isinstance(outcome, Failed)
    assert not outcome.answered


PIECES = st.sampled_from(
    ["tenant", "acme", "globex", "device", "{tenant_id}", "{device_id}", "{type}", *"/+#{}$x", "//"]
)
TEMPLATES = st.lists(PIECES, max_size=9).map("".join) | st.lists(PIECES, max_size=6).map(
    lambda parts: "tenant/{tenant_id}/" + "".join(parts)
)
DEVICES = st.sampled_from(["d", "device", "acme", "tenant", "a.b", "..", "~", "="])
TYPES = st.sampled_from(["t", "device", "device/x/y", "{type}", "{device_id}", "a/b", "}{", "$x", "é"])


@given(TEMPLATES, DEVICES, TYPES)
def test_whatever_passes_stays_in_the_tenants_space_and_out_of_ingests_reach(
    template: str, device: str, message_type: str
) -> None:
    try:
        topic = expand(template, ACME, device_id(device), check_type(message_type))
        check_topic(ACME, topic)
    except (ValueError, InvalidTopic, InvalidIdentity):
        return
    assert topic.startswith("tenant/acme/")
    assert not matches(SUBSCRIBED, topic)
    with pytest.raises(InvalidTopic):
        parse_device_topic(topic)


@given(TEMPLATES)
def test_a_template_that_is_refused_for_a_harmless_message_is_refused_at_once(template: str) -> None:
    """What passes when the route is made can fail later only for what a device says."""
    try:
        DESCRIPTOR.check_config(ACME, {"topic": template or "x"})
    except InvalidConfig:
        return
    check_topic(ACME, expand(template, ACME, "sensor", "weather"))


def test_confinement_follows_the_tenant_that_owns_the_route() -> None:
    with pytest.raises(InvalidConfig):
        DESCRIPTOR.check_config(TenantId("globex"), {"topic": "tenant/acme/copy"})


async def test_a_republisher_that_is_cancelled_when_it_is_connected_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    made = made_by_hand(monkeypatch)
    target = MqttTarget(host="127.0.0.1", port=1, user=None, password=None, client_id="c")
    running = asyncio.create_task(MqttRepublisher(target, ManualClock()).run(), name="test[republisher]")
    assert await is_ended_by_a_cancellation_that_meets(running, made, CONNECTED)
