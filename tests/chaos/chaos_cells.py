"""The cells: each breaks one thing, mends it, and says what an operator sees and has to do meanwhile.

A cell's docstring is its entry in docs/operating/faults.md.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from chaos_site import Ground, Site, Strike
from support.waiting import eventually

from pulse_runtime.events import FAILPOINTS_ARMED
from pulse_testkit.processes import frozen, is_frozen

_BACK_WITHIN_S: Final = 60.0
_ALL_KILLED_WITHIN_S: Final = 120.0
_KILLABLE: Final = ("ingest", "router", "delivery", "nats", "postgres")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One fault."""

    number: int
    name: str
    strike: Callable[[Strike], Awaitable[None]]
    ground: Ground = Ground.PLAIN
    in_ci: bool = False
    signs: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    """Words that `/ready` must have said meanwhile, by service."""
    logged: Mapping[str, str] = field(default_factory=dict[str, str])
    """Events that must stand in the log afterwards, by service."""
    manual_step: str | None = None
    """What an operator has to do, where nobody else does it."""

    @property
    def story(self) -> str:
        """What happens, and what an operator sees."""
        return self.strike.__doc__ or ""


async def kill_ingest(strike: Strike) -> None:
    """`kill -9` of ingest before a message is committed, after that but before it is acknowledged, and between the
    row and its ack.

    Devices get no answer and send again: over HTTP with the same id, over MQTT the broker keeps what was not
    acknowledged. `/ready` of ingest does not answer until whoever supervises it has started it again. The writer's
    messages of that process come back after 12 s; `pulse_ingest_store_duplicates_total` counts those that were stored
    already.
    """
    await _kill_at(strike, "ingest", "ingest.before_commit", "ingest.after_commit", "ingest.after_store")


async def kill_router(strike: Strike) -> None:
    """`kill -9` of the router before and after it publishes what a message matches.

    Nobody outside notices, except that what the process held is delivered 12 s late:
    `pulse_router_oldest_unrouted_age_seconds` shows it. What it had published already is recognised by its ids.
    """
    await _kill_at(strike, "router", "router.before_publish", "router.after_publish")


async def kill_delivery(strike: Strike) -> None:
    """`kill -9` of delivery after an attempt, around a shunt and around a dead letter.

    What was attempted and not acknowledged is attempted again after 12 s, with the same `webhook-id`: these are the
    duplicates that at-least-once speaks of. `pulse_delivery_oldest_undelivered_age_seconds` rises to 12 s and falls.
    """
    await _kill_at(
        strike,
        "delivery",
        "delivery.after_post",
        "delivery.before_shunt",
        "delivery.after_shunt",
        "delivery.before_dead_letter",
        "delivery.after_dead_letter",
        "delivery.after_dead_letter_store",
    )


async def random_kills(strike: Strike) -> None:
    """`kill -9` of any process, again and again: services, nats-server and PostgreSQL.

    Devices see 503 and broken connections and send again. `/ready` of the services comes and goes with what they need.
    """
    until = time.monotonic() + strike.scale.kills_s
    killed = 0
    while time.monotonic() < until:
        name = strike.random.choice(_KILLABLE)
        await _kill(strike, name)
        killed += 1
        await asyncio.sleep(strike.random.uniform(0.2, 2.0))
    strike.prove(killed >= 2, f"{killed} processes were killed")


async def nats_killed(strike: Strike) -> None:
    """`kill -9` of nats-server, restarted at once.

    `/ready` of all services says that they are not connected. The server forgets the acks of about its last second;
    what it delivers again is recognised by the stores, by the streams and by the memory of delivery.
    """
    await _kill(strike, "nats")


async def nats_frozen(strike: Strike) -> None:
    """nats-server stands still with its connections open (SIGSTOP).

    HTTP devices get 503 with Retry-After once the commit timed out; `pulse_bus_published_total{result="timeout"}`
    rises. `/ready` may go on saying ready for up to 20 s, until the connection's own pings are missed.
    """
    pid = strike.pulse.stack.pid("nats")
    async with strike.fault("nats frozen"), frozen(pid):
        strike.prove(is_frozen(pid), f"the kernel said that nats-server {pid} was stopped")
        acked = strike.world.flood.acked
        await asyncio.sleep(strike.scale.frozen_s)
        # What was on its way at the first moment may still have been answered.
        strike.prove(strike.world.flood.acked - acked < strike.scale.before, "hardly anything was acknowledged")


async def nats_down(strike: Strike) -> None:
    """nats-server is down for a minute.

    HTTP devices get 503 with Retry-After, MQTT devices of the embedded broker cannot connect. `/ready` of all services
    says "not connected to NATS". Nothing has to be restarted but nats-server: all reconnect by themselves.
    """
    async with strike.fault("nats down"), strike.pulse.stack.down("nats") as pid:
        acked = strike.world.flood.acked
        await asyncio.sleep(strike.scale.down_s)
        strike.prove(strike.world.flood.acked == acked, f"nothing was acknowledged after nats-server {pid} died")


async def nats_power_cut(strike: Strike) -> None:
    """The power fails under nats-server: what it had not fsynced is gone. Then it starts again from the disk.

    As for a kill. With `sync_interval: always` nothing that was acknowledged is lost; without it the streams
    themselves would be.
    """
    pid = strike.pulse.stack.pid("nats")
    async with strike.fault("power cut"):
        await cut_power(strike.site)
    strike.prove(
        strike.pulse.stack.pid("nats") != pid, f"nats-server {pid} was replaced, on the disk as it was at the cut"
    )


async def disk_full(strike: Strike) -> None:
    """The disk under nats-server is full, and has room again later.

    HTTP devices get 503, MQTT devices no acknowledgement: full means refuse. nats-server answers `/healthz` with 503
    and goes on refusing after there is room again: it has to be restarted.
    """
    assert strike.site.small
    flood = strike.world.flood
    async with strike.fault("disk full"):
        taken = strike.site.small.fill()
        refused = flood.refusals.total()
        await eventually(lambda: flood.refusals.total() > refused + 3, 30, what="refusals for want of room")
        strike.prove(taken > 0, f"{taken} bytes were taken, and devices were refused")
        strike.site.small.free()
        await strike.pulse.stack.restart("nats")


async def postgres_killed(strike: Strike) -> None:
    """`kill -9` of PostgreSQL, restarted at once.

    Ingest keeps accepting, and stays ready, for it can. Its log says `store_failed` until the database has recovered.
    """
    await _kill(strike, "postgres")


async def postgres_down(strike: Strike) -> None:
    """PostgreSQL is down for ten minutes' worth of messages, and restarted in an orderly way when it is back.

    All services stay ready: ingest keeps accepting, the router and delivery go on with the routes they know. What is
    not stored waits in TELEMETRY: `pulse_ingest_oldest_unstored_age_seconds` shows for how long, and the log says
    `store_failed`. Dead letters wait in DEADLETTER.
    """
    flood = strike.world.flood
    async with strike.fault("postgres down"), strike.pulse.stack.down("postgres") as pid:
        enough = flood.acked + strike.scale.backlog
        await eventually(lambda: flood.acked >= enough, 900, what="a backlog")
        strike.prove(flood.acked >= enough, f"{strike.scale.backlog} were acknowledged after PostgreSQL {pid} died")
    back = strike.pulse.stack.pid("postgres")
    async with strike.fault("postgres restarted"):
        await strike.pulse.stack.restart("postgres")
    strike.prove(strike.pulse.stack.pid("postgres") != back, f"PostgreSQL {back} was replaced in an orderly way")


async def link_cut(strike: Strike) -> None:
    """The network between a service and a server is cut, or swallows everything, and heals.

    `/ready` of a service cut off from nats-server says so, and of no other; cut off from PostgreSQL it stays ready. A
    silent loss is noticed after two missed pings, 20 s.
    """
    for service, server in (("ingest", "nats"), ("delivery", "nats"), ("router", "postgres"), ("ingest", "postgres")):
        link = strike.site.links.between(service, server)
        broken, accepted = link.broken, link.accepted
        async with strike.fault(f"{service} cut off from {server}"):
            link.cut()
            await asyncio.sleep(strike.scale.down_s / 4)
            link.heal()
        strike.prove(link.broken > broken, f"{link.broken - broken} connections of {service} to {server} were reset")
        await eventually(lambda: link.accepted > accepted, _BACK_WITHIN_S, what="a new connection")  # noqa: B023
    hole = strike.site.links.between("router", "nats")
    async with strike.fault("a black hole between router and nats"):
        hole.blackhole()
        passed = hole.passed_bytes
        await asyncio.sleep(strike.scale.down_s / 2)
        strike.prove(hole.passed_bytes == passed, "nothing passed between router and nats")
        hole.heal()


async def cut_power(site: Site) -> None:
    """Cut the power under nats-server and start it again from what is on the disk."""
    assert site.loop
    stack = site.pulse.stack
    # Killed while it is frozen: what it acknowledged after the snapshot would be no loss of its own.
    async with frozen(stack.pid("nats")):
        taken = await site.loop.snapshot()
        async with stack.down("nats"):
            await site.loop.boot_from(taken)


async def _kill(strike: Strike, name: str) -> None:
    stack = strike.pulse.stack
    async with strike.fault(f"kill {name}"):
        await asyncio.wait_for(stack.until_ready(name), _BACK_WITHIN_S)
        pid = stack.kill(name)
        await asyncio.wait_for(stack.until_ready(name), _BACK_WITHIN_S)
    strike.prove(stack.pid(name) != pid, f"{name} {pid} was replaced by {stack.pid(name)}")


async def _kill_at(strike: Strike, service: str, *points: str) -> None:
    """Have a service killed at each point in turn, at a hit that the seed chooses."""
    stack, magazine = strike.pulse.stack, strike.site.magazines[service]
    before, armed = magazine.starts, len(strike.pulse.log(service, FAILPOINTS_ARMED))
    async with strike.fault(f"kills of {service}"):
        magazine.failpoints.extend(f"{point}=kill:{strike.random.randint(2, 12)}" for point in points)
        stack.kill(service)
        # The start after the last armed one: each of these has died. It may do so before it was ready.
        starts = before + len(points) + 1
        await eventually(lambda: magazine.starts >= starts, _ALL_KILLED_WITHIN_S, what=f"kills at {points}")
        await asyncio.wait_for(stack.until_ready(service), _BACK_WITHIN_S)
    armed = len(strike.pulse.log(service, FAILPOINTS_ARMED)) - armed
    strike.prove(armed == len(points), f"{service} was killed at {', '.join(points)}")


_NOT_CONNECTED: Final = ("not connected to NATS",)

CELLS: Final[Sequence[Cell]] = (
    Cell(number=1, name="kill-ingest", strike=kill_ingest, in_ci=True, signs={"ingest": ["no answer"]}),
    Cell(number=2, name="kill-router", strike=kill_router, in_ci=True),
    Cell(number=3, name="kill-delivery", strike=kill_delivery, in_ci=True),
    Cell(number=4, name="random-kills", strike=random_kills),
    Cell(number=5, name="nats-killed", strike=nats_killed, in_ci=True),
    Cell(number=6, name="nats-frozen", strike=nats_frozen),
    Cell(
        number=7,
        name="nats-down",
        strike=nats_down,
        signs={"ingest": _NOT_CONNECTED, "router": _NOT_CONNECTED, "delivery": _NOT_CONNECTED},
    ),
    Cell(number=8, name="nats-power-cut", strike=nats_power_cut, ground=Ground.LOOP, in_ci=True),
    Cell(
        number=9,
        name="disk-full",
        strike=disk_full,
        ground=Ground.SMALL,
        in_ci=True,
        manual_step="Restart nats-server once there is room again.",
    ),
    Cell(number=10, name="postgres-killed", strike=postgres_killed),
    Cell(number=11, name="postgres-down", strike=postgres_down, in_ci=True, logged={"ingest": "store_failed"}),
    Cell(number=12, name="link-cut", strike=link_cut),
)
