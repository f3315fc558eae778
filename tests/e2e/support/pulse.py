"""All of Pulse on real servers, and the ordinary ways to speak to it."""

import json
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from support.tenant import ACTOR, Device, Route, Tenant
from support.waiting import eventually

from pulse_bus.connection import Connection, connect
from pulse_bus.permissions import MQTT_CLIENT, SERVICES
from pulse_cli.control import after_login_change, open_control
from pulse_cli.embedded.folder import DataFolder, Secrets
from pulse_cli.embedded.plan import nats_users, prepare, services
from pulse_cli.embedded.stack import Addresses, EmbeddedStack, ServiceSpec
from pulse_cli.target import Target, find_target
from pulse_control import devices, routes, tenants
from pulse_control.context import Control
from pulse_control.route_input import RouteInput
from pulse_runtime.events import ROUTES_LOADED
from pulse_runtime.failpoints import VARIABLE as FAILPOINTS
from pulse_storage.migrate import SERVICE_ROLES

SERVICE_NAMES = ("ingest", "router", "delivery")


class Pulse:
    """A running stack. Tests share it and keep apart by their tenants."""

    def __init__(
        self, folder: DataFolder, stack: EmbeddedStack, variables: dict[str, str], control: Control, target: Target
    ) -> None:
        self.folder = folder
        self.stack = stack
        self.control = control
        self.variables = variables
        """What all services were told, beyond what a stack tells them."""
        self._target = target
        self._numbers = count(1)
        self._http = httpx.AsyncClient(base_url=stack.addresses.http.url("http"), timeout=10)

    @property
    def http(self) -> httpx.AsyncClient:
        """A client of ingest's HTTP edge."""
        return self._http

    @property
    def secrets(self) -> Secrets:
        """Of the services."""
        return service_secrets(self.folder)

    @property
    def mqtt(self) -> tuple[str, int]:
        endpoint = self.stack.addresses.mqtt
        return endpoint.host, endpoint.port

    async def tenant(self, name: str = "t") -> Tenant:
        """Make a tenant nobody else uses."""
        made = await tenants.create_tenant(self.control, f"{name}-{next(self._numbers)}", None, ACTOR)
        await self._sync()
        return Tenant(pulse=self, tenant_id=made.tenant_id, key=made.ingest_key)

    async def devices(self, tenant: Tenant, *names: str) -> list[Device]:
        """Make devices; they may connect when this returns."""
        made = await devices.create_devices(self.control, tenant.tenant_id, names, ACTOR)
        await self._sync()
        return [Device(tenant=tenant, device_id=device.device_id, token=device.token) for device in made]

    async def route(self, tenant: Tenant, wanted: RouteInput) -> Route:
        """Make a route and return when the router knows it, so that what is sent next is matched."""
        [made] = await self.routes((tenant, wanted))
        return made

    async def routes(self, *wanted: tuple[Tenant, RouteInput]) -> list[Route]:
        """Make many routes, and wait for the router once."""
        made = [
            (tenant, await routes.create_route(self.control, tenant.tenant_id, one, ACTOR)) for tenant, one in wanted
        ]
        await eventually(self._router_knows_all_routes, what="the router's table")
        return [
            Route(tenant=tenant, name=new.route.name, route_id=new.route.route_id, secret=new.secret or "")
            for tenant, new in made
        ]

    async def _router_knows_all_routes(self) -> bool:
        [row] = await self.rows("SELECT count(*) FROM message_routes WHERE deleted_at IS NULL")
        return await self.metric("router", "pulse_router_routes") == row["count"]

    async def after_reload(self, change: Awaitable[object]) -> None:
        """Carry out a change of a route and return when the router has read it; needs the log level debug.

        From then on its messages carry the new revision, and delivery looks that one up before it does anything.
        """
        before = len(self.log("router", ROUTES_LOADED))
        await change
        await eventually(lambda: len(self.log("router", ROUTES_LOADED)) > before, what="the router's reload")

    async def restart(self, service: str, **variables: str) -> None:
        """Restart a service in an orderly way, with these variables from now on."""
        self.variables.update(variables)
        await self.stack.restart(service)

    def log(self, service: str, event: str, **fields: object) -> list[dict[str, Any]]:
        """Return a service's events of that name that have these fields."""
        found: list[dict[str, Any]] = []
        # What follows the last end of a line may be half of one.
        for line in self.log_text(service).splitlines(keepends=True):
            if f'"{event}"' in line and line.startswith("{") and line.endswith("\n"):
                entry = json.loads(line)
                if entry.get("event") == event and all(entry.get(name) == value for name, value in fields.items()):
                    found.append(entry)
        return found

    def log_text(self, name: str) -> str:
        return (self.folder.logs / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    async def admin(self, service: str, path: str) -> httpx.Response:
        return await self._http.get(self.stack.addresses.admin[service].url("http", path))

    async def metric(self, service: str, name: str) -> float:
        """Return a metric without labels."""
        text = (await self.admin(service, "/metrics")).text
        return next(float(line.split(" ")[1]) for line in text.splitlines() if line.startswith(f"{name} "))

    async def metric_sum(self, service: str, name: str, *, but: str = "") -> float:
        """Return a metric over all its labels but those with *but* (``label="value"``) in them; 0 while it has none."""
        text = (await self.admin(service, "/metrics")).text
        lines = [line for line in text.splitlines() if line.startswith(f"{name}{{") and (not but or but not in line)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    async def rows(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Ask PostgreSQL as its superuser, who sees every tenant's rows."""
        connection = await asyncpg.connect(self._target.owner_url)
        try:
            return await connection.fetch(statement, *arguments)
        finally:
            await connection.close()

    @asynccontextmanager
    async def locked(self, table: str) -> AsyncGenerator[None, None]:
        """Let nobody else read or write a table."""
        connection = await asyncpg.connect(self._target.owner_url)
        try:
            async with connection.transaction():
                await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
                yield
        finally:
            await connection.close()

    @asynccontextmanager
    async def bus(self) -> AsyncGenerator[Connection, None]:
        """Yield a connection to NATS as the operator."""
        async with connect(self._target.bus) as connection:
            yield connection

    async def close(self) -> None:
        await self._http.aclose()

    async def _sync(self) -> None:
        await after_login_change(self._target)(self.control)


@asynccontextmanager
async def running(
    path: Path,
    *,
    only: Mapping[str, Mapping[str, str]] | None = None,
    edit: Callable[[ServiceSpec], ServiceSpec] = lambda service: service,
    durable: bool = True,
    **variables: str,
) -> AsyncGenerator[Pulse, None]:
    """Yield all of Pulse on *path*; every child has ended afterwards.

    *variables* go to all services that know them, *only* goes to one service each, *edit* may change how a service is
    run, and without *durable* no server fsyncs. Failpoints armed in our own environment are passed on: that is how
    each of these tests was seen failing.
    """
    if FAILPOINTS in os.environ:
        variables[FAILPOINTS] = os.environ[FAILPOINTS]
    async with DataFolder(path) as folder:
        secrets = service_secrets(folder)
        specs = [edit(_with_more(service, (only or {}).get(service.name, {}))) for service in services(variables)]
        stack = EmbeddedStack(folder, specs, nats_users=nats_users(secrets), prepare=prepare, durable=durable)
        async with stack:
            target = find_target(path)
            async with open_control(target) as control:
                pulse = Pulse(folder, stack, variables, control, target)
                try:
                    yield pulse
                finally:
                    await pulse.close()


def service_secrets(folder: DataFolder) -> Secrets:
    return folder.secrets(nats=[*SERVICES, *MQTT_CLIENT], postgres=SERVICE_ROLES)


def _with_more(service: ServiceSpec, more: Mapping[str, str]) -> ServiceSpec:
    def environment(addresses: Addresses, secrets: Secrets) -> dict[str, str]:
        return {**service.environment(addresses, secrets), **more}

    return replace(service, environment=environment)
