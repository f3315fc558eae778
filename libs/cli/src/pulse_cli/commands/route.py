"""``pulse route``."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer

from pulse_bus.connection import connect
from pulse_cli.control import actor, open_control
from pulse_cli.lazy import command_app
from pulse_cli.options import Data, Json, Tenant
from pulse_cli.output import emit
from pulse_cli.running import read_json_option, run
from pulse_cli.target import find_target
from pulse_control import route_state, routes
from pulse_control.context import Control
from pulse_control.errors import ControlRefused
from pulse_control.route_input import RouteInput
from pulse_storage.routes import StoredRoute

app = command_app("Routes: which messages go where.")
secret_app = command_app("Signing secrets of webhooks.")
app.add_typer(secret_app, name="secret")

RouteKey = Annotated[str, typer.Argument(metavar="ROUTE", help="Route id or name.")]
PayloadFilter = Annotated[str | None, typer.Option("--payload-filter", help="JSON object; see the guide on filters.")]
Expression = Annotated[str | None, typer.Option("--expression", help="CEL expression, as an alternative.")]
Webhook = Annotated[str | None, typer.Option("--webhook", metavar="URL", help="Deliver to this URL.")]
MqttTopic = Annotated[str | None, typer.Option("--mqtt-topic", metavar="TOPIC", help="Republish to this topic.")]
Kind = Annotated[str | None, typer.Option("--kind", help="Any installed kind, with --config.")]
Config = Annotated[str | None, typer.Option("--config", help="JSON object: the kind's fields.")]
Policy = Annotated[str | None, typer.Option("--policy", help="JSON object: deadline_s, backoff, max_age_s, rate, …")]


@app.command("create")
def create(  # noqa: PLR0917 - typer's options are the parameters
    tenant: Tenant,
    name: Annotated[str, typer.Option(help="Name, unique within the tenant.")],
    topic_filter: Annotated[str, typer.Option("--topic-filter", help="MQTT topic filter over the original topics.")],
    payload_filter: PayloadFilter = None,
    expression: Expression = None,
    webhook: Webhook = None,
    mqtt_topic: MqttTopic = None,
    kind: Kind = None,
    config: Config = None,
    policy: Policy = None,
    data: Data = None,
    *,
    as_json: Json = False,
) -> None:
    """Make a route; prints its id and, once, its signing secret."""

    async def work(control: Control) -> object:
        chosen, fields = _destination(webhook, mqtt_topic, kind, config)
        if chosen is None:
            raise ControlRefused("destination", "give one of --webhook, --mqtt-topic, or --kind with --config")
        wanted = RouteInput(
            name=name,
            topic_filter=topic_filter,
            kind=chosen,
            config=fields,
            payload_filter=read_json_option("payload_filter", payload_filter),
            expression=expression,
            policy=read_json_option("policy", policy),
        )
        made = await routes.create_route(control, tenant, wanted, actor())
        return {"route_id": made.route.route_id, "name": name, "secret": made.secret}

    _control(work, data, as_json=as_json)


@app.command("update")
def update(  # noqa: PLR0917 - typer's options are the parameters
    route: RouteKey,
    tenant: Tenant,
    name: Annotated[str | None, typer.Option(help="New name.")] = None,
    topic_filter: Annotated[str | None, typer.Option("--topic-filter", help="New topic filter.")] = None,
    payload_filter: PayloadFilter = None,
    expression: Expression = None,
    webhook: Webhook = None,
    mqtt_topic: MqttTopic = None,
    config: Config = None,
    policy: Policy = None,
    data: Data = None,
    *,
    no_payload_filter: Annotated[bool, typer.Option("--no-payload-filter", help="Remove the payload filter.")] = False,
    no_expression: Annotated[bool, typer.Option("--no-expression", help="Remove the expression.")] = False,
    as_json: Json = False,
) -> None:
    """Change what is given of a route; the rest stays, also within --config and --policy, where null removes."""

    async def work(control: Control) -> object:
        changes: dict[str, Any] = {
            "name": name,
            "topic_filter": topic_filter,
            "payload_filter": read_json_option("payload_filter", payload_filter),
            "expression": expression,
            "policy": read_json_option("policy", policy),
        }
        removed = [key for key, gone in (("payload_filter", no_payload_filter), ("expression", no_expression)) if gone]
        for key in removed:
            if changes[key] is not None:
                raise ControlRefused(key, "give a new one or remove it, not both")
        kind, fields = _destination(webhook, mqtt_topic, None, config)
        stored = await routes.find_route(control, tenant, route)
        if kind is not None and kind != stored.route.kind:
            raise ControlRefused("kind", f"the route's kind is {stored.route.kind}; a kind cannot be changed")
        if fields:
            changes["config"] = fields
        given = {key: value for key, value in changes.items() if value is not None or key in removed}
        return {"revision": await routes.update_route(control, tenant, route, given, actor())}

    _control(work, data, as_json=as_json)


@app.command("list")
def list_(tenant: Tenant, data: Data = None, *, as_json: Json = False) -> None:
    """List a tenant's routes."""

    async def work(control: Control) -> object:
        return [_summary(control, stored) for stored in await routes.list_routes(control, tenant)]

    _control(work, data, as_json=as_json)


@app.command("show")
def show(route: RouteKey, tenant: Tenant, data: Data = None, *, as_json: Json = False) -> None:
    """Show a route and where its messages are: on the fast lane or in the siding, since when and why."""

    async def work() -> None:
        target = find_target(data)
        async with open_control(target) as control, connect(target.bus) as bus:
            stored = await routes.find_route(control, tenant, route)
            policy = await routes.route_policy(control, stored.route)
            state = await route_state.route_state(bus, stored.route)
            emit({**_summary(control, stored), "policy": policy, "state": state}, as_json=as_json)

    run(work())


@app.command("enable")
def enable(route: RouteKey, tenant: Tenant, data: Data = None, *, as_json: Json = False) -> None:
    """Deliver again what waited while the route was disabled."""
    _set_enabled(route, tenant, data, enabled=True, as_json=as_json)


@app.command("disable")
def disable(route: RouteKey, tenant: Tenant, data: Data = None, *, as_json: Json = False) -> None:
    """Park a route: its messages wait in the siding."""
    _set_enabled(route, tenant, data, enabled=False, as_json=as_json)


@app.command("delete")
def delete(route: RouteKey, tenant: Tenant, data: Data = None, *, as_json: Json = False) -> None:
    """Delete a route; what still waits for it becomes dead letters."""

    async def work(control: Control) -> object:
        await routes.delete_route(control, tenant, route, actor())
        return {"route": route, "deleted": True}

    _control(work, data, as_json=as_json)


@secret_app.command("show")
def show_secret(route: RouteKey, tenant: Tenant, data: Data = None, *, as_json: Json = False) -> None:
    """Show the signing secrets, the newest first."""

    async def work(control: Control) -> object:
        return {"secrets": await routes.signing_secrets(control, tenant, route)}

    _control(work, data, as_json=as_json)


@secret_app.command("rotate")
def rotate_secret(route: RouteKey, tenant: Tenant, data: Data = None, *, as_json: Json = False) -> None:
    """Make a new signing secret; the one before signs too until the next rotation."""

    async def work(control: Control) -> object:
        return {"secret": await routes.rotate_signing_secret(control, tenant, route, actor())}

    _control(work, data, as_json=as_json)


def _control(work: Callable[[Control], Awaitable[object]], data: Data, *, as_json: bool) -> None:
    async def body() -> None:
        async with open_control(find_target(data)) as control:
            emit(await work(control), as_json=as_json)

    run(body())


def _set_enabled(route: str, tenant: str, data: Data, *, enabled: bool, as_json: bool) -> None:
    async def work(control: Control) -> object:
        revision = await routes.set_route_enabled(control, tenant, route, actor(), enabled=enabled)
        return {"route": route, "enabled": enabled, "revision": revision}

    _control(work, data, as_json=as_json)


def _destination(
    webhook: str | None, mqtt_topic: str | None, kind: str | None, config: str | None
) -> tuple[str | None, dict[str, Any]]:
    """Return kind and configuration from the short forms or the long one; raises `ControlRefused` for two at once."""
    if sum(value is not None for value in (webhook, mqtt_topic, kind)) > 1:
        raise ControlRefused("destination", "give only one of --webhook, --mqtt-topic and --kind")
    fields = read_json_option("config", config) or {}
    if webhook is not None:
        return "webhook", {**fields, "url": webhook}
    if mqtt_topic is not None:
        return "mqtt_republish", {**fields, "topic": mqtt_topic}
    return kind, fields


def _summary(control: Control, stored: StoredRoute) -> dict[str, Any]:
    route = stored.route
    return {
        "route_id": route.route_id,
        "name": route.name,
        "kind": route.kind,
        "config": routes.shown_config(control, stored),
        "topic_filter": route.topic_filter,
        "payload_filter": route.payload_filter,
        "expression": route.expression,
        "enabled": route.enabled,
        "revision": route.revision,
    }
