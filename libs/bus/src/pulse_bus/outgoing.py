"""Messages on their way to a stream, and how a rejected batch of them is split."""

from dataclasses import dataclass, field

from pulse_contracts.subjects import tenant_token


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One message to be committed."""

    subject: str
    data: bytes
    message_id: str
    """Goes out as ``Nats-Msg-Id``: the same id within the duplicate window is stored once."""
    headers: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """The stream has the message, fsynced."""

    duplicate: bool
    """Whether it had it before."""


def split_batch(messages: list[Outgoing]) -> list[list[Outgoing]]:
    """Split by tenant, and one tenant's messages into halves: a tenant's duplicates cost the others nothing more."""
    by_tenant: dict[str, list[Outgoing]] = {}
    for message in messages:
        by_tenant.setdefault(tenant_token(message.subject), []).append(message)
    if len(by_tenant) > 1:
        return list(by_tenant.values())
    middle = len(messages) // 2
    return [half for half in (messages[:middle], messages[middle:]) if half]
