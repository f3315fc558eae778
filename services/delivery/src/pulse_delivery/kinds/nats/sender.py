"""Publishes into the tenant's export space; delivered when a stream that captures it has acknowledged."""

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

from pulse_bus.connection import Connection
from pulse_bus.errors import BusUnavailable
from pulse_contracts import headers
from pulse_contracts.outcome import Delivered, Failed, Outcome
from pulse_contracts.routes import Route
from pulse_contracts.tokens import encode_token
from pulse_delivery.domain.parcel import Parcel
from pulse_delivery.domain.ports import Sender
from pulse_delivery.kinds.context import SenderContext


class NatsSender:
    """Publishes over the service's own connection."""

    def __init__(self, bus: Connection) -> None:
        self._bus = bus

    async def attempt(self, parcel: Parcel, route: Route, secrets: Mapping[str, object]) -> Outcome:  # noqa: ARG002 - the port's signature
        subject = f"export.{encode_token(parcel.address.tenant)}.{route.config['subject']}"
        try:
            answer = await self._bus.request(
                subject,
                parcel.envelope.public_body(),
                timeout_s=route.policy.deadline_s,
                headers={headers.TRACEPARENT: parcel.traceparent} if parcel.traceparent else None,
            )
        except BusUnavailable as exc:
            return Failed(error=str(exc), answered=False)
        if not answer.data:
            return Failed(error=f"no stream captures {subject}", answered=False)
        error = json.loads(answer.data).get("error")
        if error:
            return Failed(error=f"the stream refused: {error.get('description')}", answered=True)
        return Delivered()


@asynccontextmanager
async def open_sender(context: SenderContext) -> AsyncGenerator[Sender, None]:
    """Yield the sender of NATS messages."""
    yield NatsSender(context.bus)
