"""Books of a small run; a test takes something away, or adds what should not be there."""

from dataclasses import replace
from typing import Any

from pulse_cli.ledger.facts import (
    Address,
    Books,
    Destination,
    Holdings,
    Receipt,
    Sendings,
    Sent,
    StoredRow,
    digest_of,
    sent_garbage,
    sent_message,
)
from pulse_contracts.ids import RouteId, TenantId
from pulse_contracts.routes import Route


def destination(
    name: str = "healthy",
    tenant: str = "acme",
    payload_filter: dict[str, object] | None = None,
    *,
    is_healthy: bool = True,
) -> Destination:
    route = Route(
        route_id=RouteId(f"{tenant}-{name}"),
        tenant_id=TenantId(tenant),
        name=name,
        revision=1,
        topic_filter="#",
        payload_filter=payload_filter,
        expression=None,
        kind="webhook",
        config={},
    )
    return Destination(route=route, addresses=(Address(name=f"{tenant}/{name}"),), is_healthy=is_healthy)


def message(name: str, tenant: str = "acme", temperature: float = 10.0, at: float = 100.0) -> Sent:
    return sent_message(
        tenant=tenant,
        device="d",
        supplied=name,
        topic=f"tenant/{tenant}/device/d/weather",
        payload={"metrics": {"temp_max": temperature}, "message_id": name},
        first_sent_at=at,
    )


def garbage(body: bytes, tenant: str = "acme") -> Sent:
    return sent_garbage(tenant=tenant, topic=f"tenant/{tenant}/device/d/weather", body=body, first_sent_at=100.0)


def row(sent: Sent) -> StoredRow:
    return StoredRow(entry=sent.entry, tenant=sent.tenant, topic=sent.topic, digest=digest_of(sent.payload))


def receipt(sent: Sent, name: str = "healthy", at: float = 101.0, **more: Any) -> Receipt:
    return Receipt(address=f"{sent.tenant}/{name}", entry=sent.entry, at=at, **more)


def books(*sent: Sent, destinations: tuple[Destination, ...] | None = None) -> Books:
    """Everything was acknowledged, kept where it belongs, and delivered once to the healthy route."""
    good = [each for each in sent if each.payload is not None]
    bad = [each for each in sent if each.payload is None]
    return Books(
        sendings=Sendings(
            attempted={each.entry: each for each in sent}, acknowledged={each.entry: 100.5 for each in sent}
        ),
        destinations=destinations or (destination(),),
        receipts=[receipt(each) for each in good],
        holdings=Holdings(
            stored=[row(each) for each in good], quarantined=frozenset((each.tenant, each.entry) for each in bad)
        ),
    )


def holding(whole: Books, **changes: Any) -> Books:
    """Return the books with other holdings."""
    return replace(whole, holdings=replace(whole.holdings, **changes))
