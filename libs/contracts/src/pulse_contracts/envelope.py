"""The envelope: one message as it travels from ingest to the destinations.

Its wire form is one JSON object whose last member is the payload, *byte for byte as the device sent it*:

    {"message_id":"…","tenant_id":"…",…,"payload":{"metrics": {"t": 21.5}}}

So the nats CLI shows something readable, nobody encodes the payload twice, and an MQTT republish can send the
original bytes. ``,"payload":`` cannot occur earlier: inside a JSON string its quotes would be escaped.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pulse_contracts.ids import DeviceId, MessageId, TenantId

_PAYLOAD_KEY: Final = b',"payload":'


class InvalidEnvelope(ValueError):
    """Bytes on the bus that are not an envelope: our own fault, or somebody else's publish."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One accepted message."""

    message_id: MessageId
    tenant_id: TenantId
    device_id: DeviceId
    type: str
    topic: str
    """The original topic, also for messages that came over HTTP."""
    time: datetime
    """When it was measured, by the device's clock if that is credible, else when it was received."""
    received_at: datetime
    supplied_id: bool
    """Whether the device gave the message its id, so that a re-send is recognised."""
    traceparent: str | None
    payload: bytes
    """A JSON object, as the device sent it."""

    def encode(self) -> bytes:
        """Return the wire form."""
        head = {
            **self._public_head(),
            "received_at": self.received_at.isoformat(),
            "supplied_id": self.supplied_id,
            "traceparent": self.traceparent,
        }
        return _with_payload(head, self.payload)

    def public_body(self) -> bytes:
        """Return what a webhook gets: the documented members, nothing of ours."""
        return _with_payload(self._public_head(), self.payload)

    def _public_head(self) -> dict[str, object]:
        return {
            "message_id": self.message_id,
            "tenant_id": self.tenant_id,
            "device_id": self.device_id,
            "type": self.type,
            "topic": self.topic,
            "time": format_time(self.time),
        }


def _with_payload(head: dict[str, object], payload: bytes) -> bytes:
    encoded = json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode()
    return encoded[:-1] + _PAYLOAD_KEY + payload + b"}"


def decode_envelope(data: bytes) -> Envelope:
    """Read the wire form without parsing the payload; raises `InvalidEnvelope`."""
    cut = data.find(_PAYLOAD_KEY)
    if cut < 0:
        raise InvalidEnvelope("no payload")
    try:
        head = json.loads(data[:cut] + b"}")
        return Envelope(
            message_id=MessageId(head["message_id"]),
            tenant_id=TenantId(head["tenant_id"]),
            device_id=DeviceId(head["device_id"]),
            type=head["type"],
            topic=head["topic"],
            time=datetime.fromisoformat(head["time"]),
            received_at=datetime.fromisoformat(head["received_at"]),
            supplied_id=bool(head["supplied_id"]),
            traceparent=head["traceparent"],
            payload=data[cut + len(_PAYLOAD_KEY) : -1],
        )
    except (ValueError, KeyError, TypeError) as exc:
        raise InvalidEnvelope(str(exc)) from exc


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds and ``Z``: what the outside sees."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
