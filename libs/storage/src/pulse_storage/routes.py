"""The table ``message_routes``: its rows, and changing one tenant's part as its operator."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from pulse_contracts.ids import RouteId, TenantId
from pulse_contracts.routes import Route, parse_policy
from pulse_storage.errors import translated_transaction
from pulse_storage.pool import Connection, Pool
from pulse_storage.queries import sql

CHANNEL = "pulse_routes"
MAX_ROUTES: Final = 1000
"""Of one tenant, so that the matches of one message fit one atomic batch."""


class RouteNameTaken(Exception):
    """Another route of the tenant has this name."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"a route named {name!r} exists already")


class TooManyRoutes(Exception):
    """The tenant has as many routes as it may have."""

    def __init__(self, most: int) -> None:
        self.most = most
        super().__init__(f"has {most} routes, and one message must not match more")


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedSecrets:
    """A route's secrets, encrypted, and which key opens them."""

    key_id: str
    ciphertext: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRoute:
    """A route with what only delivery and the operator may read."""

    route: Route
    secrets: SealedSecrets | None


async def list_of_tenant(pool: Pool, tenant: TenantId) -> list[StoredRoute]:
    """Return one tenant's routes that are not deleted, by name."""
    async with translated_transaction(pool, tenant) as connection:
        rows: Sequence[asyncpg.Record] = await connection.fetch(sql("routes_deliver"), None)
    return sorted((stored_route(row) for row in rows if not row["deleted"]), key=lambda stored: stored.route.name)


async def create(
    pool: Pool, stored: StoredRoute, policy: dict[str, object], actor: str, *, most: int = MAX_ROUTES
) -> None:
    """Insert a route and its first revision; raises `RouteNameTaken`, or `TooManyRoutes` beyond *most* of them."""
    route = stored.route
    async with translated_transaction(pool, route.tenant_id) as connection:
        try:
            await connection.execute(
                sql("route_create"),
                route.tenant_id,
                route.route_id,
                route.name,
                route.topic_filter,
                route.payload_filter,
                route.expression,
                route.kind,
                dict(route.config),
                policy,
                *_sealed(stored.secrets),
            )
        except asyncpg.UniqueViolationError as exc:
            raise RouteNameTaken(route.name) from exc
        # Counted after the insert: it waits for the tenant's generation, so nobody else's can come in between.
        present: int = await connection.fetchval("SELECT count(*) FROM message_routes WHERE deleted_at IS NULL")
        if present > most:
            raise TooManyRoutes(most)
        await record_change(connection, route, actor, "route.create")


async def update(pool: Pool, stored: StoredRoute, policy: dict[str, object], *, actor: str, action: str) -> int | None:
    """Replace a route at its revision and record the next one, which is returned; None if it is at another by now.

    Raises `RouteNameTaken`.
    """
    route = stored.route
    async with translated_transaction(pool, route.tenant_id) as connection:
        try:
            revision: int | None = await connection.fetchval(
                sql("route_update"),
                route.tenant_id,
                route.route_id,
                route.name,
                route.topic_filter,
                route.payload_filter,
                route.expression,
                dict(route.config),
                policy,
                route.enabled,
                *_sealed(stored.secrets),
                route.deleted,
                route.revision,
            )
        except asyncpg.UniqueViolationError as exc:
            raise RouteNameTaken(route.name) from exc
        if revision is not None:
            await record_change(connection, route, actor, action)
    return revision


async def record_change(connection: Connection, route: Route, actor: str, action: str) -> None:
    """Keep the route as it is now, and who made it so, in the same transaction."""
    await connection.execute(sql("route_revision_record"), route.tenant_id, route.route_id)
    await connection.execute(sql("admin_log_add"), route.tenant_id, actor, action, route.route_id)


async def policy_text(pool: Pool, tenant: TenantId, route_id: RouteId) -> dict[str, object]:
    """Return the policy as the tenant wrote it."""
    async with translated_transaction(pool, tenant) as connection:
        value = await connection.fetchval(
            "SELECT policy FROM message_routes WHERE tenant_id = $1 AND route_id = $2", tenant, route_id
        )
    return value or {}


def _sealed(secrets: SealedSecrets | None) -> tuple[bytes | None, str | None]:
    return (secrets.ciphertext, secrets.key_id) if secrets else (None, None)


def stored_route(row: asyncpg.Record) -> StoredRoute:
    """Read a row with its secrets; raises `InvalidPolicy`."""
    sealed = None
    if row["secrets"] is not None:
        sealed = SealedSecrets(key_id=row["secrets_key_id"], ciphertext=row["secrets"])
    return StoredRoute(route=matched_route(row), secrets=sealed)


def matched_route(row: asyncpg.Record) -> Route:
    """Read a row; raises `InvalidPolicy`."""
    return Route(
        route_id=RouteId(row["route_id"]),
        tenant_id=TenantId(row["tenant_id"]),
        name=row["name"],
        revision=row["revision"],
        topic_filter=row["topic_filter"],
        payload_filter=row["payload_filter"],
        expression=row["expression"],
        kind=row["kind"],
        config=row["config"],
        policy=parse_policy(row["policy"]),
        enabled=row["enabled"],
        enabled_at=row["enabled_at"],
        generation=row["generation"],
        deleted=row["deleted"],
    )
