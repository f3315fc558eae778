import pytest
from ingest_builders import ACME, ACME_KEY, GLOBEX, OTHER_TOKEN, SENSOR, SENSOR_TOKEN, registry

from pulse_contracts.ids import DeviceId, TenantId
from pulse_ingest.domain.credentials import Principal, Registry, digest


def test_a_token_lets_in_whom_it_was_made_for() -> None:
    assert Principal(tenant=ACME, device=SENSOR) == registry().identify(SENSOR_TOKEN)


@pytest.mark.parametrize("token", ["", "dev_senso", "dev_sensor ", "DEV_SENSOR", "\ud800", digest(SENSOR_TOKEN).hex()])
def test_any_other_text_lets_nobody_in(token: str) -> None:
    assert registry().identify(token) is None


def test_nobody_is_known_before_the_credentials_are() -> None:
    empty = Registry()
    assert empty.identify(SENSOR_TOKEN) is None
    assert not empty.knows_device(ACME, SENSOR)
    assert not empty.knows_tenant(ACME)


def test_a_credential_that_is_absent_from_the_next_list_is_revoked() -> None:
    known = registry()
    known.replace([(digest(ACME_KEY), Principal(tenant=ACME, device=None))])
    assert known.identify(SENSOR_TOKEN) is None
    assert not known.knows_device(ACME, SENSOR)
    assert known.knows_tenant(ACME)
    assert not known.knows_tenant(GLOBEX)


@pytest.mark.parametrize(
    ("token", "tenant", "device", "may"),
    [
        (SENSOR_TOKEN, "acme", "sensor-1", True),
        (SENSOR_TOKEN, "acme", "sensor-2", False),
        (SENSOR_TOKEN, "globex", "sensor-1", False),
        (ACME_KEY, "acme", "sensor-1", True),
        (ACME_KEY, "acme", "anything", True),
        (ACME_KEY, "globex", "sensor-1", False),
        (OTHER_TOKEN, "acme", "sensor-1", False),
        (OTHER_TOKEN, "globex", "sensor-1", True),
    ],
)
def test_a_device_sends_as_itself_and_a_tenants_key_as_any_device_of_the_tenant(
    token: str, tenant: str, device: str, *, may: bool
) -> None:
    principal = registry().identify(token)
    assert principal is not None
    assert may == principal.may_send_as(TenantId(tenant), DeviceId(device))


def test_a_device_of_the_same_name_is_known_only_where_it_was_made() -> None:
    known = registry()
    assert known.knows_device(GLOBEX, SENSOR)
    assert not known.knows_device(GLOBEX, DeviceId("sensor-2"))


def test_an_ingest_key_makes_no_device_known() -> None:
    known = Registry()
    known.replace([(digest(ACME_KEY), Principal(tenant=ACME, device=None))])
    assert not known.knows_device(ACME, SENSOR)
