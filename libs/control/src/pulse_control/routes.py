"""Routes: making, changing, listing, showing, enabling, deleting."""

import base64
import secrets as random_secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, cast

from pulse_contracts.ids import RouteId, new_route_id
from pulse_contracts.kinds import KindDescriptor
from pulse_contracts.routes import Route
from pulse_control.context import Actor, Control
from pulse_control.errors import ControlRefused, NotFound
from pulse_control.route_input import RouteInput, check_route
from pulse_control.tenants import known_tenant
from pulse_storage import routes
from pulse_storage.routes import RouteNameTaken, StoredRoute, TooManyRoutes
from pulse_storage.sealing import SecretsUnreadable

_SECRET_BYTES: Final = 32
_MOST_SECRETS: Final = 2
"""Signatures with the new and the old secret while one rotates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRoute:
    """A route just made. The signing secret, if its kind signs, is shown this once."""

    route: Route
    secret: str | None


async def create_route(control: Control, tenant: str, wanted: RouteInput, actor: Actor) -> NewRoute:
    """Make a route; raises `ControlRefused`."""
    owner = await known_tenant(control, tenant)
    descriptor = check_route(control, owner, wanted)
    secret = new_signing_secret() if descriptor.signs else None
    public, hidden = _split(descriptor, wanted.config)
    route = Route(
        route_id=new_route_id(),
        tenant_id=owner,
        name=wanted.name,
        revision=1,
        topic_filter=wanted.topic_filter,
        payload_filter=wanted.payload_filter,
        expression=wanted.expression,
        kind=wanted.kind,
        config=public,
    )
    if secret:
        hidden["signing"] = [secret]
    stored = _seal(control, route, hidden)
    try:
        await routes.create(control.pool, stored, dict(wanted.policy or {}), actor)
    except RouteNameTaken as exc:
        raise ControlRefused("name", str(exc)) from exc
    except TooManyRoutes as exc:
        raise ControlRefused("tenant_id", str(exc)) from exc
    return NewRoute(route=route, secret=secret)


async def update_route(control: Control, tenant: str, key: str, changes: Mapping[str, object], actor: Actor) -> int:
    """Change members of a route (those of `RouteInput`); returns the new revision; raises `ControlRefused`.

    Configuration (secrets included) and policy are patched, see `apply_changes`; everything else is replaced.
    """
    if not changes:
        raise ControlRefused("route", "nothing to change was given")
    stored = await find_route(control, tenant, key)
    route, hidden = stored.route, _open(control, stored)
    policy = await routes.policy_text(control.pool, route.tenant_id, route.route_id)
    present = RouteInput(
        name=route.name,
        topic_filter=route.topic_filter,
        kind=route.kind,
        config={**route.config, **{name: value for name, value in hidden.items() if name != "signing"}},
        payload_filter=route.payload_filter,
        expression=route.expression,
        policy=policy,
    )
    wanted = apply_changes(present, changes)
    descriptor = check_route(control, route.tenant_id, wanted)
    public, changed = _split(descriptor, wanted.config)
    if "signing" in hidden:
        changed["signing"] = hidden["signing"]
    edited = replace(
        route,
        name=wanted.name,
        topic_filter=wanted.topic_filter,
        payload_filter=wanted.payload_filter,
        expression=wanted.expression,
        config=public,
    )
    return await _store(control, _seal(control, edited, changed), dict(wanted.policy or {}), actor, "route.update")


def apply_changes(present: RouteInput, changes: Mapping[str, object]) -> RouteInput:
    """Return the route as wanted.

    Configuration and policy are merged into the present ones as RFC 7396 says: what is not named stays, null removes.
    """
    patched = {
        name: merged(getattr(present, name) or {}, cast("Mapping[str, object]", changes[name]))
        for name in ("config", "policy")
        if name in changes
    }
    return replace(present, **{**changes, **patched})


def merged(present: Mapping[str, object], patch: Mapping[str, object]) -> dict[str, object]:
    """Return *present* with a JSON merge patch (RFC 7396) applied to it."""
    result = dict(present)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping):
            before = result.get(name)
            inner = cast("Mapping[str, object]", before if isinstance(before, Mapping) else {})
            result[name] = merged(inner, cast("Mapping[str, object]", value))
        else:
            result[name] = value
    return result


async def set_route_enabled(control: Control, tenant: str, key: str, actor: Actor, *, enabled: bool) -> int:
    """Enable a route, or park it: its messages wait in the siding; returns the new revision."""
    stored = await find_route(control, tenant, key)
    edited = replace(stored, route=replace(stored.route, enabled=enabled))
    return await _restore(control, edited, actor, "route.enable" if enabled else "route.disable")


async def delete_route(control: Control, tenant: str, key: str, actor: Actor) -> None:
    """Put up the route's tombstone: what waits for it becomes dead letters."""
    stored = await find_route(control, tenant, key)
    await _restore(control, replace(stored, route=replace(stored.route, deleted=True)), actor, "route.delete")


async def list_routes(control: Control, tenant: str) -> list[StoredRoute]:
    """Return the tenant's routes by name."""
    return await routes.list_of_tenant(control.pool, await known_tenant(control, tenant))


async def find_route(control: Control, tenant: str, key: str) -> StoredRoute:
    """Return a tenant's route by id or, if no id is like that, by name; raises `NotFound`, whoever else may own it."""
    listed = await list_routes(control, tenant)
    by_name = {stored.route.name: stored for stored in listed}
    by_id: dict[str, StoredRoute] = {stored.route.route_id: stored for stored in listed}
    found = by_id.get(key) or by_name.get(key)
    if found is None:
        raise NotFound("route", f"tenant {tenant} has no route {key!r}")
    return found


def shown_config(control: Control, stored: StoredRoute) -> dict[str, object]:
    """Return a route's configuration with a mask for each secret that it has; secrets that no key opens say so."""
    descriptor = control.kinds.get(stored.route.kind)
    if descriptor is None:
        return {}
    try:
        return descriptor.masked(stored.route.config, _open(control, stored))
    except ControlRefused:
        unreadable = {field.name: "unreadable" for field in descriptor.fields if field.secret}
        return {**descriptor.masked(stored.route.config), **unreadable}


async def route_policy(control: Control, route: Route) -> dict[str, object]:
    """Return the policy as the tenant wrote it; what it leaves out has the defaults."""
    return await routes.policy_text(control.pool, route.tenant_id, route.route_id)


async def signing_secrets(control: Control, tenant: str, key: str) -> list[str]:
    """Return the route's signing secrets, the newest first; raises `NotFound` if its kind does not sign."""
    stored = await find_route(control, tenant, key)
    found = cast("list[str]", _open(control, stored).get("signing", []))
    if not found:
        raise NotFound("route", f"routes of kind {stored.route.kind} have no signing secret")
    return found


async def rotate_signing_secret(control: Control, tenant: str, key: str, actor: Actor) -> str:
    """Make a new signing secret and return it; the one before still signs too, until the next rotation."""
    stored = await find_route(control, tenant, key)
    hidden = _open(control, stored)
    if not hidden.get("signing"):
        raise NotFound("route", f"routes of kind {stored.route.kind} have no signing secret")
    secret = new_signing_secret()
    hidden["signing"] = [secret, *cast("list[str]", hidden["signing"])][:_MOST_SECRETS]
    await _restore(control, _seal(control, stored.route, hidden), actor, "route.secret.rotate")
    return secret


def new_signing_secret() -> str:
    """Return ``whsec_`` and 32 random bytes in base64, as Standard Webhooks asks."""
    return "whsec_" + base64.b64encode(random_secrets.token_bytes(_SECRET_BYTES)).decode()


async def _restore(control: Control, stored: StoredRoute, actor: Actor, action: str) -> int:
    policy = await routes.policy_text(control.pool, stored.route.tenant_id, RouteId(stored.route.route_id))
    return await _store(control, stored, policy, actor, action)


async def _store(control: Control, stored: StoredRoute, policy: dict[str, object], actor: Actor, action: str) -> int:
    try:
        revision = await routes.update(control.pool, stored, policy, actor=actor, action=action)
    except RouteNameTaken as exc:
        raise ControlRefused("name", str(exc)) from exc
    if revision is None:
        raise ControlRefused("route", "somebody else changed or deleted it meanwhile: look at it and try again")
    return revision


def _split(descriptor: KindDescriptor, config: Mapping[str, object]) -> tuple[dict[str, object], dict[str, object]]:
    """Part a configuration into what may be seen and what is kept encrypted."""
    secret = {field.name for field in descriptor.fields if field.secret}
    public = {name: value for name, value in config.items() if name not in secret}
    return public, {name: value for name, value in config.items() if name in secret}


def _seal(control: Control, route: Route, hidden: Mapping[str, object]) -> StoredRoute:
    sealed = control.keys.seal(route.tenant_id, route.route_id, hidden) if hidden else None
    return StoredRoute(route=route, secrets=sealed)


def _open(control: Control, stored: StoredRoute) -> dict[str, object]:
    try:
        return control.keys.open(stored.route.tenant_id, stored.route.route_id, stored.secrets)
    except SecretsUnreadable as exc:
        raise ControlRefused("PULSE_SECRET_KEYS", str(exc)) from exc
