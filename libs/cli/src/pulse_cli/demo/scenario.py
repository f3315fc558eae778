"""The demo's world: two tenants, fifty devices, five kinds of trouble and the lack of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pulse_cli.demo.receivers import Receivers
from pulse_contracts.ids import TenantId
from pulse_contracts.routes import Route
from pulse_control import devices, routes, tenants
from pulse_control.context import Actor, Control
from pulse_control.route_input import RouteInput

TENANTS: Final = ("acme", "globex")
DEVICES: Final = 50
DEAD: Final = "dead"
"""The route whose destination refuses: only here it is no fault that something still waits at the end."""
DEAD_MAX_AGE_S: Final = 5
_ACTOR: Final = Actor("demo")


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoDevice:
    """A device of the demo."""

    tenant: TenantId
    device: str
    token: str
    protocol: str
    """``mqtt`` or ``http``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What was set up."""

    devices: Sequence[DemoDevice]
    routes: Sequence[Route]
    keys: dict[TenantId, str]
    """Ingest keys: with them a tenant's own subscriber logs in at the broker."""


async def set_up(control: Control, receivers: Receivers) -> Scenario:
    """Make tenants, devices and routes through the same use cases as the CLI, and tell the receivers the secrets."""
    made: list[DemoDevice] = []
    keys: dict[TenantId, str] = {}
    all_routes: list[Route] = []
    for tenant in TENANTS:
        new = await tenants.create_tenant(control, tenant, None, _ACTOR)
        keys[new.tenant_id] = new.ingest_key
        names = [f"{tenant}-{number:02}" for number in range(1, DEVICES // len(TENANTS) + 1)]
        created = await devices.create_devices(control, tenant, names, _ACTOR)
        made += [
            DemoDevice(
                tenant=new.tenant_id,
                device=device.device_id,
                token=device.token,
                protocol="mqtt" if index % 2 == 0 else "http",
            )
            for index, device in enumerate(created, start=len(made))
        ]
        for wanted in _routes(tenant, receivers):
            new_route = await routes.create_route(control, tenant, wanted, _ACTOR)
            all_routes.append(new_route.route)
            if new_route.secret:
                receivers.expect(tenant, wanted.name, new_route.secret)
    return Scenario(devices=made, routes=all_routes, keys=keys)


def _routes(tenant: str, receivers: Receivers) -> list[RouteInput]:
    def webhook(name: str, topic_filter: str, url: str, **more: Any) -> RouteInput:
        return RouteInput(name=name, topic_filter=topic_filter, kind="webhook", config={"url": url}, **more)

    everything = f"tenant/{tenant}/device/#"
    return [
        webhook("healthy", everything, receivers.url(tenant, "healthy")),
        webhook("slow", f"tenant/{tenant}/device/{tenant}-01/#", receivers.url(tenant, "slow")),
        webhook(
            DEAD,
            f"tenant/{tenant}/device/{tenant}-02/#",
            receivers.dead_url,
            policy={"max_age_s": DEAD_MAX_AGE_S},
        ),
        webhook("warm", everything, receivers.url(tenant, "warm"), payload_filter={"temp_max": {"$gte": 20}}),
        RouteInput(
            name="republished",
            topic_filter=f"tenant/{tenant}/device/+/weather",
            kind="mqtt_republish",
            config={"topic": "tenant/{tenant_id}/weather/{device_id}"},
        ),
    ]
