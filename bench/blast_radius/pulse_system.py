"""Pulse as it is shipped: the embedded stack, fsync at every commit, default settings."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import aiohttp

from blast_radius.systems import Account
from blast_radius.world import TYPE, Strand, tenants
from pulse_bus.api import api_request
from pulse_bus.connection import Connection, connect
from pulse_cli.control import open_control
from pulse_cli.embedded.folder import DataFolder
from pulse_cli.embedded.plan import embedded_stack
from pulse_cli.embedded.stack import EmbeddedStack
from pulse_cli.ledger.holdings import read_holdings
from pulse_cli.target import find_target
from pulse_contracts.ids import TenantId
from pulse_contracts.topology import DEAD_LETTER_WRITER, DEADLETTER, ROUTER, SIDING, STORE, deliver_consumer
from pulse_control.context import Actor, Control
from pulse_control.devices import create_devices
from pulse_control.route_input import RouteInput
from pulse_control.routes import create_route
from pulse_control.tenants import create_tenant

POLICY: Final[Mapping[str, object]] = {"backoff": {"cap_s": 8}}
"""The default but for its cap of five minutes: a round is too short to reach either, and what follows need not wait."""
_ACTOR: Final = Actor("bench")
_SETTLES_WITHIN_S: Final = 120.0
_READY_WITHIN_S: Final = 60.0
_LOOK_S: Final = 0.2
_CONSUMERS: Final = (STORE, ROUTER, deliver_consumer("webhook"), DEAD_LETTER_WRITER)


class Pulse:
    """All of Pulse on this machine."""

    name = "pulse"

    def __init__(
        self,
        stack: EmbeddedStack,
        bus: Connection,
        control: Control,
        strands: Sequence[Strand],
        session: aiohttp.ClientSession,
    ) -> None:
        self._stack = stack
        self._bus = bus
        self._control = control
        self.strands = strands
        self._session = session

    @property
    def url(self) -> str:
        return self._stack.addresses.http.url("http")

    def pids(self) -> Mapping[str, int]:
        return {name: self._stack.pid(name) for name in ("ingest", "router", "delivery", "nats")}

    async def settle(self, heal: Callable[[], Awaitable[None]]) -> None:
        await heal()
        async with asyncio.timeout(_SETTLES_WITHIN_S):
            while not await self._is_idle():
                await asyncio.sleep(_LOOK_S)

    async def account(self) -> Account:
        holdings = await read_holdings(self._control.pool, self._bus, [TenantId(t) for t in tenants(self.strands)])
        return Account(
            dead_lettered=frozenset(message for _, (message, _) in holdings.dead_lettered),
            waiting=frozenset(message for message, _ in holdings.undelivered | holdings.set_aside | holdings.unfiled)
            | holdings.unrouted,
        )

    async def until_routed(self) -> None:
        """Return when the router knows the route of every strand."""
        async with asyncio.timeout(_READY_WITHIN_S):
            while await self._metric("router", "pulse_router_routes") != len(self.strands):
                await asyncio.sleep(_LOOK_S)

    async def _is_idle(self) -> bool:
        for spec in _CONSUMERS:
            info = await api_request(self._bus, f"CONSUMER.INFO.{spec.stream}.{spec.name}")
            if info["num_pending"] or info["num_ack_pending"]:
                return False
        for stream in (SIDING, DEADLETTER):
            if (await api_request(self._bus, f"STREAM.INFO.{stream.name}"))["state"]["messages"]:
                return False
        figures = ("pulse_delivery_turns_in_use", "pulse_delivery_slots_in_use")
        return not any([await self._metric("delivery", name) for name in figures])

    async def _metric(self, service: str, name: str) -> float:
        async with self._session.get(self._stack.addresses.metrics[service]) as answer:
            text = await answer.text()
        return next(float(line.split(" ")[1]) for line in text.splitlines() if line.startswith(f"{name} "))


@asynccontextmanager
async def open_pulse(data: Path, strands: Sequence[Strand]) -> AsyncGenerator[Pulse, None]:
    """Yield Pulse on the empty folder *data*, with a route for each strand."""
    async with (
        DataFolder(data) as folder,
        embedded_stack(folder) as stack,
        open_control(target := find_target(data)) as control,
        connect(target.bus) as bus,
        aiohttp.ClientSession() as session,
    ):
        pulse = Pulse(stack, bus, control, await _set_up(control, strands), session)
        await pulse.until_routed()
        yield pulse


async def _set_up(control: Control, strands: Sequence[Strand]) -> list[Strand]:
    """Make tenants, devices and routes; returns the strands with their devices' tokens."""
    made: list[Strand] = []
    for tenant, own in tenants(strands).items():
        await create_tenant(control, tenant, None, _ACTOR)
        tokens = await create_devices(control, tenant, [strand.device for strand in own], _ACTOR)
        for strand, device in zip(own, tokens, strict=True):
            await create_route(control, tenant, _route(strand), _ACTOR)
            made.append(replace(strand, token=device.token))
    return sorted(made, key=lambda strand: strand.index)


def _route(strand: Strand) -> RouteInput:
    return RouteInput(
        name=strand.device,
        topic_filter=f"tenant/{strand.tenant}/device/{strand.device}/{TYPE}",
        kind="webhook",
        config={"url": strand.url},
        policy=POLICY,
    )
