"""``pulse dlq``."""

from typing import Annotated

import typer

from pulse_cli.control import open_control
from pulse_cli.lazy import command_app
from pulse_cli.options import Data, Json, Tenant
from pulse_cli.output import emit
from pulse_cli.running import run
from pulse_cli.target import find_target
from pulse_control import dead_letters

app = command_app("Dead letters: what was not delivered, and why.")


@app.command("list")
def list_(
    tenant: Tenant,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")] = 100,
    data: Data = None,
    *,
    as_json: Json = False,
) -> None:
    """List a tenant's dead letters."""

    async def work() -> None:
        async with open_control(find_target(data)) as control:
            found = await dead_letters.list_dead_letters(control, tenant, limit)
            if as_json:
                emit(found, as_json=True)
                return
            columns = ("created_at", "message_id", "route_id", "reason", "attempts", "status", "error_message")
            emit([{name: getattr(row, name) for name in columns} for row in found], as_json=False)

    run(work())


@app.command("show")
def show(message_id: str, tenant: Tenant, data: Data = None, *, as_json: Json = False) -> None:
    """Show the dead letters of one message, payload and all."""

    async def work() -> None:
        async with open_control(find_target(data)) as control:
            found = await dead_letters.show_dead_letter(control, tenant, message_id)
            if as_json:
                emit(found, as_json=True)
                return
            for row in found:
                emit(row, as_json=False)

    run(work())
