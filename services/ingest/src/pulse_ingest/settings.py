"""The settings of ingest."""

from typing import Annotated, Literal

from pydantic import AliasChoices, Field, SecretStr

from pulse_runtime.settings import ServiceSettings, Unit


class IngestSettings(ServiceSettings):
    """What ingest is told."""

    http_host: str = Field(default="127.0.0.1", description="Address that the HTTP edge binds to.")
    http_port: Annotated[int, Unit("port")] = Field(
        ge=0, le=65535, description="Port of the HTTP edge; 0 takes any free one."
    )
    mqtt_host: str | None = Field(default=None, description="MQTT broker; without it only HTTP is served.")
    mqtt_port: Annotated[int, Unit("port")] = Field(default=1883, ge=1, le=65535, description="Port of the broker.")
    mqtt_user: str | None = Field(default=None, description="User at the broker.")
    mqtt_password: SecretStr | None = Field(default=None, description="Password at the broker.")
    mqtt_client_id: SecretStr = Field(
        default=SecretStr("pulse-ingest"),
        description="Names the persistent session; one per replica, the same after each restart. Whoever can connect "
        "under it takes the session over, so it is not shown.",
    )
    mqtt_protocol: Literal["3.1.1", "5"] = Field(
        default="3.1.1", description="Protocol version; 5 brings message ids and traces as user properties."
    )
    mqtt_share_group: str | None = Field(
        default=None, description="Share the subscription among replicas ($share); needs MQTT 5."
    )
    mqtt_tls: bool = Field(default=False, description="Use TLS to the broker, verified against the system's roots.")
    message_id_retention_days: Annotated[int, Unit("d")] = Field(
        default=7, ge=1, le=365, description="How long a re-send with a supplied id is recognised as the same message."
    )
    stats_interval_s: Annotated[float, Unit("s")] = Field(
        default=10.0,
        gt=0,
        validation_alias=AliasChoices("PULSE_STATS_INTERVAL_S", "LOG_STATS_EVERY_SECONDS"),
        description="How often the line of figures is logged.",
    )
