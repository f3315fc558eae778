"""``pulse device``."""

from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from pulse_cli.control import actor, after_login_change, open_control
from pulse_cli.lazy import command_app
from pulse_cli.options import Data, Json, Tenant
from pulse_cli.output import emit
from pulse_cli.running import run
from pulse_cli.target import find_target
from pulse_control import devices
from pulse_control.context import Control

app = command_app("Devices: who may send.")

DeviceIds = Annotated[list[str], typer.Argument(help="Device ids: letters, digits and . _ : @ ~ = -")]
Device = Annotated[str, typer.Argument(metavar="DEVICE_ID", help="Device id.")]


@app.command("create")
def create(device_ids: DeviceIds, tenant: Tenant, data: Data = None, *, as_json: Json = False) -> None:
    """Make devices and print their tokens, once; as JSON a list, also of one."""
    _change(lambda control: devices.create_devices(control, tenant, device_ids, actor()), data, as_json=as_json)


@app.command("list")
def list_(tenant: Tenant, data: Data = None, *, as_json: Json = False) -> None:
    """List a tenant's devices."""

    async def work() -> None:
        async with open_control(find_target(data)) as control:
            emit(await devices.list_devices(control, tenant), as_json=as_json)

    run(work())


@app.command("rotate")
def rotate(
    device: Device,
    tenant: Tenant,
    data: Data = None,
    *,
    reinstate: Annotated[bool, typer.Option("--reinstate", help="Let a revoked device in again, too.")] = False,
    as_json: Json = False,
) -> None:
    """Replace a device's token; the old one is refused from now on. A revoked device stays out without --reinstate."""
    _change(
        lambda control: devices.rotate_device(control, tenant, device, actor(), reinstate=reinstate),
        data,
        as_json=as_json,
    )


@app.command("revoke")
def revoke(device: Device, tenant: Tenant, data: Data = None, *, as_json: Json = False) -> None:
    """Refuse a device from now on."""

    async def work(control: Control) -> object:
        await devices.revoke_device(control, tenant, device, actor())
        return {"tenant_id": tenant, "device_id": device, "revoked": True}

    _change(work, data, as_json=as_json)


def _change(work: Callable[[Control], Awaitable[object]], data: Data, *, as_json: bool) -> None:
    """Do *work*, then make the change known to the broker, where the broker is ours."""

    async def body() -> None:
        target = find_target(data)
        async with open_control(target) as control:
            result = await work(control)
            await after_login_change(target)(control)
            emit(result, as_json=as_json)

    run(body())
