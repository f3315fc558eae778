"""Records of what became of messages, as they travel to their writers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Final, Self

from pulse_contracts.envelope import Envelope, InvalidEnvelope, decode_envelope
from pulse_contracts.ids import MessageId, RouteId, TenantId

MAX_ERROR_CHARS: Final = 2000
_CUT_BYTES: Final = 64 * 1024
_ENVELOPE_KEY: Final = b',"envelope":'


def clip_error(text: str) -> str:
    """Return *text* fit for ``error_message``: no NUL, at most 2,000 characters."""
    return text.replace("\x00", "�")[:MAX_ERROR_CHARS]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterRecord:
    """A message that will not be delivered, with the reason."""

    route_id: RouteId
    kind: str
    config: Mapping[str, object]
    """The destination's configuration, secrets masked."""
    reason: str
    error: str
    attempts: int
    created_at: datetime
    envelope: Envelope

    def cut(self) -> "DeadLetterRecord":
        """Return the record without configuration and with the beginning of the payload, for it is too large whole."""
        payload = self.envelope.payload
        begins = payload[:_CUT_BYTES].decode(errors="ignore")
        cut = json.dumps({"cut_from_bytes": len(payload), "begins": begins}, separators=(",", ":")).encode()
        return replace(self, config={}, envelope=replace(self.envelope, payload=cut))

    def encode(self) -> bytes:
        """Return one JSON object with the envelope last, so that it is not encoded again.

        The configuration is JSON within a string: the names of its members are a tenant's, and one called
        ``envelope`` would be taken for ours.
        """
        head = {
            "route_id": self.route_id,
            "kind": self.kind,
            "reason": self.reason,
            "error": clip_error(self.error),
            "attempts": self.attempts,
            "created_at": self.created_at.isoformat(),
            "config": json.dumps(dict(self.config), separators=(",", ":")),
        }
        encoded = json.dumps(head, separators=(",", ":")).encode()
        return encoded[:-1] + _ENVELOPE_KEY + self.envelope.encode() + b"}"

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read the wire form; raises `InvalidEnvelope`."""
        cut = data.find(_ENVELOPE_KEY)
        try:
            head = json.loads(data[:cut] + b"}")
            return cls(
                route_id=RouteId(head["route_id"]),
                kind=head["kind"],
                config=json.loads(head["config"]),
                reason=head["reason"],
                error=head["error"],
                attempts=head["attempts"],
                created_at=datetime.fromisoformat(head["created_at"]),
                envelope=decode_envelope(data[cut + len(_ENVELOPE_KEY) : -1]),
            )
        except (ValueError, KeyError, TypeError) as exc:
            raise InvalidEnvelope(str(exc)) from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """One attempt, for the delivery log."""

    message_id: MessageId
    tenant_id: TenantId
    route_id: RouteId
    revision: int
    attempt: int
    outcome: str
    """``delivered``, ``failed`` or ``rejected``."""
    status: int | None
    error: str | None
    duration_ms: float
    at: str
    """RFC 3339."""

    def encode(self) -> bytes:
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read the wire form; raises `InvalidEnvelope`."""
        try:
            return cls(**json.loads(data))
        except (ValueError, TypeError) as exc:
            raise InvalidEnvelope(str(exc)) from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgementRecord:
    """Messages of one tenant that one generation of its routes judged, whether they matched or not."""

    judgement_id: str
    """A UUID."""
    tenant_id: TenantId
    generation: int
    judged_at: datetime
    message_ids: Sequence[MessageId]

    def encode(self) -> bytes:
        fields = asdict(self) | {"judged_at": self.judged_at.isoformat()}
        return json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read the wire form; raises `InvalidEnvelope`."""
        try:
            fields = json.loads(data)
            return cls(**(fields | {"judged_at": datetime.fromisoformat(fields["judged_at"])}))
        except (ValueError, TypeError, KeyError) as exc:
            raise InvalidEnvelope(str(exc)) from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineRecord:
    """What a known tenant's device sent but could not be accepted."""

    tenant_id: TenantId
    topic: str
    reason: str
    """A short code: ``payload_not_json``, ``device_unknown``, …"""
    error: str
    payload: bytes
    """The first part of what was sent; hexadecimal on the wire, because it may be anything."""
    received_at: str

    def encode(self) -> bytes:
        fields = asdict(self) | {"payload": self.payload.hex(), "error": clip_error(self.error)}
        return json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read the wire form; raises `InvalidEnvelope`."""
        try:
            fields = json.loads(data)
            return cls(**(fields | {"payload": bytes.fromhex(fields["payload"])}))
        except (ValueError, TypeError, KeyError) as exc:
            raise InvalidEnvelope(str(exc)) from exc
