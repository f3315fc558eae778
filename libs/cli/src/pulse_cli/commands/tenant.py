"""``pulse tenant``."""

from typing import Annotated

import typer

from pulse_cli.control import actor, after_login_change, open_control
from pulse_cli.lazy import command_app
from pulse_cli.options import Data, Json
from pulse_cli.output import emit
from pulse_cli.running import run
from pulse_cli.target import find_target
from pulse_control import tenants

app = command_app("Tenants: who sends and who receives.")


@app.command("create")
def create(
    tenant_id: Annotated[str, typer.Argument(help="1 to 64 of a-z, 0-9, _ and -.")],
    name: Annotated[str | None, typer.Option(help="Name for people.")] = None,
    data: Data = None,
    *,
    as_json: Json = False,
) -> None:
    """Make a tenant and print its ingest key, once."""

    async def work() -> None:
        target = find_target(data)
        async with open_control(target) as control:
            made = await tenants.create_tenant(control, tenant_id, name, actor())
            await after_login_change(target)(control)
            emit(made, as_json=as_json)

    run(work())


@app.command("list")
def list_(data: Data = None, *, as_json: Json = False) -> None:
    """List the tenants."""

    async def work() -> None:
        async with open_control(find_target(data)) as control:
            emit(await tenants.list_tenants(control), as_json=as_json)

    run(work())
