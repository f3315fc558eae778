"""Builders of rows and records for two tenants."""

import json
from datetime import UTC, datetime
from uuid import NAMESPACE_DNS, uuid5

from pulse_contracts.envelope import Envelope
from pulse_contracts.ids import DeviceId, MessageId, RouteId, TenantId, new_message_id
from pulse_contracts.records import DeadLetterRecord
from pulse_contracts.routes import Route
from pulse_storage.pool import Connection
from pulse_storage.routes import StoredRoute

ACME, GLOBEX = TenantId("acme"), TenantId("globex")
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
ROUTE_IDS = {tenant: RouteId(str(uuid5(NAMESPACE_DNS, tenant))) for tenant in (ACME, GLOBEX)}

INSERTS = {
    "tenants": "INSERT INTO tenants VALUES ($1, 'name', sha256($1::text::bytea), 'bcrypt')",
    "devices": "INSERT INTO devices VALUES ($1, 'd1', sha256(('d1' || $1)::bytea), 'bcrypt')",
    "message_routes": (
        "INSERT INTO message_routes (tenant_id, route_id, name, topic_filter, kind, config) "
        "VALUES ($1, gen_random_uuid(), 'r1', '#', 'webhook', '{}')"
    ),
    "route_revisions": (
        "INSERT INTO route_revisions (tenant_id, route_id, revision, definition) "
        "SELECT $1, route_id, 7, '{}' FROM message_routes WHERE tenant_id = $1 LIMIT 1"
    ),
    "route_generations": "INSERT INTO route_generations VALUES ($1, 1)",
    "judgements": "INSERT INTO judgements VALUES ($1, now(), gen_random_uuid(), 1, ARRAY[gen_random_uuid()])",
    "telemetry": (
        "INSERT INTO telemetry VALUES ($1, 'd1', now(), gen_random_uuid(), 't', 'tenant/x/device/d1/t', '{}', now())"
    ),
    "message_ids": "INSERT INTO message_ids VALUES ($1, gen_random_uuid())",
    "quarantine": "INSERT INTO quarantine VALUES ($1, gen_random_uuid(), 't', 'r', 'e', 'x', now())",
    "dead_letter_messages": (
        "INSERT INTO dead_letter_messages (tenant_id, message_id, route_id, device_id, original_topic, payload, "
        "destination_type, destination_config, reason, error_message, attempts, created_at) VALUES "
        "($1, gen_random_uuid(), gen_random_uuid(), 'd1', 't', '{}', 'webhook', '{}', 'r', 'e', 1, now())"
    ),
    "delivery_log": (
        "INSERT INTO delivery_log VALUES "
        "($1, gen_random_uuid(), gen_random_uuid(), 1, 1, 'delivered', 200, NULL, 1.0, now())"
    ),
    "admin_log": "INSERT INTO admin_log VALUES ($1, gen_random_uuid(), 'me', 'did', 'it')",
}
"""One statement a table that adds a row of the tenant $1."""


async def add_tenants(owner: Connection) -> None:
    for tenant in (ACME, GLOBEX):
        await owner.execute(INSERTS["tenants"], tenant)


def envelope(
    *,
    tenant: TenantId = ACME,
    message_id: MessageId | None = None,
    time: datetime = NOON,
    supplied_id: bool = False,
    payload: bytes = b'{"metrics":{"t":21.5}}',
) -> Envelope:
    return Envelope(
        message_id=message_id or new_message_id(),
        tenant_id=tenant,
        device_id=DeviceId("d1"),
        type="t",
        topic=f"tenant/{tenant}/device/d1/t",
        time=time,
        received_at=time,
        supplied_id=supplied_id,
        traceparent=None,
        payload=payload,
    )


def dead_letter(*, tenant: TenantId = ACME, error: str = "status 404") -> DeadLetterRecord:
    return DeadLetterRecord(
        route_id=ROUTE_IDS[tenant],
        kind="webhook",
        config={"url": "https://example.com/"},
        reason="status_404",
        error=error,
        attempts=1,
        created_at=NOON,
        envelope=envelope(tenant=tenant),
    )


def stored_route(*, tenant: TenantId = ACME, name: str = "alarms", revision: int = 1) -> StoredRoute:
    route = Route(
        route_id=ROUTE_IDS[tenant],
        tenant_id=tenant,
        name=name,
        revision=revision,
        topic_filter=f"tenant/{tenant}/#",
        payload_filter=json.loads('{"t": {"$gt": 80}}'),
        expression=None,
        kind="webhook",
        config={"url": "https://example.com/"},
    )
    return StoredRoute(route=route, secrets=None)
