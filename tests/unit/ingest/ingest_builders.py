"""Data for the tests of ingest."""

from datetime import UTC, datetime

from pydantic import SecretStr

from pulse_contracts.ids import DeviceId, TenantId
from pulse_contracts.topics import DeviceTopic
from pulse_ingest.domain.admission import Submission
from pulse_ingest.domain.credentials import Principal, Registry, digest
from pulse_ingest.settings import IngestSettings

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
ACME = TenantId("acme")
GLOBEX = TenantId("globex")
SENSOR = DeviceId("sensor-1")
SENSOR_TOKEN = "dev_sensor"
OTHER_TOKEN = "dev_other"
ACME_KEY = "key_acme"


def topic(tenant: str = ACME, device: str = SENSOR, message_type: str = "weather") -> DeviceTopic:
    return DeviceTopic(tenant=TenantId(tenant), device=DeviceId(device), type=message_type)


def submission(body: bytes = b'{"metrics":{"t":1}}', supplied_id: str | None = None) -> Submission:
    return Submission(topic=topic(), body=body, supplied_id=supplied_id)


def registry() -> Registry:
    """Two devices of acme, its ingest key, and a device of globex."""
    made = Registry()
    made.replace(
        [
            (digest(SENSOR_TOKEN), Principal(tenant=ACME, device=SENSOR)),
            (digest("dev_second"), Principal(tenant=ACME, device=DeviceId("sensor-2"))),
            (digest(ACME_KEY), Principal(tenant=ACME, device=None)),
            (digest(OTHER_TOKEN), Principal(tenant=GLOBEX, device=SENSOR)),
        ]
    )
    return made


def settings() -> IngestSettings:
    return IngestSettings(
        nats_url="nats://nats:4222",
        nats_user="ingest",
        nats_password=SecretStr("secret"),
        database_url=SecretStr("postgresql://writer@db/pulse"),
        admin_port=0,
        http_port=0,
        mqtt_host="broker",
    )
