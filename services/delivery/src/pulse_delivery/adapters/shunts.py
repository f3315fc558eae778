"""Puts messages into the siding, as far as there is room for them."""

from pulse_bus.errors import PublishRefused
from pulse_bus.incoming import Incoming
from pulse_bus.outgoing import Outgoing
from pulse_bus.publisher import Publisher
from pulse_contracts import headers, subjects
from pulse_delivery.adapters.patience import publish_patiently
from pulse_delivery.domain.parcel import Parcel
from pulse_delivery.domain.room import Bound, Claim, NoRoom, SidingRoom
from pulse_delivery.domain.troubles import Troubles
from pulse_runtime import failpoints
from pulse_runtime.clock import Clock
from pulse_runtime.events import MESSAGES_SHUNTED
from pulse_runtime.logging import get_logger
from pulse_runtime.metrics import DeliveryMetrics
from pulse_runtime.tracing import trace_id_of

_log = get_logger(__name__)


class Shunts:
    """Publishes to the siding what `SidingRoom` admits. Acknowledging is the caller's, after it."""

    def __init__(
        self, publisher: Publisher, room: SidingRoom, troubles: Troubles, *, metrics: DeliveryMetrics, clock: Clock
    ) -> None:
        self._publisher = publisher
        self._room = room
        self._troubles = troubles
        self._metrics = metrics
        self._clock = clock

    async def put(self, message: Incoming, parcel: Parcel, reason: str, claim: Claim = Claim.SHARE) -> NoRoom | None:
        """Put the message to the tail of its route; returns when it is durable there, or why there is no room.

        The route is troubled from the moment this is called. A siding that cannot be reached is waited for.
        """
        address = parcel.address
        outgoing = _outgoing(message, parcel, reason)
        size_bytes = outgoing.stored_bytes
        if no_room := self._room.enter(address, size_bytes, claim):
            return no_room
        stays = False
        self._troubles.shunt_begins(address)
        failpoints.hit("delivery.before_shunt")
        try:
            refused = await publish_patiently(self._publisher, outgoing, self._clock)
            stays = refused is None
        finally:
            self._troubles.shunt_ends(address, waits=stays)
            self._room.entered(address, size_bytes, stays=stays)
        if refused:
            # The last resort: other processes filled it since it was counted.
            return _from_server(refused)
        self._metrics.shunts_total.labels(reason=reason).inc()
        _log.debug(MESSAGES_SHUNTED, route_id=address.route, reason=reason, trace_id=trace_id_of(parcel.traceparent))
        failpoints.hit("delivery.after_shunt")
        return None


def _outgoing(message: Incoming, parcel: Parcel, reason: str) -> Outgoing:
    address = parcel.address
    fields = {
        headers.ROUTE_REVISION: str(parcel.revision),
        headers.ROUTED_AT: str(int(parcel.routed_at.timestamp() * 1000)),
        headers.ATTEMPTS: str(parcel.attempts),
        headers.ANSWERED: str(parcel.answered),
        headers.CAUSE: reason,
    }
    if parcel.traceparent:
        fields[headers.TRACEPARENT] = parcel.traceparent
    return Outgoing(
        subject=subjects.siding(address.kind, address.tenant, address.route),
        data=message.data,
        message_id=_siding_id(message, parcel),
        headers=fields,
    )


def _siding_id(message: Incoming, parcel: Parcel) -> str:
    """Name what is moved, so that a move whose ack was lost is recognised; to the tail it moves once an attempt."""
    return f"{parcel.delivery_id}:s{parcel.attempts if message.subject.startswith('siding.') else ''}"


def _from_server(refused: PublishRefused) -> NoRoom:
    bound = Bound.ROUTE_MESSAGES if refused.reason == "subject_full" else Bound.SIDING
    return NoRoom(bound=bound, error=f"the server says: {refused.description}")
