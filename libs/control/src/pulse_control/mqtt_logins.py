"""Who may log in at an MQTT broker that Pulse configures, and what each may do there."""

from dataclasses import dataclass

from pulse_contracts.ids import TenantId
from pulse_control.context import Control
from pulse_storage import devices, tenants


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerLogin:
    """One login. Topics are filters: publishing and subscribing are confined to them."""

    user: str
    bcrypt: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


async def broker_logins(control: Control) -> list[BrokerLogin]:
    """Return a login for each device (publishes below its own prefix) and each tenant (reads all of its own space)."""
    logins: list[BrokerLogin] = []
    for tenant, key in (await tenants.login_hashes(control.pool)).items():
        logins.append(BrokerLogin(user=tenant, bcrypt=key, publish=(), subscribe=(f"tenant/{tenant}/#",)))
        logins += await _device_logins(control, tenant)
    return logins


async def _device_logins(control: Control, tenant: TenantId) -> list[BrokerLogin]:
    hashes = await devices.login_hashes(control.pool, tenant)
    return [
        BrokerLogin(
            user=f"{tenant}/{device}",
            bcrypt=token,
            publish=(f"tenant/{tenant}/device/{device}/#",),
            subscribe=(),
        )
        for device, token in hashes.items()
    ]
