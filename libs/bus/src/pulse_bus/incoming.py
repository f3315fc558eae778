"""Messages that a consumer holds, until they are settled."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from nats.aio.msg import Msg

from pulse_bus.api import NANOSECONDS
from pulse_bus.connection import Connection
from pulse_bus.errors import BusUnavailable
from pulse_bus.spans import Processing, begin_processing
from pulse_contracts import headers
from pulse_runtime.clock import Clock

_V1_TOKENS: Final = 9
"""``$JS.ACK.{stream}.{consumer}.{delivered}.{stream_seq}.{consumer_seq}.{time}.{pending}``; v2 has two more before."""


@dataclass(slots=True, eq=False)
class Incoming:
    """One delivery of a message. Settle it exactly once; until then it is held with in-progress signals."""

    subject: str
    data: bytes
    headers: dict[str, str]
    stream_seq: int
    deliveries: int
    """How often the server has delivered it to this consumer; more than 1 after a crash or a nak."""
    stored_at_s: float
    """When the stream stored it, in epoch seconds."""
    pending: int
    """How many messages the consumer had not delivered yet when it delivered this one."""
    held_until: float
    """When the server gives it to another, unless its work is reported before; monotonic."""
    _ack_wait_s: float
    _clock: Clock
    _reply: str
    _connection: Connection
    _settled: Callable[["Incoming"], None]
    _processing: Processing | None = None

    @property
    def traceparent(self) -> str | None:
        """The parent of whatever is done for this message."""
        return self._processing.context.header() if self._processing else self.headers.get(headers.TRACEPARENT)

    @property
    def has_lapsed(self) -> bool:
        """Whether this process stood still for so long that the message is another's by now.

        Then nothing more should be done for it; an ack of what is done already still spares the other the work.
        """
        return self._clock.monotonic() >= self.held_until

    async def ack(self) -> None:
        """Say that the message is done with. Not durable at once: it may come again after a broker crash."""
        await self._settle(b"+ACK", "ack")

    async def nak(self, delay_s: float = 0.0) -> None:
        """Give the message back, to be delivered again after *delay_s*."""
        if self.has_lapsed:
            # Whoever has it now would get it twice.
            self.abandon()
            return
        body = b" " + json.dumps({"delay": int(delay_s * NANOSECONDS)}).encode() if delay_s else b""
        await self._settle(b"-NAK" + body, "nak")

    def abandon(self) -> None:
        """Settle it without a word to the server: it comes again, or has come already, perhaps to another."""
        self._settled(self)
        if self._processing:
            self._processing.end("abandon")

    async def hold(self) -> None:
        """Tell the server that the work goes on, while the message is ours."""
        if self.has_lapsed or not self._connection.is_connected:
            return
        self.held_until = self._clock.monotonic() + self._ack_wait_s
        await self._send(b"+WPI")

    async def _settle(self, verb: bytes, settlement: str) -> None:
        self._settled(self)
        if self._processing:
            self._processing.end(settlement)
        await self._send(verb)

    async def _send(self, verb: bytes) -> None:
        try:
            await self._connection.publish(self._reply, verb)
        except BusUnavailable:
            # The server delivers the message again: every consumer is idempotent, so nothing is lost by it.
            return


def read_delivery(
    message: Msg,
    connection: Connection,
    settled: Callable[[Incoming], None],
    clock: Clock,
    *,
    sent_at: float,
    ack_wait_s: float,
) -> Incoming | None:
    """Return the delivery that *message* is, or None for a status message of the server.

    *sent_at* is when the server may have sent it at the earliest.
    """
    if not message.reply.startswith("$JS.ACK."):
        return None
    tokens = message.reply.split(".")
    first = 4 if len(tokens) == _V1_TOKENS else 6
    fields, deliveries = message.headers or {}, int(tokens[first])
    stream, consumer = tokens[first - 2 : first]
    return Incoming(
        subject=message.subject,
        data=message.data,
        headers=fields,
        deliveries=deliveries,
        stream_seq=int(tokens[first + 1]),
        stored_at_s=int(tokens[first + 3]) / NANOSECONDS,
        pending=int(tokens[first + 4]),
        held_until=sent_at + ack_wait_s,
        _ack_wait_s=ack_wait_s,
        _clock=clock,
        _reply=message.reply,
        _connection=connection,
        _settled=settled,
        _processing=begin_processing(
            connection.tracer, clock, stream=stream, consumer=consumer, fields=fields, deliveries=deliveries
        ),
    )
