"""Runs the demo from an empty folder to a balanced ledger."""

import asyncio
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pulse_bus.connection import Connection, connect
from pulse_cli.control import open_control
from pulse_cli.demo.closing import AWAY, Closing, close, settled
from pulse_cli.demo.fleet import Fleet
from pulse_cli.demo.receivers import Receivers, address_of, open_receivers, subscribe
from pulse_cli.demo.scenario import DEAD, Scenario, set_up
from pulse_cli.demo.series import load_series
from pulse_cli.demo.view import Glance, picture_of
from pulse_cli.embedded.folder import DataFolder
from pulse_cli.embedded.logins import sync_logins
from pulse_cli.embedded.plan import embedded_stack
from pulse_cli.ledger.balance import balance, oldest_waiting_s
from pulse_cli.ledger.facts import Address, Books, Destination, Sendings
from pulse_cli.ledger.holdings import read_holdings
from pulse_cli.screen import Screen, open_screen
from pulse_cli.target import find_target
from pulse_control.context import Control
from pulse_control.route_state import RouteState, route_state
from pulse_runtime.clock import SystemClock

_GLANCE_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The parts of a run in progress."""

    control: Control
    bus: Connection
    scenario: Scenario
    receivers: Receivers
    fleet: Fleet
    screen: Screen
    started: float

    async def look(self) -> Books:
        """Read the books as they are now; may raise what `AWAY` lists."""
        return Books(
            sendings=self.fleet.sendings,
            destinations=[
                Destination(
                    route=route,
                    addresses=(Address(name=address_of(route.tenant_id, route.name)),),
                    is_healthy=route.name != DEAD,
                )
                for route in self.scenario.routes
            ],
            receipts=self.receivers.receipts,
            holdings=await read_holdings(self.control.pool, self.bus, self.scenario.keys),
        )

    async def states(self) -> dict[str, RouteState]:
        return {route.route_id: await route_state(self.bus, route) for route in self.scenario.routes}


async def run_demo(data: Path, seconds: float) -> Closing:
    """Start everything below *data*, send for *seconds*, settle, and close the books. Nothing is left running."""
    sendings = Sendings()
    async with (
        DataFolder(data) as folder,
        embedded_stack(folder) as stack,
        open_receivers(sendings) as receivers,
        open_control(target := find_target(data)) as control,
        connect(target.bus) as bus,
        open_screen(sys.stderr) as screen,  # stdout is for the ledger
    ):
        scenario = await set_up(control, receivers)
        await sync_logins(control, folder)
        addresses = stack.addresses
        broker = (addresses.mqtt.host, addresses.mqtt.port)
        fleet = Fleet(scenario.devices, load_series(), addresses.http.url("http"), broker, sendings)
        run = Run(
            control=control,
            bus=bus,
            scenario=scenario,
            receivers=receivers,
            fleet=fleet,
            screen=screen,
            started=time.monotonic(),
        )
        return await _play(run, broker, seconds)


async def _play(run: Run, broker: tuple[str, int], seconds: float) -> Closing:
    """Raise the first thing that goes wrong, also in the watcher or the subscriber: neither ends unseen."""
    try:
        async with asyncio.TaskGroup() as group:
            subscribed = asyncio.Event()
            subscriber = group.create_task(
                subscribe(run.receivers, broker, run.scenario.keys, subscribed), name="demo.subscriber"
            )
            watcher = group.create_task(_watch(run), name="demo.watch")
            async with asyncio.timeout(10):
                await subscribed.wait()
            await run.fleet.run(seconds)
            closing = close(await settled(run.look, SystemClock()))
            subscriber.cancel()
            watcher.cancel()
    except ExceptionGroup as group:
        raise _first_of(group) from group
    return closing


def _first_of(group: ExceptionGroup[Exception]) -> Exception:
    first = group.exceptions[0]
    return _first_of(first) if isinstance(first, ExceptionGroup) else first  # pyright: ignore[reportUnknownArgumentType] - of exceptions


async def _watch(run: Run) -> None:
    before, sent, delivered = time.monotonic(), 0, 0
    while True:
        await asyncio.sleep(_GLANCE_S)
        try:
            books = await run.look()
            states = await run.states()
        except AWAY:
            continue
        now = time.monotonic()
        span = now - before
        ledger = balance(books)
        glance = Glance(
            elapsed_s=now - run.started,
            sent_per_s=(ledger.accepted - sent) / span,
            delivered_per_s=(ledger.delivered - delivered) / span,
            oldest_undelivered_s=oldest_waiting_s(books, now),
            ledger=ledger,
            routes=run.scenario.routes,
            states=states,
        )
        before, sent, delivered = now, ledger.accepted, ledger.delivered
        run.screen.show(picture_of(glance))
