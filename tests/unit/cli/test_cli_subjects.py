import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse_cli.embedded.logins import _login, subject_of  # pyright: ignore[reportPrivateUsage] - what a login may do
from pulse_control.mqtt_logins import BrokerLogin
from pulse_matching.topic import matches


@pytest.mark.parametrize(
    ("topic_filter", "subject"),
    [
        ("a", "a"),
        ("a/b", "a.b"),
        ("tenant/acme/#", "tenant.acme.>"),
        ("tenant/+/device/+/#", "tenant.*.device.*.>"),
        ("tenant/acme/device/sensor.1/#", "tenant.acme.device.sensor//1.>"),
        ("tenant/acme/device/AA:BB/#", "tenant.acme.device.AA:BB.>"),
        ("tenant/acme/device/..", "tenant.acme.device.////"),
        ("#", ">"),
    ],
)
def test_a_topic_filter_is_the_subject_that_nats_server_makes_of_it(topic_filter: str, subject: str) -> None:
    assert subject_of(topic_filter) == subject


DEVICES = st.text("ab.:@~=-_", min_size=1, max_size=4)


@given(DEVICES, DEVICES)
def test_no_device_may_publish_under_another_ones_name(device: str, other: str) -> None:
    allowed = subject_of(f"tenant/acme/device/{device}/#").removesuffix(">")
    published = subject_of(f"tenant/acme/device/{other}/weather")
    assert published.startswith(allowed) == (device == other)
    assert matches(f"tenant/acme/device/{device}/#", f"tenant/acme/device/{other}/weather") == (device == other)


def test_a_device_publishes_below_its_own_prefix_and_subscribes_to_nothing() -> None:
    login = _login(BrokerLogin(user="acme/d.1", bcrypt="$2b$", publish=("tenant/acme/device/d.1/#",), subscribe=()))
    assert (login.user, login.publish, login.subscribe) == ("acme/d.1", ("tenant.acme.device.d//1.>",), ())


def test_a_tenants_own_login_reads_all_of_its_space_and_publishes_nothing() -> None:
    login = _login(BrokerLogin(user="acme", bcrypt="$2b$", publish=(), subscribe=("tenant/acme/#",)))
    assert (login.publish, login.subscribe) == ((), ("tenant.acme.>",))
