"""`pulse route show` and `nats consumer info` tell the truth about a route, in whatever state it is."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from support.pulse import Pulse
from support.receiver import Receiver, always, hangs
from support.tenant import Route
from support.waiting import eventually

from pulse_bus.siding import Siding
from pulse_cli.output import to_plain
from pulse_contracts.ids import RouteId
from pulse_contracts.subjects import RouteAddress
from pulse_control import routes
from pulse_control.route_state import route_state


async def shown(route: Route) -> dict[str, Any]:
    """What the command prints under ``state``."""
    pulse = route.tenant.pulse
    stored = await routes.find_route(pulse.control, route.tenant.tenant_id, route.name)
    async with pulse.bus() as bus:
        return to_plain(await route_state(bus, stored.route))


async def is_so(route: Route, **expected: object) -> dict[str, Any]:
    return await eventually(
        lambda: shown(route), 20, until=lambda state: expected.items() <= state.items(), what=f"{expected}"
    )


async def test_a_route_shows_each_state_that_it_goes_through(pulse: Pulse, receiver: Receiver) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device()
    route = await tenant.webhook(receiver.url("/hook"), policy={"backoff": {"first_s": 600, "cap_s": 600}})
    await device.accepted({})
    await eventually(lambda: receiver.of("/hook"))
    healthy = await is_so(route, lane="fast")
    nothing = ("cause", "oldest_routed_at", "troubled_since", "phase", "paused_until", "last_error", "served_by")
    assert all(healthy[name] is None for name in nothing)
    assert (healthy["waiting"], healthy["failures"], healthy["trying"]) == (0, 0, 0)

    receiver.behaviour["/hook"] = always(500)
    failed_at = datetime.now(UTC)
    await device.accepted({})
    paused = await is_so(route, lane="siding", phase="paused", failures=1)
    assert paused["cause"] == "attempt_failed"
    assert "500" in paused["last_error"]
    assert paused["served_by"]
    assert paused["waiting"] == 1
    assert failed_at <= datetime.fromisoformat(paused["troubled_since"]) <= datetime.now(UTC)
    assert failed_at <= datetime.fromisoformat(paused["oldest_routed_at"]) <= datetime.now(UTC)
    assert datetime.fromisoformat(paused["paused_until"]) > datetime.now(UTC)
    assert await _consumer(route) == (paused["served_by"], "probing", "1", paused["last_error"])

    let_go = asyncio.Event()
    receiver.behaviour["/hook"] = hangs(let_go)
    for _ in range(60):
        await device.accepted({})
    # Nothing comes to its end, and no pause either, before it was seen.
    await route.update(policy={"backoff": {"first_s": 50, "cap_s": 50}, "deadline_s": 60})
    probing = await is_so(route, phase="probing", trying=1, waiting=61)
    assert probing["paused_until"] is None
    assert probing["cause"] == "attempt_failed"

    seen = asyncio.Event()
    receiver.behaviour["/hook"] = hangs(seen)
    let_go.set()
    growing = await is_so(route, phase="growing")
    assert (growing["failures"], growing["lane"]) == (0, "siding")
    seen.set()
    await is_so(route, lane="fast", phase=None, waiting=0, served_by=None)

    await route.set_enabled(enabled=False)
    await device.accepted({})
    parked = await is_so(route, lane="parked", waiting=1)
    assert (parked["cause"], parked["phase"], parked["served_by"]) == ("parked", None, None)


async def _consumer(route: Route) -> tuple[str, ...]:
    """What `nats consumer info` shows of the turn beside its figures."""
    address = RouteAddress(kind="webhook", tenant=route.tenant.tenant_id, route=RouteId(route.route_id))
    async with route.tenant.pulse.bus() as bus:
        info = await Siding(bus).turn_info(address)
    assert info
    shown = info["config"]["metadata"]
    assert (shown["tenant"], shown["route"]) == (route.tenant.tenant_id, route.route_id)
    return tuple(shown[name] for name in ("owner", "state", "failures", "error"))
