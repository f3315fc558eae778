"""Many tenants with many routes each, whose devices send at a steady rate: one message for each route at a time."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from support.pulse import Pulse
from support.receiver import Receiver
from support.tenant import FAST_RETRIES, Route, Tenant

from pulse_control.route_input import RouteInput

_DEVICE = "d"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The routes, and what was sent to them."""

    tenants: list[Tenant]
    routes: list[Route]
    types: list[str]
    sent: dict[str, float] = field(default_factory=dict[str, float])
    """When each message was sent, by the monotonic clock, by id."""

    async def send_for(self, seconds: float, every_s: float = 1.0) -> None:
        """Send at a steady rate, a little of it at a time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for tenant in self.tenants:
                pause = asyncio.create_task(asyncio.sleep(every_s / len(self.tenants)))
                await self._send(tenant)
                await pause

    async def burst(self, count: int) -> None:
        """Send so many messages at once for the first route of every tenant."""
        await asyncio.gather(*(self._send(tenant, self.types[:1] * count) for tenant in self.tenants))

    async def burst_for(self, seconds: float, count: int, *, every_s: float, tenants: int) -> None:
        """Send so many at once for the first route of some tenants, again and again, one tenant after the other."""
        for _ in range(round(seconds / every_s)):
            for tenant in self.tenants[:tenants]:
                pause = asyncio.create_task(asyncio.sleep(every_s / tenants))
                await self._send(tenant, self.types[:1] * count)
                await pause

    async def _send(self, tenant: Tenant, types: Sequence[str] | None = None) -> None:
        at = time.monotonic()
        ids = await tenant.batch(*((_DEVICE, name, {"at": at}) for name in types or self.types))
        self.sent.update(dict.fromkeys(ids, at))


async def make_fleet(pulse: Pulse, receiver: Receiver, path: str, *, tenants: int, routes_each: int) -> Fleet:
    """Make it; every route delivers to *path*."""
    owners = [await pulse.tenant() for _ in range(tenants)]
    for owner in owners:
        await pulse.devices(owner, _DEVICE)
    types = [f"k{number}" for number in range(routes_each)]
    wanted = [
        (
            owner,
            RouteInput(
                name=name,
                topic_filter=f"tenant/+/device/+/{name}",
                kind="webhook",
                config={"url": receiver.url(path)},
                policy=FAST_RETRIES,
            ),
        )
        for owner in owners
        for name in types
    ]
    return Fleet(tenants=owners, routes=await pulse.routes(*wanted), types=types)
