"""What was observed in a run, from the devices' side, the receivers' side and the system's own stores."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pulse_contracts.ids import DeviceId, TenantId, supplied_message_id
from pulse_contracts.routes import Route

Entry = str
"""Names one thing that a device sent: its message id, or the digest of a body that no message can be made of."""
Pair = tuple[Entry, str]
"""Entry and route id."""

NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What a device tried to send."""

    entry: Entry
    tenant: str
    topic: str
    body: bytes
    payload: Mapping[str, object] | None
    """None for a body that cannot be accepted: it is owed a quarantine record, not a row and a delivery."""
    first_sent_at: float
    """Monotonic, like all moments here."""


@dataclass(slots=True)
class Sendings:
    """What the devices sent, and for which of it they were acknowledged."""

    attempted: dict[Entry, Sent] = field(default_factory=dict[Entry, Sent])
    acknowledged: dict[Entry, float] = field(default_factory=dict[Entry, float])
    """When."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a receiver listens for a route: a path, or a topic."""

    name: str
    until: float = NEVER
    """From then on the router knew of a later one: what is sent after that is not for this address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A route, and the addresses that it had one after the other."""

    route: Route
    addresses: tuple[Address, ...]
    is_healthy: bool = True
    """Whether everything is delivered here once a run has settled; elsewhere it may wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One arrival that a receiver answered with success."""

    address: str
    entry: Entry
    at: float
    is_genuine: bool = True
    """Whether the signature holds, where there is one, and the payload is the one that was sent."""
    sender: int | None = None
    """The process that delivered it; None if its connection did not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRow:
    """One row of telemetry, as its tenant sees it."""

    entry: Entry
    tenant: str
    topic: str
    digest: str
    """Of the payload, by `digest_of`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """What the system has, read from the database and the streams."""

    stored: Sequence[StoredRow] = ()
    quarantined: frozenset[tuple[str, Entry]] = frozenset()
    """With the tenant who sees it."""
    dead_lettered: frozenset[tuple[str, Pair]] = frozenset()
    """With the tenant who sees it."""
    kept_by_broker: int = 0
    """MQTT messages that whoever they are for has not acknowledged yet: ingest, which may have died, or a receiver."""
    unstored: frozenset[Entry] = frozenset()
    """What the store has not acknowledged yet."""
    unrouted: frozenset[Entry] = frozenset()
    """What the router has not acknowledged yet."""
    unquarantined: frozenset[Entry] = frozenset()
    """What stands in QUARANTINE."""
    undelivered: frozenset[Pair] = frozenset()
    """What stands in DELIVERY above the ack floor: not acknowledged yet, or behind something that is not. What was
    settled long ago can be here, so it says that a pair still moves and never that it is safe."""
    set_aside: frozenset[Pair] = frozenset()
    """What stands in SIDING."""
    unfiled: frozenset[Pair] = frozenset()
    """What stands in DEADLETTER, on its way to the table."""

    @property
    def is_idle(self) -> bool:
        """Whether no stream and no broker holds anything unacknowledged."""
        coming = self.kept_by_broker or self.unstored or self.unrouted or self.unquarantined
        return not (coming or self.undelivered or self.set_aside or self.unfiled)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that was broken on purpose, from when to when. Each kill is one."""

    name: str
    began: float
    ended: float
    in_hand: float = NEVER
    """How many deliveries it can have left unacknowledged, each of which is made once more; 0: none."""
    killed: int | None = None
    """The process that it killed, if nobody else's deliveries can have been left unacknowledged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """The most that was seen of something that has a cap."""

    name: str
    seen: float
    cap: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """All that was observed of one run, at one moment."""

    sendings: Sendings
    destinations: Sequence[Destination]
    receipts: Sequence[Receipt]
    holdings: Holdings
    faults: Sequence[Fault] = ()
    peaks: Sequence[Peak] = ()


def sent_message(
    *, tenant: str, device: str, supplied: str, topic: str, payload: Mapping[str, object], first_sent_at: float
) -> Sent:
    """Return the entry of a message that its device gave the id *supplied*."""
    return Sent(
        entry=supplied_message_id(TenantId(tenant), DeviceId(device), supplied),
        tenant=tenant,
        topic=topic,
        body=json.dumps(payload).encode(),
        payload=payload,
        first_sent_at=first_sent_at,
    )


def sent_garbage(*, tenant: str, topic: str, body: bytes, first_sent_at: float) -> Sent:
    """Return the entry of a body that is no JSON object; equal bodies of one tenant are one entry."""
    return Sent(
        entry=garbage_entry(tenant, body),
        tenant=tenant,
        topic=topic,
        body=body,
        payload=None,
        first_sent_at=first_sent_at,
    )


def garbage_entry(tenant: str, body: bytes) -> Entry:
    """Name what no message can be made of."""
    return f"sha256:{hashlib.sha256(tenant.encode() + bytes(1) + body).hexdigest()}"


def digest_of(payload: object) -> str:
    """Return the same for equal JSON values, however they are written."""
    return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()
