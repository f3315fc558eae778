"""Parcels and routes for the tests of delivery."""

from collections.abc import Mapping
from datetime import UTC, datetime

from pulse_contracts.envelope import Envelope
from pulse_contracts.ids import DeviceId, MessageId, RouteId, TenantId
from pulse_contracts.routes import Route, RoutePolicy
from pulse_contracts.subjects import RouteAddress
from pulse_delivery.domain.parcel import Parcel

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
ACME = TenantId("acme")


def address(route: str = "r-1", kind: str = "webhook") -> RouteAddress:
    return RouteAddress(kind=kind, tenant=ACME, route=RouteId(route))


def envelope(*, device: str = "d", message_type: str = "weather", traceparent: str | None = None) -> Envelope:
    return Envelope(
        message_id=MessageId("m-1"),
        tenant_id=ACME,
        device_id=DeviceId(device),
        type=message_type,
        topic=f"tenant/acme/device/{device}/{message_type}",
        time=NOW,
        received_at=NOW,
        supplied_id=False,
        traceparent=traceparent,
        payload=b'{"t":1}',
    )


def parcel(*, attempts: int = 0, answered: int = 0, traceparent: str | None = None) -> Parcel:
    return Parcel(
        address=address(),
        revision=1,
        routed_at=NOW,
        attempts=attempts,
        answered=answered,
        envelope=envelope(traceparent=traceparent),
        traceparent=traceparent,
    )


def route(config: Mapping[str, object], policy: RoutePolicy | None = None, kind: str = "webhook") -> Route:
    return Route(
        route_id=RouteId("r-1"),
        tenant_id=ACME,
        name="r",
        revision=1,
        topic_filter="#",
        payload_filter=None,
        expression=None,
        kind=kind,
        config=config,
        policy=policy or RoutePolicy(),
    )
