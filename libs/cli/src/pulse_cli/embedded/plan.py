"""What runs in an embedded stack: which users, which services with which settings, and what is prepared before."""

import os
from collections.abc import Mapping, Sequence
from typing import Final

from pulse_bus.address import BusAddress
from pulse_bus.permissions import MQTT_CLIENT, SERVICES
from pulse_cli.embedded.database import SUPERUSER, database_url
from pulse_cli.embedded.folder import DataFolder, Secrets
from pulse_cli.embedded.nats_config import NatsUser
from pulse_cli.embedded.ports import LOOPBACK_RANGE
from pulse_cli.embedded.stack import Addresses, EmbeddedStack, ServiceSpec
from pulse_control.installation import let_roles_log_in, migrate_database, provision_bus
from pulse_storage.migrate import SERVICE_ROLES

_ALL: Final = ("ingest", "router", "delivery")
PASSED_ON: Final[Mapping[str, Sequence[str]]] = {
    "PULSE_FAILPOINTS": _ALL,
    "PULSE_LOG_LEVEL": _ALL,
    "PULSE_LOG_FORMAT": _ALL,
    "PULSE_TRACE_RATIO": _ALL,
    "PULSE_BLOCKED_LOOP_DUMP_S": _ALL,
    "PULSE_MESSAGE_ID_RETENTION_DAYS": ("ingest",),
    "PULSE_STATS_INTERVAL_S": ("ingest",),
    "LOG_STATS_EVERY_SECONDS": ("ingest",),
    "PULSE_JUDGEMENT_RETENTION_DAYS": ("router",),
    "PULSE_DELIVERY_WORKER_COUNT": ("delivery",),
    "DELIVERY_WORKER_COUNT": ("delivery",),
    "PULSE_DELIVERY_LOG_RETENTION_DAYS": ("delivery",),
    "PULSE_DRAIN_S": ("delivery",),
    "PULSE_SIDING_SHARE": ("delivery",),
    "PULSE_SIDING_CONSUMERS": ("delivery",),
}
"""Variables of the caller, and the services that they reach: an unknown variable is an error there.

The others of ours say where things are or how many there are, which the stack decides: they are withheld.
"""
_OF_THE_COMMAND: Final = frozenset({"PULSE_DATA"})


def embedded_stack(
    folder: DataFolder, *, durable: bool = True, extra: Mapping[str, str] | None = None
) -> EmbeddedStack:
    """Return the whole of Pulse on a claimed folder. *extra* variables go to every service."""
    secrets = folder.secrets(nats=[*SERVICES, *MQTT_CLIENT], postgres=SERVICE_ROLES)
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ} | dict(extra or {})
    return EmbeddedStack(folder, services(passed_on), nats_users=nats_users(secrets), prepare=prepare, durable=durable)


def withheld(environ: Mapping[str, str]) -> list[str]:
    """Return the variables of ours that no service of an embedded stack is told."""
    return sorted(name for name in environ if name.startswith("PULSE_") and name not in {*PASSED_ON, *_OF_THE_COMMAND})


def nats_users(secrets: Secrets) -> list[NatsUser]:
    """Return one user a service, and those of services at the MQTT listener."""
    users = [
        NatsUser(name=name, password=secrets.nats[name], publish=allowed.publish, subscribe=allowed.subscribe)
        for name, allowed in SERVICES.items()
    ]
    return users + [
        NatsUser(
            name=name,
            password=secrets.nats[name],
            publish=allowed.publish,
            subscribe=allowed.subscribe,
            connection_types=("MQTT",),
        )
        for name, allowed in MQTT_CLIENT.items()
    ]


def services(passed_on: Mapping[str, str]) -> list[ServiceSpec]:
    """Return the three services with their settings."""

    def ingest(addresses: Addresses, secrets: Secrets) -> dict[str, str]:
        return {
            **_common("ingest", addresses, secrets),
            "PULSE_HTTP_HOST": addresses.http.host,
            "PULSE_HTTP_PORT": str(addresses.http.port),
            **_mqtt("ingest-mqtt", addresses, secrets),
            "PULSE_MQTT_CLIENT_ID": secrets.mqtt_client_id,
            **_known("ingest", passed_on),
        }

    def router(addresses: Addresses, secrets: Secrets) -> dict[str, str]:
        return {**_common("router", addresses, secrets), **_known("router", passed_on)}

    def delivery(addresses: Addresses, secrets: Secrets) -> dict[str, str]:
        return {
            **_common("delivery", addresses, secrets),
            **_mqtt("delivery-mqtt", addresses, secrets),
            "PULSE_SECRET_KEYS": f"{secrets.encryption_key_id}:{secrets.encryption_key}",
            "PULSE_EGRESS_ALLOW": LOOPBACK_RANGE,
            **_known("delivery", passed_on),
        }

    return [
        ServiceSpec(name="ingest", module="pulse_ingest", environment=ingest, listens_http=True),
        ServiceSpec(name="router", module="pulse_router", environment=router),
        ServiceSpec(name="delivery", module="pulse_delivery", environment=delivery),
    ]


async def prepare(addresses: Addresses, secrets: Secrets) -> None:
    """Bring schema, roles and streams up to date; runs at every start."""
    dsn = database_url(addresses.postgres.port, SUPERUSER, secrets.postgres[SUPERUSER])
    await migrate_database(dsn)
    await let_roles_log_in(dsn, {role: secrets.postgres[role] for role in SERVICE_ROLES})
    await provision_bus(
        BusAddress(url=addresses.nats.url("nats"), user="control", password=secrets.nats["control"], service="control")
    )


def _common(service: str, addresses: Addresses, secrets: Secrets) -> dict[str, str]:
    role = f"pulse_{service}"
    return {
        "PULSE_NATS_URL": addresses.nats.url("nats"),
        "PULSE_NATS_USER": service,
        "PULSE_NATS_PASSWORD": secrets.nats[service],
        "PULSE_DATABASE_URL": database_url(addresses.postgres.port, role, secrets.postgres[role]),
        "PULSE_ADMIN_PORT": str(addresses.admin[service].port),
    }


def _mqtt(user: str, addresses: Addresses, secrets: Secrets) -> dict[str, str]:
    return {
        "PULSE_MQTT_HOST": addresses.mqtt.host,
        "PULSE_MQTT_PORT": str(addresses.mqtt.port),
        "PULSE_MQTT_USER": user,
        "PULSE_MQTT_PASSWORD": secrets.nats[user],
    }


def _known(service: str, passed_on: Mapping[str, str]) -> dict[str, str]:
    """Leave out what only another service understands."""
    return {name: value for name, value in passed_on.items() if service in PASSED_ON.get(name, _ALL)}
