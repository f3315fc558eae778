"""What OpenTelemetry's semantic conventions ask of our spans (HTTP 1.23 and later, messaging 1.26), in one table."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from pulse_testkit.otlp import CollectedSpan

ARRIVAL = "POST /ingest/v1/tenant/{tenant_id}/device/{device_id}/{type}"
MQTT_ARRIVAL = "process tenant/{tenant_id}/device/{device_id}/{type}"
INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = range(1, 6)
"""Of spans, as OTLP numbers them."""
STREAMS: Final = ("TELEMETRY", "DELIVERY", "SIDING", "DEADLETTER", "ATTEMPT")
"""Those that a message goes through."""
_MESSAGING: Final = {
    "messaging.system": "nats",
    "messaging.operation.type": None,
    "messaging.operation.name": None,
    "messaging.destination.name": None,
    "messaging.message.id": None,
}
"""Attributes that the conventions ask for; None stands for anything but nothing."""
_IDS: Final = {"pulse.tenant.id": None, "pulse.message.id": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """What OpenTelemetry's conventions ask of spans of one name."""

    kind: int
    attributes: Mapping[str, object]


CONVENTIONS: Final = {
    ARRIVAL: Convention(
        kind=SERVER,
        attributes={
            "pulse.tenant.id": None,
            "http.request.method": "POST",
            "http.route": ARRIVAL.removeprefix("POST "),
            "http.response.status_code": None,
            "url.scheme": "http",
        },
    ),
    MQTT_ARRIVAL: Convention(
        kind=CONSUMER,
        attributes={
            **_IDS,
            "messaging.system": "mqtt",
            "messaging.operation.type": "process",
            "messaging.operation.name": "process",
            "messaging.destination.template": MQTT_ARRIVAL.removeprefix("process "),
        },
    ),
    **{
        f"send {stream}": Convention(
            kind=PRODUCER,
            attributes=_MESSAGING | {"messaging.operation.type": "send", "messaging.destination.name": stream},
        )
        for stream in STREAMS
    },
    **{
        f"process {stream}": Convention(
            kind=CONSUMER,
            attributes=_MESSAGING
            | {
                "messaging.operation.type": "process",
                "messaging.destination.name": stream,
                "messaging.consumer.group.name": None,
            },
        )
        for stream in STREAMS
    },
    "nats-server": Convention(
        kind=INTERNAL, attributes={"messaging.system": "nats", "messaging.destination.name": None}
    ),
    "POST": Convention(
        kind=CLIENT,
        attributes={
            **_IDS,
            "http.request.method": "POST",
            "url.scheme": "http",
            "server.address": "127.0.0.1",
            "server.port": None,
            "http.response.status_code": None,
        },
    ),
    "send nats": Convention(
        kind=PRODUCER,
        attributes={
            **_IDS,
            "messaging.system": "nats",
            "messaging.operation.type": "send",
            "messaging.operation.name": "send",
            "messaging.destination.template": "copy",
            "messaging.message.id": None,
        },
    ),
    "send mqtt_republish": Convention(
        kind=PRODUCER,
        attributes={
            **_IDS,
            "messaging.system": "mqtt",
            "messaging.operation.type": "send",
            "messaging.operation.name": "send",
            "messaging.destination.template": "tenant/{tenant_id}/again",
            "messaging.message.id": None,
        },
    ),
}


def unmet(spans: Collection[CollectedSpan], name: str) -> list[str]:
    """Return what the spans of a name lack or have otherwise."""
    convention = CONVENTIONS[name]
    found_wrong: set[str] = set()
    for span in spans:
        if span.name != name:
            continue
        if span.kind != convention.kind:
            found_wrong.add(f"kind {span.kind}")
        for attribute, expected in convention.attributes.items():
            found = span.attributes.get(attribute)
            if not found or (expected is not None and found != expected):
                found_wrong.add(f"{attribute} {found!r}")
    return sorted(found_wrong)
