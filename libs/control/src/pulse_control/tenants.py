"""Tenants: making and listing them."""

from dataclasses import dataclass
from typing import Final

from pulse_contracts.ids import InvalidIdentity, TenantId, tenant_id
from pulse_control.context import Actor, Control
from pulse_control.errors import ControlRefused, NotFound
from pulse_control.texts import check_name
from pulse_control.tokens import bcrypt_of, new_token, sha256_of
from pulse_storage import tenants
from pulse_storage.tenants import TenantExists, TenantRow

_MAX_NAME_CHARS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTenant:
    """A tenant just made. The key is shown this once."""

    tenant_id: TenantId
    ingest_key: str


async def create_tenant(control: Control, text: str, name: str | None, actor: Actor) -> NewTenant:
    """Make a tenant with its ingest key; raises `ControlRefused`."""
    try:
        tenant = tenant_id(text)
    except InvalidIdentity as exc:
        raise ControlRefused(exc.field, exc.reason) from exc
    if name is not None:
        check_name("name", name, _MAX_NAME_CHARS)
    key = new_token("key")
    try:
        await tenants.create(
            control.pool,
            tenant,
            name=name or tenant,
            key_sha256=sha256_of(key),
            key_bcrypt=bcrypt_of(key),
            actor=actor,
        )
    except TenantExists as exc:
        raise ControlRefused("tenant_id", str(exc)) from exc
    return NewTenant(tenant_id=tenant, ingest_key=key)


async def list_tenants(control: Control) -> list[TenantRow]:
    """Return every tenant by id."""
    return await tenants.list_all(control.pool)


async def known_tenant(control: Control, text: str) -> TenantId:
    """Return the tenant of that id; raises `ControlRefused` for no id and `NotFound` for nobody's."""
    try:
        tenant = tenant_id(text)
    except InvalidIdentity as exc:
        raise ControlRefused(exc.field, exc.reason) from exc
    if tenant not in {row.tenant_id for row in await tenants.list_all(control.pool)}:
        raise NotFound("tenant_id", f"there is no tenant {tenant!r}")
    return tenant
