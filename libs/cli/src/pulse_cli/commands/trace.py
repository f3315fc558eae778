"""``pulse trace``."""

from typing import Annotated

import typer

from pulse_bus.connection import connect
from pulse_cli.control import open_control
from pulse_cli.lazy import command_app
from pulse_cli.options import Data, Json
from pulse_cli.output import emit
from pulse_cli.running import run
from pulse_cli.target import find_target
from pulse_control.trail_search import find_trail

app = command_app()

MessageId = Annotated[str, typer.Argument(metavar="MESSAGE_ID", help="As ingest answered it and webhooks carry it.")]
Tenant = Annotated[
    str | None, typer.Option("--tenant", help="Tenant id; only its data is looked at. Else everybody's.")
]


@app.command("trace")
def trace(message_id: MessageId, tenant: Tenant = None, data: Data = None, *, as_json: Json = False) -> None:
    """Draw what is on record of one message: accepted, stored, routed, each attempt, and what became of it.

    From the tables and the streams, whether traces are exported or not. Times are since it was accepted.
    """

    async def work() -> None:
        target = find_target(data)
        async with open_control(target) as control, connect(target.bus) as bus:
            trail = await find_trail(control, bus, message_id, tenant)
        if as_json:
            emit(trail, as_json=True)
            return
        from pulse_cli.trail_view import show_trail  # noqa: PLC0415 - only a drawing needs rich

        show_trail(trail)

    run(work())
