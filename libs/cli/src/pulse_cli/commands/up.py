"""``pulse up``."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from pulse_cli.embedded.folder import DataFolder
from pulse_cli.embedded.plan import embedded_stack, withheld
from pulse_cli.embedded.signals import cancelled_by_signals
from pulse_cli.lazy import command_app
from pulse_cli.options import Json, data_folder
from pulse_cli.output import emit
from pulse_cli.running import run
from pulse_cli.target import DEFAULT_DATA

app = command_app()


@app.command("up")
def up(
    data: Annotated[
        Path, typer.Option("--data", parser=data_folder, metavar="FOLDER", help="Data folder.")
    ] = DEFAULT_DATA,
    *,
    as_json: Json = False,
) -> None:
    """Run all of Pulse here: servers and services on free loopback ports, until interrupted.

    Prints where everything is; restarts what dies, on the same ports.
    """
    if ignored := withheld(os.environ):
        sys.stderr.write(f"pulse: not used by an embedded stack, which decides this itself: {', '.join(ignored)}\n")

    async def work() -> None:
        with cancelled_by_signals():
            try:
                async with DataFolder(data) as folder, embedded_stack(folder) as stack:
                    emit(stack.addresses.as_announcement(), as_json=as_json)
                    await asyncio.Event().wait()
            except asyncio.CancelledError:
                return

    run(work())
