"""Messages on their way to a stream, and how a rejected batch of them is split."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pulse_contracts import headers
from pulse_contracts.subjects import tenant_token

_OWN_HEADERS_BYTES: Final = 200
"""At most so much take the header block's first and last line, the names of the id, and those of a batch."""
_PER_HEADER_BYTES: Final = 4
"""Colon, blank and line end."""
_RECORD_BYTES: Final = 46
"""Of a message in the file store: 34 around subject, headers and body, 12 for the block's first and last line."""
_BATCH_BYTES: Final = 97
"""At most so much are the headers of an atomic batch, which the stream keeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One message to be committed."""

    subject: str
    data: bytes
    message_id: str
    """Goes out as ``Nats-Msg-Id``: the same id within the duplicate window is stored once."""
    headers: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def size_bytes(self) -> int:
        """What the server holds against its ``max_payload``: the body and all headers, rounded up a little."""
        texts = (self.message_id, *self.headers, *self.headers.values())
        block = sum(len(text.encode()) for text in texts) + _PER_HEADER_BYTES * len(self.headers)
        return len(self.data) + block + _OWN_HEADERS_BYTES

    @property
    def stored_bytes(self) -> int:
        """What the message will count against the stream's ``max_bytes`` at most: a batch has headers too."""
        fields = {**self.headers, headers.MSG_ID: self.message_id}
        return stored_bytes(self.subject, fields, self.data) + _BATCH_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """The stream has the message, fsynced."""

    duplicate: bool
    """Whether it had it before."""


def stored_bytes(subject: str, fields: Mapping[str, str], data: bytes) -> int:
    """Return what a message with headers occupies in a file store, as ``STREAM.INFO`` counts it."""
    block = sum(len(name.encode()) + len(value.encode()) + _PER_HEADER_BYTES for name, value in fields.items())
    return _RECORD_BYTES + len(subject) + block + len(data)


def split_batch(messages: list[Outgoing]) -> list[list[Outgoing]]:
    """Split by tenant, and one tenant's messages into halves: a tenant's duplicates cost the others nothing more."""
    by_tenant: dict[str, list[Outgoing]] = {}
    for message in messages:
        by_tenant.setdefault(tenant_token(message.subject), []).append(message)
    if len(by_tenant) > 1:
        return list(by_tenant.values())
    middle = len(messages) // 2
    return [half for half in (messages[:middle], messages[middle:]) if half]
