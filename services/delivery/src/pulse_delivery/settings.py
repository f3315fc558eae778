"""The settings of delivery."""

from typing import Annotated

from pydantic import AliasChoices, Field, SecretStr

from pulse_contracts.topology import SIDING
from pulse_runtime.settings import ServiceSettings, Unit


class DeliverySettings(ServiceSettings):
    """What delivery is told."""

    delivery_worker_count: Annotated[int, Unit("attempts")] = Field(
        default=4096,
        ge=1,
        validation_alias=AliasChoices("PULSE_DELIVERY_WORKER_COUNT", "DELIVERY_WORKER_COUNT"),
        description="Slot budget: attempts in flight at once in this process, over all routes; fewer if it could not "
        "hold as many messages, 3675 of one process.",
    )
    delivery_replicas: Annotated[int, Unit("processes")] = Field(
        default=1,
        ge=1,
        description="Replicas of delivery; each has its share of what may be unacknowledged and of the routes' rates.",
    )
    delivery_log_retention_days: Annotated[int, Unit("d")] = Field(
        default=30, ge=1, le=3650, description="How long attempts stay in the table delivery_log."
    )
    siding_share: Annotated[float, Unit("bytes per free byte")] = Field(
        default=0.5,
        gt=0,
        le=16,
        description="How much a tenant may hold of the siding for each byte that is free there: 1 lets a single tenant "
        "take half of it, 0.5 a third.",
    )
    siding_consumers: Annotated[int, Unit("consumers")] = Field(
        default=1000,
        ge=2,
        le=SIDING.max_consumers,
        description="Troubled routes that have a consumer on the siding at once, of all processes; the others wait for "
        "their turn. Fewer where SIDING has replicas: a few hundred.",
    )
    secret_keys: SecretStr = Field(description="Key ring for secrets at rest: id:base64 pairs, the newest first.")
    egress_allow: list[str] = Field(
        default=[], description="Address ranges that webhooks may reach although they are not public."
    )
    egress_names_kept_s: Annotated[float, Unit("s")] = Field(
        default=3600.0,
        ge=0,
        description="How long the last known addresses of webhooks' hosts are used while no name server answers.",
    )
    mqtt_host: str | None = Field(default=None, description="Broker that mqtt_republish publishes to.")
    mqtt_port: Annotated[int, Unit("port")] = Field(default=1883, ge=1, le=65535, description="Port of that broker.")
    mqtt_user: str | None = Field(default=None, description="User at that broker.")
    mqtt_password: SecretStr | None = Field(default=None, description="Password at that broker.")
    mqtt_client_id: str = Field(default="pulse-delivery", description="Client id at that broker; one per replica.")
    drain_s: Annotated[float, Unit("s")] = Field(
        default=10.0, ge=0, description="How long a stop waits for attempts in flight; the rest stays in the streams."
    )
