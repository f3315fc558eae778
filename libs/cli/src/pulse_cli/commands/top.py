"""``pulse top``."""

import sys
from typing import Annotated

import typer

from pulse_bus.connection import connect
from pulse_cli.lazy import command_app
from pulse_cli.options import Data, Json
from pulse_cli.output import emit
from pulse_cli.running import run
from pulse_cli.screen import PlainScreen, open_screen
from pulse_cli.target import find_target
from pulse_cli.top.lookout import Lookout
from pulse_cli.top.view import picture_of
from pulse_cli.top.watching import see, watch
from pulse_runtime.clock import SystemClock

app = command_app()


@app.command("top")
def top(
    seconds: Annotated[float, typer.Option(min=0.2, max=60, help="From one look to the next.")] = 2.0,
    routes: Annotated[int, typer.Option(min=1, max=100, help="How many of the worst routes.")] = 10,
    data: Data = None,
    *,
    once: Annotated[bool, typer.Option("--once", help="Show one sight and end.")] = False,
    as_json: Json = False,
) -> None:
    """Watch what flows, what waits and the worst routes, until interrupted.

    Rates are those between two looks. Where stdout is no terminal it prints plain lines; --json prints one sight and
    ends. All of it is asked of NATS, so it can be watched while PostgreSQL is down.
    """

    async def work() -> None:
        clock = SystemClock()
        async with connect(find_target(data).bus) as bus:
            lookout = Lookout(bus, clock, most_routes=routes)
            if as_json:
                emit(await see(lookout, clock, seconds), as_json=True)
            elif once:
                PlainScreen(sys.stdout).show(picture_of(await see(lookout, clock, seconds)))
            else:
                async with open_screen(sys.stdout) as screen:
                    await watch(lookout, screen, clock, seconds)

    run(work())
