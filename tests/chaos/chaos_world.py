"""A world of its own for each run: two tenants, their devices, destinations of every temper, and the books."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from chaos_flood import Flood
from chaos_receipts import WebhookReceipts, mirror_address, mirrored
from support.processes import connected_from
from support.pulse import Pulse
from support.receiver import Receiver, always, hangs, open_receiver
from support.tenant import ACTOR, Route, Tenant
from support.waiting import eventually

from pulse_bus.errors import BusError
from pulse_cli.ledger.facts import Address, Books, Destination, Fault, Receipt, Sendings
from pulse_cli.ledger.holdings import read_holdings
from pulse_cli.ledger.invariants import examine, unsettled
from pulse_control import routes
from pulse_storage.pool import UNAVAILABLE

_DEVICES: Final = 3
_INTERVAL_S: Final = 0.12
_PATIENT: Final = {"backoff": {"first_s": 0.3, "factor": 2, "cap_s": 1.5}}
_LOOK_S: Final = 0.3
_LATE_S: Final = 12.0
"""The broker sends a message again 5 s after its subscriber, ingest or a customer's, did not acknowledge it."""
_TROUBLED: Final = frozenset({"down", "hanging", "redirecting"})
"""Routes whose messages may wait for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """How a run ended."""

    books: Books
    seconds: float
    """Until nothing moved any more."""


@dataclass(slots=True, kw_only=True)
class World:
    """What one run consists of. Made by `open_world`."""

    pulse: Pulse
    tenants: Sequence[Tenant]
    flood: Flood
    receiver: Receiver
    routes: Sequence[Route]
    destinations: list[Destination]
    webhooks: WebhookReceipts
    mirrors: Sequence[list[Receipt]]
    let_go: asyncio.Event
    faults: list[Fault] = field(default_factory=list[Fault])
    healed_at: float = 0.0

    async def let_answer(self, patience_s: float) -> None:
        """Have the destinations answer that hang; returns when nothing waits for them any more."""
        for path in self._hanging():
            self.receiver.behaviour.pop(path, None)
        await eventually(self._nothing_hangs, patience_s, what="delivery of all that hung")

    async def _nothing_hangs(self) -> bool:
        hanging = {route.route_id for route in self.routes if route.name == "hanging"}
        holdings = (await self.books()).holdings
        return not any(route in hanging for _, route in holdings.undelivered | holdings.set_aside)

    def let_hang(self) -> None:
        """Have them hang again."""
        for path in self._hanging():
            self.receiver.behaviour[path] = hangs(self.let_go)

    def _hanging(self) -> list[str]:
        return [path_of(route) for route in self.routes if route.name == "hanging"]

    def untold(self, books: Books) -> list[str]:
        """Return the fates that nothing met: a run that shows nothing of them proves nothing of them."""
        routes = {each.route.route_id: each.route.name for each in self.destinations}
        attempted = books.sendings.attempted
        met = {
            "stored": books.holdings.stored,
            "quarantined": books.holdings.quarantined,
            "dead-lettered": books.holdings.dead_lettered,
            "waiting in the siding": [pair for pair in books.holdings.set_aside if pair[1] in routes],
            "delivered by a process that is known": [each for each in self.receiver.accepted if each.sender],
            "tried at a hanging destination": [path for path in self._hanging() if self.receiver.tried(path)],
            "republished over MQTT": [receipt for mirror in self.mirrors for receipt in mirror],
            "acknowledged over MQTT": [e for e in books.sendings.acknowledged if attempted[e].payload is None],
        }
        return [name for name, found in met.items() if not found]

    async def books(self) -> Books:
        """Read everything as it is now; may raise `BusError` and what `UNAVAILABLE` lists."""
        # Before the stores are read: what is acknowledged from now on may be on its way when they are.
        acknowledged = dict(self.flood.sendings.acknowledged)
        async with self.pulse.bus() as bus:
            holdings = await read_holdings(self.pulse.control.pool, bus, [each.tenant_id for each in self.tenants])
        return Books(
            sendings=Sendings(attempted=dict(self.flood.sendings.attempted), acknowledged=acknowledged),
            destinations=tuple(self.destinations),
            receipts=[*self.webhooks.read(), *(receipt for mirror in self.mirrors for receipt in mirror)],
            holdings=holdings,
            faults=tuple(self.faults),
        )

    async def settle(
        self,
        patience_s: float,
        *,
        since: float | None = None,
        enough: Callable[[Books], bool] = lambda books: not examine(books),
    ) -> Settled:
        """Wait until nothing moves that should arrive somewhere, at most *patience_s* from *since*.

        That is the moment at which the last fault was healed, if it is not given. Once nothing moves what a broker
        still owes to a subscriber may come a little later: until *enough* holds.

        Long books are looked through beside the loop: receivers and proxies live in it, and must not stand still.
        """
        started = since or self.healed_at or time.monotonic()
        calm_since: float | None = None
        while True:
            books = await self._books_if_readable()
            now = time.monotonic()
            moves = books is None or await asyncio.to_thread(unsettled, books)
            calm_since = None if moves else calm_since or now
            is_over = calm_since and (now - calm_since > _LATE_S or (books and await asyncio.to_thread(enough, books)))
            if is_over or now - started > patience_s:
                return Settled(books=books or await self.books(), seconds=(calm_since or now) - started)
            await asyncio.sleep(_LOOK_S)

    async def _books_if_readable(self) -> Books | None:
        try:
            return await self.books()
        except (BusError, *UNAVAILABLE):
            return None

    def move(self, route: Route, path: str) -> None:
        """Note that the router knows a new address of a route: nothing sent from now on may go to the old one."""
        index = next(i for i, each in enumerate(self.destinations) if each.route.route_id == route.route_id)
        old = self.destinations[index]
        past = [Address(name=each.name, until=min(each.until, time.monotonic())) for each in old.addresses]
        self.destinations[index] = Destination(
            route=old.route, addresses=(*past, Address(name=path)), is_healthy=old.is_healthy
        )

    def healthy(self) -> list[Destination]:
        return [each for each in self.destinations if each.route.name == "healthy"]


@asynccontextmanager
async def open_world(
    pulse: Pulse,
    name: str,
    random: Random,
    *,
    patience_s: float = 120.0,
    over_mqtt: bool = True,
    hangs_s: float = 2.0,
    more: Mapping[str, Mapping[str, Any]] | None = None,
) -> AsyncGenerator[World, None]:
    """Yield a world whose routes are known to the router; *more* webhooks are members of RouteInput by name.

    An attempt at the destination that hangs is given up after *hangs_s*. Without *over_mqtt* no broker is between Pulse
    and the others, who then know at once what became of a message.
    """
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(open_receiver())
        receiver.sender_of = lambda port: connected_from(port, [pulse.stack.pid("delivery")])
        tenants = [await pulse.tenant(f"{name}-{side}") for side in ("a", "b")]
        devices = [
            device for tenant in tenants for device in await pulse.devices(tenant, *(f"d{n}" for n in range(_DEVICES)))
        ]
        mqtt = devices[::_DEVICES] if over_mqtt else []
        http = [device for device in devices if device not in mqtt]
        flood = Flood(http, mqtt, interval_s=_INTERVAL_S, random=random, patience_s=patience_s)
        let_go = asyncio.Event()
        stack.callback(let_go.set)
        made = [route for tenant in tenants for route in await _routes(tenant, receiver, let_go, hangs_s, more or {})]
        made += [await _mirror(tenant) for tenant in tenants if over_mqtt]
        stack.push_async_callback(_park, pulse, made)
        mirrors = [await stack.enter_async_context(mirrored(tenant, flood.sendings)) for tenant in tenants if over_mqtt]
        secrets = {path_of(route): route.secret for route in made if route.secret}
        webhooks = WebhookReceipts(receiver, secrets, flood.sendings)
        await stack.enter_async_context(_reading(webhooks))
        yield World(
            pulse=pulse,
            tenants=tenants,
            flood=flood,
            receiver=receiver,
            routes=made,
            destinations=[await _destination(pulse, route) for route in made],
            webhooks=webhooks,
            mirrors=mirrors,
            let_go=let_go,
        )


@asynccontextmanager
async def _reading(webhooks: WebhookReceipts) -> AsyncGenerator[None, None]:
    task = asyncio.create_task(webhooks.keep_reading(), name="chaos.receipts")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


def path_of(route: Route) -> str:
    """Return the path at the receiver to which a webhook delivers at first."""
    return f"/{route.tenant.tenant_id}/{route.name}"


async def _routes(
    tenant: Tenant, receiver: Receiver, let_go: asyncio.Event, hangs_s: float, more: Mapping[str, Mapping[str, Any]]
) -> list[Route]:
    prefix = f"/{tenant.tenant_id}"
    receiver.behaviour[f"{prefix}/gone"] = always(404)
    receiver.behaviour[f"{prefix}/hanging"] = hangs(let_go)
    return await asyncio.gather(
        tenant.webhook(receiver.url(f"{prefix}/healthy"), name="healthy", policy=_PATIENT),
        tenant.webhook(receiver.url(f"{prefix}/odd"), name="odd", payload_filter={"parity": 1}, policy=_PATIENT),
        tenant.webhook(receiver.url(f"{prefix}/gone"), name="gone", topic_filter="tenant/+/device/d2/#"),
        tenant.webhook("http://127.0.0.1:9/", name="down", topic_filter="tenant/+/device/d0/#", policy=_PATIENT),
        tenant.webhook(
            receiver.url(f"{prefix}/hanging"),
            name="hanging",
            topic_filter="tenant/+/device/d1/#",
            policy={**_PATIENT, "deadline_s": hangs_s},
        ),
        *(_webhook(tenant, receiver.url(f"{prefix}/{name}"), name, members) for name, members in more.items()),
    )


async def _mirror(tenant: Tenant) -> Route:
    return await tenant.republish(f"{mirror_address(tenant)}/{{device_id}}", name="mirror", policy=_PATIENT)


async def _webhook(tenant: Tenant, url: str, name: str, members: Mapping[str, Any]) -> Route:
    wanted: dict[str, Any] = {"name": name, "policy": _PATIENT, **members}
    return await tenant.webhook(url, **wanted)


async def _destination(pulse: Pulse, route: Route) -> Destination:
    stored = await routes.find_route(pulse.control, route.tenant.tenant_id, route.name)
    address = mirror_address(route.tenant) if stored.route.kind == "mqtt_republish" else path_of(route)
    return Destination(route=stored.route, addresses=(Address(name=address),), is_healthy=route.name not in _TROUBLED)


async def _park(pulse: Pulse, made: Sequence[Route]) -> None:
    """Leave nothing behind that is tried again and again beside the next run."""
    for route in made:
        if route.name in _TROUBLED:
            await routes.set_route_enabled(pulse.control, route.tenant.tenant_id, route.name, ACTOR, enabled=False)
