"""What each service may do on NATS: allow-only, one user a service (ADR 0008).

A subject that is not listed is refused, and the refusal reaches the connection's error callback.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    """The subjects that a user may publish and subscribe to."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def _pulls(stream: str, consumer: str) -> tuple[str, ...]:
    """Pull from, ask about and acknowledge to one durable consumer."""
    return (f"$JS.API.CONSUMER.INFO.{stream}.{consumer}", *_takes(stream, consumer))


def _takes(stream: str, consumer: str) -> tuple[str, ...]:
    """Pull from and acknowledge to a consumer (both forms of the ack subject)."""
    return (
        f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}",
        f"$JS.ACK.{stream}.{consumer}.>",
        f"$JS.ACK.*.*.{stream}.{consumer}.>",
    )


_TRACED: Final = "hops"
"""Whoever publishes a sampled message must be allowed the subject of `msg_trace` too, or the message is refused."""

SERVICES: Final[dict[str, Permissions]] = {
    "ingest": Permissions(
        publish=(
            "telemetry.>",
            "quarantine.>",
            _TRACED,
            *_pulls("TELEMETRY", "store"),
            *_pulls("QUARANTINE", "quarantine-writer"),
            # the reaper of TELEMETRY
            "$JS.API.CONSUMER.INFO.TELEMETRY.router",
            "$JS.API.STREAM.INFO.TELEMETRY",
            "$JS.API.STREAM.PURGE.TELEMETRY",
            # the age of the oldest message
            "$JS.API.DIRECT.GET.TELEMETRY",
            # delivery_queue_depth
            "$JS.API.CONSUMER.INFO.DELIVERY.*",
            "$JS.API.CONSUMER.NAMES.DELIVERY",
            "$JS.API.STREAM.INFO.SIDING",
        ),
        subscribe=("_INBOX_ingest.>",),
    ),
    "router": Permissions(
        publish=(
            "delivery.>",
            "judgement.>",
            _TRACED,
            *_pulls("TELEMETRY", "router"),
            *_pulls("ATTEMPT", "judgement-writer"),
            # the age of the oldest message
            "$JS.API.DIRECT.GET.TELEMETRY",
        ),
        # what the broker did with sampled messages
        subscribe=("_INBOX_router.>", "hops"),
    ),
    "delivery": Permissions(
        publish=(
            "siding.>",
            "deadletter.>",
            "attempt.>",
            _TRACED,
            *_pulls("DELIVERY", "*"),
            *_takes("SIDING", "*"),
            *_pulls("DEADLETTER", "dead-letter-writer"),
            *_pulls("ATTEMPT", "delivery-log-writer"),
            # turns, and what replicas tell each other about them
            "turn.>",
            "$JS.API.CONSUMER.LIST.SIDING",
            "$JS.API.CONSUMER.NAMES.SIDING",
            "$JS.API.CONSUMER.CREATE.SIDING.>",
            "$JS.API.CONSUMER.DELETE.SIDING.*",
            "$JS.API.CONSUMER.PAUSE.SIDING.*",
            "$JS.API.STREAM.INFO.SIDING",
            "$JS.API.STREAM.MSG.DELETE.SIDING",
            "$JS.API.STREAM.PURGE.SIDING",
            "$JS.API.DIRECT.GET.SIDING",
            # the reaper of DELIVERY
            "$JS.API.STREAM.INFO.DELIVERY",
            "$JS.API.STREAM.PURGE.DELIVERY",
            # the age of the oldest message
            "$JS.API.DIRECT.GET.DELIVERY",
            "$JS.API.DIRECT.GET.DEADLETTER",
            # destinations of kind nats
            "export.>",
        ),
        subscribe=("_INBOX_delivery.>", "turn.>"),
    ),
    "control": Permissions(
        publish=("$JS.API.>",),
        subscribe=(
            "_INBOX_control.>",
            "telemetry.>",
            "delivery.>",
            "siding.>",
            "deadletter.>",
            "quarantine.>",
            "attempt.>",
            "judgement.>",
            "turn.>",
            _TRACED,
        ),
    ),
}
"""By service. ``control`` is the operator's: provisioning, the questions of `pulse`, and watching with the nats CLI."""

MQTT_CLIENT: Final[dict[str, Permissions]] = {
    "ingest-mqtt": Permissions(publish=(), subscribe=("tenant.*.device.>",)),
    "delivery-mqtt": Permissions(publish=("tenant.>",), subscribe=()),
}
"""Users of the MQTT listener that belong to services, in the subject form of their topics."""
