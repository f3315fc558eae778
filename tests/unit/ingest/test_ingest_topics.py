import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse_contracts.topics import MAX_TOPIC_BYTES, InvalidTopic, parse_device_topic


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("tenant/acme/device/sensor-1/weather", ("acme", "sensor-1", "weather")),
        ("tenant/a/device/AA:BB:CC/a/b/c", ("a", "AA:BB:CC", "a/b/c")),
        ("tenant/a-b_c/device/x.y@z~=/ünïcode", ("a-b_c", "x.y@z~=", "ünïcode")),
        ("tenant/a/device/d/device/e", ("a", "d", "device/e")),
        ("tenant/a/device/d/$state", ("a", "d", "$state")),
        ("tenant/a/device/d/" + "/".join("abcdefghijklmnop"), ("a", "d", "/".join("abcdefghijklmnop"))),
    ],
)
def test_a_device_topic_says_who_sent_what(text: str, parts: tuple[str, str, str]) -> None:
    topic = parse_device_topic(text)
    assert parts == (topic.tenant, topic.device, topic.type)
    assert text == str(topic)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "tenant",
        "tenant/acme",
        "tenant/acme/device/d",
        "tenant/acme/device/d/",
        "tenant/acme/device//t",
        "tenant//device/d/t",
        "/tenant/acme/device/d/t",
        "Tenant/acme/device/d/t",
        "tenant/acme/devices/d/t",
        "tenant/Acme/device/d/t",
        "tenant/-acme/device/d/t",
        "tenant/a b/device/d/t",
        "tenant/acme/device/d d/t",
        "tenant/acme/device/d\n/t",
        "tenant/acme/device/" + "d" * 129 + "/t",
        "tenant/" + "a" * 65 + "/device/d/t",
        "tenant/acme/device/d//t",
        "tenant/acme/device/d/t/",
        "tenant/acme/device/d/t//u",
        "tenant/acme/device/d/+",
        "tenant/acme/device/d/a/#",
        "tenant/acme/device/d/a*",
        "tenant/acme/device/d/>",
        "tenant/acme/device/d/a b",
        "tenant/acme/device/d/a\x00",
        "tenant/acme/device/d/\ud800",
        "tenant/acme/device/d/" + "/".join("abcdefghijklmnopq"),
        "tenant/acme/device/d/" + "t" * MAX_TOPIC_BYTES,
        "tenant/acme/device/d/" + "é" * 250,
        "$SYS/acme/device/d/t",
    ],
)
def test_any_other_topic_is_refused(text: str) -> None:
    with pytest.raises(InvalidTopic):
        parse_device_topic(text)


@given(st.text() | st.text("tenant/device$+#ac", max_size=30).map(lambda text: f"tenant/acme/device/{text}"))
def test_a_topic_is_refused_or_reads_back_as_itself(text: str) -> None:
    try:
        topic = parse_device_topic(text)
    except InvalidTopic:
        return
    assert text == str(topic)
