import pytest

from pulse_cli.embedded.plan import PASSED_ON, withheld
from pulse_delivery.settings import DeliverySettings
from pulse_ingest.settings import IngestSettings
from pulse_router.settings import RouterSettings
from pulse_runtime.settings import ServiceSettings, variables

SETTINGS: dict[str, type[ServiceSettings]] = {
    "ingest": IngestSettings,
    "router": RouterSettings,
    "delivery": DeliverySettings,
}
OF_THE_STACK = ("NATS_", "DATABASE_", "ADMIN_", "HTTP_", "MQTT_", "SECRET_", "EGRESS_", "DELIVERY_REPLICAS")
"""Where things are, how they are reached, and how many there are."""


@pytest.mark.parametrize("service", SETTINGS)
def test_every_setting_is_passed_on_or_decided_by_the_stack(service: str) -> None:
    told = {name for name, services in PASSED_ON.items() if service in services}
    left = variables(SETTINGS[service]) - told
    assert not [name for name in left if not name.removeprefix("PULSE_").startswith(OF_THE_STACK)]


@pytest.mark.parametrize("service", SETTINGS)
def test_no_service_is_told_what_it_does_not_know(service: str) -> None:
    told = {name for name, services in PASSED_ON.items() if service in services}
    assert told - variables(SETTINGS[service]) == {"PULSE_FAILPOINTS"}


def test_a_variable_that_nobody_is_told_is_named() -> None:
    given = {"PULSE_LOG_LEVEL": "debug", "PULSE_DATA": "d", "PULSE_NATS_URL": "x", "PULSE_LOG_LEVLE": "y", "PATH": ""}
    assert withheld(given) == ["PULSE_LOG_LEVLE", "PULSE_NATS_URL"]
