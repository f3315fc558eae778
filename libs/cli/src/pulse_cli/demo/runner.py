"""Runs the demo from an empty folder to a balanced ledger."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pulse_bus.connection import Connection, connect
from pulse_bus.errors import BusError
from pulse_cli.control import open_control
from pulse_cli.demo.fleet import Fleet
from pulse_cli.demo.receivers import Receivers, address_of, open_receivers, subscribe
from pulse_cli.demo.scenario import Scenario, set_up
from pulse_cli.demo.series import load_series
from pulse_cli.demo.view import Glance, View, open_view
from pulse_cli.embedded.folder import DataFolder
from pulse_cli.embedded.logins import sync_logins
from pulse_cli.embedded.plan import embedded_stack
from pulse_cli.ledger.balance import Ledger, balance
from pulse_cli.ledger.facts import Address, Books, Destination
from pulse_cli.ledger.holdings import read_holdings
from pulse_cli.target import find_target
from pulse_control.context import Control
from pulse_control.route_state import RouteState, route_state

_GLANCE_S: Final = 1.0
_SETTLE_S: Final = 45.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The parts of a run in progress."""

    control: Control
    bus: Connection
    scenario: Scenario
    receivers: Receivers
    fleet: Fleet
    view: View
    started: float

    async def look(self) -> tuple[Ledger, bool]:
        """Balance the books as they are now; tells also whether nothing is on its way any more."""
        books = Books(
            sendings=self.fleet.sendings,
            destinations=[
                Destination(route=route, addresses=(Address(name=address_of(route.tenant_id, route.name)),))
                for route in self.scenario.routes
            ],
            receipts=self.receivers.receipts,
            holdings=await read_holdings(self.control.pool, self.bus, self.scenario.keys),
        )
        return balance(books), books.holdings.is_idle

    async def states(self) -> dict[str, RouteState]:
        return {route.route_id: await route_state(self.bus, route) for route in self.scenario.routes}


async def run_demo(data: Path, seconds: float) -> Ledger:
    """Start everything below *data*, send for *seconds*, settle, and return the ledger. Nothing is left running."""
    async with (
        DataFolder(data) as folder,
        embedded_stack(folder) as stack,
        open_receivers() as receivers,
        open_control(target := find_target(data)) as control,
        connect(target.bus) as bus,
        open_view() as view,
    ):
        scenario = await set_up(control, receivers)
        await sync_logins(control, folder)
        addresses = stack.addresses
        broker = (addresses.mqtt.host, addresses.mqtt.port)
        fleet = Fleet(scenario.devices, load_series(), addresses.http.url("http"), broker)
        run = Run(
            control=control,
            bus=bus,
            scenario=scenario,
            receivers=receivers,
            fleet=fleet,
            view=view,
            started=time.monotonic(),
        )
        return await _play(run, broker, seconds)


async def _play(run: Run, broker: tuple[str, int], seconds: float) -> Ledger:
    subscribed = asyncio.Event()
    subscriber = asyncio.create_task(
        subscribe(run.receivers, broker, run.scenario.keys, subscribed), name="demo.subscriber"
    )
    watcher = asyncio.create_task(_watch(run), name="demo.watch")
    try:
        await asyncio.wait_for(subscribed.wait(), 10)
        await run.fleet.run(seconds)
        return await _settle(run)
    finally:
        for task in (watcher, subscriber):
            task.cancel()
        await asyncio.gather(watcher, subscriber, return_exceptions=True)


async def _settle(run: Run) -> Ledger:
    """Wait until no stream holds anything, at most 45 s; what still waits then is in the ledger as waiting."""
    deadline = time.monotonic() + _SETTLE_S
    idle = 0
    while True:
        ledger, is_idle = await run.look()
        idle = idle + 1 if is_idle else 0
        if idle > 1 or time.monotonic() > deadline:
            return ledger
        await asyncio.sleep(_GLANCE_S / 2)


async def _watch(run: Run) -> None:
    before, sent, delivered = time.monotonic(), 0, 0
    while True:
        await asyncio.sleep(_GLANCE_S)
        try:
            ledger, _ = await run.look()
            states = await run.states()
        except BusError:
            continue
        now = time.monotonic()
        span = now - before
        glance = Glance(
            elapsed_s=now - run.started,
            sent_per_s=(ledger.accepted - sent) / span,
            delivered_per_s=(ledger.delivered - delivered) / span,
            ledger=ledger,
            routes=run.scenario.routes,
            states=states,
        )
        before, sent, delivered = now, ledger.accepted, ledger.delivered
        run.view.show(glance)
