"""Looking at what stands in a stream, without taking anything."""

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

from pulse_bus.api import api_request
from pulse_bus.connection import Connection
from pulse_bus.outgoing import stored_bytes

_TIMEOUT_S = 5.0
_ADDED_BY_GET: Final = frozenset({"Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp"})
"""Headers of the answer that are not the message's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One message of a stream."""

    subject: str
    stream_seq: int
    data: bytes
    headers: dict[str, str]

    @property
    def stored_bytes(self) -> int:
        """What the message counts against its stream's ``max_bytes``."""
        own = {name: value for name, value in self.headers.items() if name not in _ADDED_BY_GET}
        return stored_bytes(self.subject, own, self.data)


async def unacknowledged(
    connection: Connection, stream: str, subject_filter: str, consumer: str | None
) -> list[Standing]:
    """Return all that `each_unacknowledged` reads."""
    return [message async for message in each_unacknowledged(connection, stream, subject_filter, consumer)]


async def each_unacknowledged(
    connection: Connection, stream: str, subject_filter: str, consumer: str | None
) -> AsyncGenerator[Standing]:
    """Read what *consumer* has not acknowledged yet: everything above its ack floor, so perhaps a little more.

    Without a consumer: everything in the stream that the filter selects. What comes while this reads is not looked at:
    a stream may grow as fast as it is read. May raise `ApiError` or `BusUnavailable`.
    """
    start = 1
    if consumer is not None:
        info = await api_request(connection, f"CONSUMER.INFO.{stream}.{consumer}")
        if not info["num_pending"] and not info["num_ack_pending"]:
            return
        start = int(info["ack_floor"]["stream_seq"]) + 1
    last = int((await api_request(connection, f"STREAM.INFO.{stream}"))["state"]["last_seq"])
    while start <= last and (message := await next_message(connection, stream, subject_filter, start)) is not None:
        if message.stream_seq > last:
            break
        yield message
        start = message.stream_seq + 1


async def next_message(connection: Connection, stream: str, subject_filter: str, start: int) -> Standing | None:
    """Return the first message at or after sequence *start* that the filter selects, or None."""
    request = json.dumps({"seq": start, "next_by_subj": subject_filter}).encode()
    answer = await connection.request(f"$JS.API.DIRECT.GET.{stream}", request, timeout_s=_TIMEOUT_S)
    fields = dict(answer.headers or {})
    if "Nats-Sequence" not in fields:
        return None
    return Standing(
        subject=fields["Nats-Subject"], stream_seq=int(fields["Nats-Sequence"]), data=answer.data, headers=fields
    )
