"""Admission: from what a device sent to an envelope, or to the reason why not."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pulse_contracts.envelope import Envelope
from pulse_contracts.ids import InvalidIdentity, new_message_id, supplied_message_id
from pulse_contracts.topics import DeviceTopic
from pulse_ingest.domain.strict_json import JsonRefused, parse

MAX_PAYLOAD_BYTES: Final = 256 * 1024
_OLDEST: Final = timedelta(days=365)
_NEWEST: Final = timedelta(days=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What an authenticated device sent."""

    topic: DeviceTopic
    body: bytes
    supplied_id: str | None = None
    """From the protocol (``Idempotency-Key``, MQTT 5 ``message-id``); goes before the payload's ``message_id``."""
    traceparent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a submission cannot be accepted, now or ever."""

    reason: str
    field: str
    error: str


def admit(submission: Submission, now: datetime) -> Envelope | Refusal:
    """Check everything that a later step could stumble over, and give the message its id and its time."""
    if len(submission.body) > MAX_PAYLOAD_BYTES:
        return Refusal(
            reason="payload_too_large", field="payload", error=f"payload: larger than {MAX_PAYLOAD_BYTES} bytes"
        )
    try:
        payload = parse(submission.body)
    except JsonRefused as exc:
        field = f"payload.{exc.path}" if exc.path else "payload"
        return Refusal(reason=exc.reason, field=field, error=f"payload: {exc}")
    if not isinstance(payload, dict):
        return Refusal(reason="payload_not_object", field="payload", error="payload: must be a JSON object")
    return _envelope(submission, payload, now)  # pyright: ignore[reportUnknownArgumentType] - a JSON object


def _envelope(submission: Submission, payload: dict[str, Any], now: datetime) -> Envelope | Refusal:
    supplied = submission.supplied_id or payload.get("message_id")
    topic = submission.topic
    if supplied is not None and not isinstance(supplied, str):
        return Refusal(reason="message_id_invalid", field="message_id", error="message_id: must be a string")
    try:
        message_id = supplied_message_id(topic.tenant, topic.device, supplied) if supplied else new_message_id()
    except InvalidIdentity as exc:
        return Refusal(reason="message_id_invalid", field=exc.field, error=str(exc))
    return Envelope(
        message_id=message_id,
        tenant_id=topic.tenant,
        device_id=topic.device,
        type=topic.type,
        topic=str(topic),
        time=credible_time(payload.get("ts"), now),
        received_at=now,
        supplied_id=bool(supplied),
        traceparent=submission.traceparent,
        payload=submission.body.strip(),
    )


def credible_time(stamp: object, now: datetime) -> datetime:
    """Return the device's time if it lies within the last year and the next day, else *now*.

    RFC 3339 text or epoch milliseconds. A device with a wrong clock is common, and its data is worth keeping.
    """
    moment = _read_time(stamp)
    return moment if moment and now - _OLDEST <= moment <= now + _NEWEST else now


def _read_time(stamp: object) -> datetime | None:
    try:
        if isinstance(stamp, str):
            moment = datetime.fromisoformat(stamp)
            return moment.astimezone(UTC) if moment.tzinfo else None
        if isinstance(stamp, int | float) and not isinstance(stamp, bool):
            return _EPOCH + timedelta(milliseconds=stamp)
    except (ValueError, OverflowError):
        return None
    return None
