"""One attempt, from a parcel to a result."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

from pulse_contracts.outcome import Delivered, Failed, Outcome
from pulse_contracts.subjects import RouteAddress
from pulse_delivery.adapters.attempt_spans import AttemptSpans
from pulse_delivery.adapters.route_book import Destination
from pulse_delivery.domain.memory import DeliveredMemory
from pulse_delivery.domain.parcel import Parcel
from pulse_delivery.domain.ports import Sender
from pulse_delivery.domain.result import Result
from pulse_runtime import failpoints
from pulse_runtime.clock import Clock
from pulse_runtime.logging import get_logger

_log = get_logger(__name__)


class Attempts:
    """Makes attempts with the sender of each kind. Both the fast lane and the siding's turns come here."""

    def __init__(
        self,
        senders: Mapping[str, Sender],
        memory: DeliveredMemory,
        clock: Clock,
        note: Callable[[RouteAddress, Outcome], None],
        spans: AttemptSpans,
    ) -> None:
        """*note* is told every outcome: together they show whether the trouble is on this side."""
        self._senders = senders
        self._memory = memory
        self._clock = clock
        self._note = note
        self._spans = spans
        self._in_hand: dict[str, asyncio.Future[None]] = {}
        """By delivery id, what an attempt is made of just now."""

    def was_delivered(self, parcel: Parcel) -> bool:
        """Whether this process has delivered the parcel already: a broker may forget an ack."""
        return parcel.delivery_id in self._memory

    def is_in_hand(self, parcel: Parcel) -> bool:
        """Whether a copy of the parcel is being attempted: the server sends what has lapsed again, perhaps to us."""
        return parcel.delivery_id in self._in_hand

    async def end_of_copy(self, parcel: Parcel) -> None:
        """Wait until no copy of the parcel is being attempted: as long as deadlines last."""
        while at_its_end := self._in_hand.get(parcel.delivery_id):
            await asyncio.shield(at_its_end)

    async def make(self, parcel: Parcel, destination: Destination) -> Result:
        """Attempt once. Never raises for what a destination can do. No copy may be in hand."""
        at_its_end = self._in_hand[parcel.delivery_id] = asyncio.get_running_loop().create_future()
        try:
            return await self._make(parcel, destination)
        finally:
            del self._in_hand[parcel.delivery_id]
            at_its_end.set_result(None)

    async def _make(self, parcel: Parcel, destination: Destination) -> Result:
        began, started = self._clock.now(), self._clock.monotonic()
        span = self._spans.begin(parcel)
        is_recorded = span.traceparent != parcel.traceparent
        sent = replace(parcel, traceparent=span.traceparent) if is_recorded else parcel
        outcome = await self._send(sent, destination)
        span.end(outcome, destination.route)
        failpoints.hit("delivery.after_post")
        self._note(parcel.address, outcome)
        if isinstance(outcome, Delivered):
            self._memory.add(parcel.delivery_id)
        return Result(outcome=outcome, began=began, took_s=self._clock.monotonic() - started)

    async def _send(self, parcel: Parcel, destination: Destination) -> Outcome:
        sender = self._senders.get(parcel.address.kind)
        if sender is None:
            return Failed(error=f"no sender for {parcel.address.kind} is installed here", answered=False)
        if destination.trouble:
            return Failed(error=destination.trouble, answered=False)
        try:
            return await sender.attempt(parcel, destination.route, destination.secrets)
        except Exception as exc:  # noqa: BLE001 - a sender's bug must not stop the lanes; the message is kept and tried again
            _log.exception("sender_failed", kind=parcel.address.kind, route_id=parcel.address.route)
            return Failed(error=f"the sender failed: {type(exc).__name__}", answered=False)
