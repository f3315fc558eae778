"""Identities: who sent a message, which message it is, and what makes two messages the same."""

import os
import re
import time
import uuid
from typing import Final, NewType

TenantId = NewType("TenantId", str)
DeviceId = NewType("DeviceId", str)
RouteId = NewType("RouteId", str)
MessageId = NewType("MessageId", str)

MESSAGE_NAMESPACE: Final = uuid.UUID("5b1d7a0e-3c52-4c1b-9a52-6f7f1c0b9e11")
"""Namespace of ids derived from what a device supplied. Changing it makes every re-send a new message."""

MAX_SUPPLIED_ID_CHARS: Final = 256

_TENANT = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?")
_DEVICE = re.compile(r"[A-Za-z0-9._:@~=-]{1,128}")


class InvalidIdentity(ValueError):
    """An identity that no part of Pulse may carry further."""

    def __init__(self, field: str, reason: str) -> None:
        self.field = field
        self.reason = reason
        super().__init__(f"{field}: {reason}")


def tenant_id(text: str) -> TenantId:
    """Return *text* as a tenant id: 1 to 64 of ``a-z 0-9 _ -``, a letter or digit at both ends."""
    if not _TENANT.fullmatch(text):
        raise InvalidIdentity("tenant_id", "must be 1 to 64 of a-z, 0-9, _ and -, with a letter or digit at both ends")
    return TenantId(text)


def device_id(text: str) -> DeviceId:
    """Return *text* as a device id: 1 to 128 of ``A-Z a-z 0-9 . _ : @ ~ = -`` (MAC and EUI-64 addresses fit)."""
    if not _DEVICE.fullmatch(text):
        raise InvalidIdentity("device_id", "must be 1 to 128 of A-Z, a-z, 0-9 and . _ : @ ~ = -")
    return DeviceId(text)


def new_message_id() -> MessageId:
    """Make a UUIDv7 (RFC 9562 §5.7): unique, and ordered by time to the millisecond."""
    stamp = time.time_ns() // 1_000_000
    value = (stamp << 80) | int.from_bytes(os.urandom(10), "big")
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return MessageId(str(uuid.UUID(int=value)))


def supplied_message_id(tenant: TenantId, device: DeviceId, supplied: str) -> MessageId:
    """Derive the message id from the id that a device supplied.

    UUIDv5 (RFC 9562 §5.5) of (tenant, device, supplied): the same three give the same message id for ever, and no
    tenant can produce another's. Raises `InvalidIdentity` for an empty or overlong one.
    """
    if not 0 < len(supplied) <= MAX_SUPPLIED_ID_CHARS or not supplied.isprintable():
        raise InvalidIdentity("message_id", f"must be 1 to {MAX_SUPPLIED_ID_CHARS} printable characters")
    return MessageId(str(uuid.uuid5(MESSAGE_NAMESPACE, f"{tenant}\x1f{device}\x1f{supplied}")))


def new_route_id() -> RouteId:
    """Make a route id, ordered by the time of its making."""
    return RouteId(str(new_message_id()))
