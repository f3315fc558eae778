"""Routes and messages for the tests of the router."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from pulse_contracts.envelope import Envelope
from pulse_contracts.ids import DeviceId, MessageId, RouteId, TenantId
from pulse_contracts.routes import Route

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


def route(
    route_id: str,
    topic_filter: str = "tenant/acme/device/#",
    *,
    tenant: str = "acme",
    revision: int = 1,
    generation: int = 0,
    kind: str = "webhook",
    payload_filter: Mapping[str, object] | None = None,
    expression: str | None = None,
    enabled: bool = True,
    deleted: bool = False,
) -> Route:
    return Route(
        route_id=RouteId(route_id),
        tenant_id=TenantId(tenant),
        name=route_id,
        revision=revision,
        topic_filter=topic_filter,
        payload_filter=payload_filter,
        expression=expression,
        kind=kind,
        config={},
        enabled=enabled,
        generation=generation,
        deleted=deleted,
    )


def envelope(
    payload: object = None, *, tenant: str = "acme", device: str = "d", traceparent: str | None = None
) -> Envelope:
    return Envelope(
        message_id=MessageId("m-1"),
        tenant_id=TenantId(tenant),
        device_id=DeviceId(device),
        type="weather",
        topic=f"tenant/{tenant}/device/{device}/weather",
        time=NOW,
        received_at=NOW,
        supplied_id=False,
        traceparent=traceparent,
        payload=json.dumps({} if payload is None else payload).encode(),
    )
