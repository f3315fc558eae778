"""``pulse provision``."""

from typing import Annotated

import typer

from pulse_cli.lazy import command_app
from pulse_cli.options import Data, Json
from pulse_cli.output import emit
from pulse_cli.running import run
from pulse_cli.target import find_target
from pulse_control.installation import provision_bus

app = command_app()


@app.command("provision")
def provision(
    replicas: Annotated[
        int | None,
        typer.Option("--replicas", min=1, max=5, help="Copies of each stream: 3 in a cluster; else as they are."),
    ] = None,
    data: Data = None,
    *,
    as_json: Json = False,
) -> None:
    """Make streams and consumers match this version, and print the difference."""

    async def work() -> None:
        emit({"changed": await provision_bus(find_target(data).bus, replicas=replicas)}, as_json=as_json)

    run(work())
