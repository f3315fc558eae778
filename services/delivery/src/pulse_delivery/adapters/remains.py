"""What is kept of a message that cannot be read: of another version's form, or somebody else's publish.

It becomes a dead letter like any other, so it needs ids, and a payload that PostgreSQL takes as jsonb.
"""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final
from uuid import UUID, uuid5

from pulse_contracts import headers
from pulse_contracts.envelope import Envelope
from pulse_contracts.ids import MESSAGE_NAMESPACE, DeviceId, MessageId, RouteId, TenantId
from pulse_contracts.subjects import RouteAddress, parse_dead_letter, parse_route_address
from pulse_contracts.tokens import InvalidToken
from pulse_delivery.domain.parcel import Parcel

UNREADABLE: Final = "unreadable"
"""The reason of such a dead letter."""
_UNKNOWN: Final = "unknown"
_NO_ROUTE: Final = RouteId(str(UUID(int=0)))


def remains_of(subject: str, data: bytes, fields: Mapping[str, str], now: datetime) -> Parcel:
    """Return a parcel that stands for the message: its payload holds all bytes. Never raises.

    Its id is the message's if a header names it, else the same for the same bytes, so that it is stored once. What the
    subject does not name, or not as an id, is *unknown*.
    """
    address = _address(subject)
    message_id = _message_id(fields) or uuid5(MESSAGE_NAMESPACE, f"{subject}\x1f{sha256(data).hexdigest()}")
    return Parcel(
        address=address,
        revision=0,
        routed_at=now,
        attempts=0,
        answered=0,
        envelope=Envelope(
            message_id=MessageId(str(message_id)),
            tenant_id=address.tenant,
            device_id=DeviceId(_UNKNOWN),
            type=_UNKNOWN,
            topic=subject,
            time=now,
            received_at=now.astimezone(UTC),
            supplied_id=False,
            traceparent=None,
            payload=_payload(data, fields),
        ),
    )


def _address(subject: str) -> RouteAddress:
    try:
        address = _of_dead_letter(subject) if subject.startswith("deadletter.") else parse_route_address(subject)
    except InvalidToken:
        return RouteAddress(kind=_UNKNOWN, tenant=TenantId(_UNKNOWN), route=_NO_ROUTE)
    return address if _uuid(address.route) else RouteAddress(kind=address.kind, tenant=address.tenant, route=_NO_ROUTE)


def _of_dead_letter(subject: str) -> RouteAddress:
    tenant, route = parse_dead_letter(subject)
    return RouteAddress(kind=_UNKNOWN, tenant=tenant, route=route)


def _message_id(fields: Mapping[str, str]) -> UUID | None:
    return _uuid(fields.get(headers.MSG_ID, "").partition(":")[0])


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _payload(data: bytes, fields: Mapping[str, str]) -> bytes:
    kept = {name: value for name, value in fields.items() if name.isprintable() and value.isprintable()}
    return json.dumps({"headers": kept, **_readable(data)}, separators=(",", ":")).encode()


def _readable(data: bytes) -> dict[str, str]:
    """Return the bytes as text where they are text that jsonb takes, which has no NUL."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\x00"
    return {"base64": base64.b64encode(data).decode()} if "\x00" in text else {"text": text}
