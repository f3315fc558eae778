"""Devices: making, listing, rotating, revoking."""

from collections.abc import Sequence
from dataclasses import dataclass

from pulse_contracts.ids import DeviceId, InvalidIdentity, TenantId, device_id, tenant_id
from pulse_control.context import Actor, Control
from pulse_control.errors import ControlRefused, NotFound
from pulse_control.tenants import known_tenant
from pulse_control.tokens import bcrypt_of, new_token, sha256_of
from pulse_storage import devices
from pulse_storage.devices import DeviceExists, DeviceRevoked, DeviceRow, TokenHashes, UnknownTenant


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceToken:
    """A device with a token just made. The token is shown this once."""

    tenant_id: TenantId
    device_id: DeviceId
    token: str


async def create_devices(control: Control, tenant: str, names: Sequence[str], actor: Actor) -> list[DeviceToken]:
    """Make devices, all or none; raises `ControlRefused`."""
    made = [_new_token(tenant, name) for name in names]
    try:
        await devices.create(control.pool, _tenant(tenant), [_hashes(device) for device in made], actor)
    except DeviceExists as exc:
        raise ControlRefused("device_id", str(exc)) from exc
    except UnknownTenant as exc:
        raise NotFound("tenant_id", str(exc)) from exc
    return made


async def rotate_device(
    control: Control, tenant: str, name: str, actor: Actor, *, reinstate: bool = False
) -> DeviceToken:
    """Replace a device's token; raises `NotFound`, and `ControlRefused` for a revoked device not to be reinstated."""
    made = _new_token(tenant, name)
    try:
        found = await devices.rotate(control.pool, made.tenant_id, _hashes(made), actor, reinstate=reinstate)
    except DeviceRevoked as exc:
        raise ControlRefused("device_id", f"{exc}: a new token would let it in again, which takes --reinstate") from exc
    if not found:
        raise NotFound("device_id", f"there is no device {name!r}")
    return made


async def revoke_device(control: Control, tenant: str, name: str, actor: Actor) -> None:
    """Refuse a device from now on; raises `ControlRefused`, and `NotFound` if there is none."""
    if not await devices.revoke(control.pool, _tenant(tenant), _device(name), actor):
        raise NotFound("device_id", f"there is no device {name!r}")


async def list_devices(control: Control, tenant: str) -> list[DeviceRow]:
    """Return one tenant's devices by id; raises `NotFound` for an unknown tenant."""
    return await devices.list_of_tenant(control.pool, await known_tenant(control, tenant))


def _tenant(text: str) -> TenantId:
    try:
        return tenant_id(text)
    except InvalidIdentity as exc:
        raise ControlRefused(exc.field, exc.reason) from exc


def _device(text: str) -> DeviceId:
    try:
        return device_id(text)
    except InvalidIdentity as exc:
        raise ControlRefused(exc.field, exc.reason) from exc


def _new_token(tenant: str, name: str) -> DeviceToken:
    return DeviceToken(tenant_id=_tenant(tenant), device_id=_device(name), token=new_token("dev"))


def _hashes(device: DeviceToken) -> TokenHashes:
    return TokenHashes(device_id=device.device_id, sha256=sha256_of(device.token), bcrypt=bcrypt_of(device.token))
