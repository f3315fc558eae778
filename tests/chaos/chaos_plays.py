"""What is done to the test build, so that a planted bug does harm: the same with the bug and without it."""

import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from chaos_servers import cut_power
from chaos_signs import REFUSED
from chaos_site import Site
from chaos_world import World, path_of
from support.receiver import always
from support.tenant import Route
from support.waiting import eventually

from pulse_bus.api import api_request
from pulse_bus.provision import stream_config
from pulse_cli.ledger.facts import Fault, Sent
from pulse_contracts.topology import TELEMETRY
from pulse_runtime.events import FAILPOINTS_ARMED, ROUTE_DELIVERY_FAILED_DLQ

_ENOUGH: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """One scenario being played."""

    site: Site
    world: World
    is_planted: bool
    """Whether the bug is there."""

    def prove(self, holds: object, what: str) -> None:
        """Fail unless the circumstances are those of the scenario: else a control would pass for nothing."""
        assert holds, f"the fault did not happen: {what}"

    async def sent(self, more: int = _ENOUGH) -> None:
        enough = self.world.flood.acked + more
        await eventually(lambda: self.world.flood.acked >= enough, 30, what=f"{more} acknowledgements")

    @asynccontextmanager
    async def fault(self, name: str) -> AsyncGenerator[None, None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.world.healed_at = time.monotonic()
            self.world.faults.append(Fault(name=name, began=began, ended=self.world.healed_at))

    async def crash(self, name: str) -> None:
        stack = self.site.pulse.stack
        async with self.fault(f"kill {name}"):
            pid = stack.kill(name)
            await stack.until_ready(name)
        self.prove(stack.pid(name) != pid, f"{name} {pid} was replaced")

    async def acknowledged(self, is_wanted: Callable[[Sent], bool], what: str) -> None:
        """Wait until a message of that sort was acknowledged."""
        sendings = self.world.flood.sendings
        await eventually(
            lambda: any(map(is_wanted, map(sendings.attempted.__getitem__, sendings.acknowledged))), 30, what=what
        )

    def named(self, name: str) -> list[Route]:
        return [route for route in self.world.routes if route.name == name]


async def just_send(play: Play) -> None:
    await play.sent()


async def garbage_is_acknowledged(play: Play) -> None:
    await play.acknowledged(lambda sent: sent.payload is None, "garbage that is acknowledged")
    await play.sent()


async def hang_before_all_else(play: Play) -> None:
    """An attempt that lasts holds DELIVERY's ack floor: what is acknowledged behind it stays visible there."""
    await play.world.flood.send("d1")
    paths = [path_of(route) for route in play.named("hanging")]
    await eventually(lambda: all(map(play.world.receiver.tried, paths)), 30, what="attempts that hang")


async def shunt_some(play: Play) -> None:
    """A dead destination's messages go to the siding."""
    shunts = await play.site.pulse.metric_sum("delivery", "pulse_delivery_shunts_total")
    await play.acknowledged(lambda sent: "/device/d0/" in sent.topic, "a message for the dead destination")
    await eventually(lambda: _shunted(play, shunts), 30, what="a shunt")


async def _shunted(play: Play, before: float) -> bool:
    return await play.site.pulse.metric_sum("delivery", "pulse_delivery_shunts_total") > before


async def kill_ingest_before_its_acks(play: Play) -> None:
    """What was stored is delivered to the store once more."""
    await play.sent()
    magazine = play.site.magazines["ingest"]
    armed = len(play.site.pulse.log("ingest", FAILPOINTS_ARMED))
    starts = magazine.starts
    magazine.failpoints.append("ingest.after_store=kill:3")
    async with play.fault("kills of ingest"):
        play.site.pulse.stack.kill("ingest")
        await eventually(lambda: magazine.starts == starts + 2, 60, what="the kill after the store")
        await play.site.pulse.stack.until_ready("ingest")
    play.prove(len(play.site.pulse.log("ingest", FAILPOINTS_ARMED)) > armed, "a process was armed, and replaced")
    await play.sent()


async def stop_nats(play: Play) -> None:
    """Nothing that is published is answered."""
    await play.sent()
    acked = play.world.flood.acked
    async with play.fault("nats down"), play.site.pulse.stack.down("nats"):
        refused = play.world.flood.refusals.total()
        # Whoever waits for a PubAck in vain acknowledges nothing, so the devices are refused.
        await eventually(
            lambda: play.world.flood.acked > acked + 5 or play.world.flood.refusals.total() > refused + 5,
            20,
            what="answers without nats-server",
        )
    await play.sent()


async def kill_ingest(play: Play) -> None:
    await play.sent()
    await play.crash("ingest")
    await play.sent()


async def kill_delivery(play: Play) -> None:
    await play.sent()
    await play.crash("delivery")
    await play.sent()


async def redirect(play: Play) -> None:
    for route in play.named("redirecting"):
        elsewhere = play.world.receiver.url(f"/elsewhere{path_of(route)}")
        play.world.receiver.behaviour[path_of(route)] = always(307, location=elsewhere)
    await play.sent()


async def move_behind_its_back(play: Play) -> None:
    """The router knows the new address, delivery cannot read it."""
    await play.sent()
    link = play.site.links.between("delivery", "postgres")
    broken = link.broken
    async with play.fault("delivery cut off from postgres"):
        link.cut()
        try:
            play.prove(link.broken > broken, "delivery's connections to PostgreSQL were reset")
            for route in play.named("healthy"):
                path = f"/new{path_of(route)}"
                play.world.webhooks.expect(path, route.secret)
                await route.update(config={"url": play.world.receiver.url(path)})
                play.world.move(route, path)
            await play.sent()
            moved = [f"/new{path_of(route)}" for route in play.named("healthy")]
            play.prove(not any(map(play.world.receiver.of, moved)), "delivery does not know the new addresses")
        finally:
            link.heal()


async def flood_past_a_stopped_router(play: Play) -> None:
    """More gathers than the stream has room for: it refuses, or forgets what nobody has routed yet."""
    flood, bug = play.world.flood, {"discard": "old", "discard_new_per_subject": False} if play.is_planted else {}
    await play.sent()
    async with (
        play.fault("router down"),
        play.site.pulse.stack.down("router"),
        _changed_stream(play.site, max_msgs=_ENOUGH, **bug),
    ):
        enough, refused = flood.acked + 3 * _ENOUGH, flood.refusals[REFUSED]
        await eventually(
            lambda: flood.acked >= enough or flood.refusals[REFUSED] > refused + 5,
            30,
            what="more than there is room for",
        )
    await play.sent()


async def until_swept_twice(play: Play) -> None:
    """Messages become dead letters in two sweeps each. Beside what is too old there are always some that are not."""
    await eventually(lambda: _swept_twice(play), 60, what="two sweeps of one message")
    await play.sent(2 * _ENOUGH)


def _swept_twice(play: Play) -> bool:
    expiring = {route.route_id for route in play.named("expiring")}
    buried = Counter(
        (entry["route_id"], entry["message_id"])
        for entry in play.site.pulse.log("delivery", ROUTE_DELIVERY_FAILED_DLQ, reason="max_age")
        if entry["route_id"] in expiring
    )
    return any(count > 1 for count in buried.values())


async def cut_the_power(play: Play) -> None:
    """The streams are old enough to be on the disk, the latest messages are not."""
    assert play.site.loop
    await play.site.loop.write_back()
    await play.sent()
    async with play.fault("power cut"):
        await cut_power(play.site)


@asynccontextmanager
async def _changed_stream(site: Site, **changes: object) -> AsyncGenerator[None, None]:
    """Run TELEMETRY with another configuration within the block."""
    wanted = stream_config(TELEMETRY, None)
    async with site.pulse.bus() as bus:
        await api_request(bus, f"STREAM.UPDATE.{TELEMETRY.name}", {**wanted, **changes})
        try:
            yield
        finally:
            await api_request(bus, f"STREAM.UPDATE.{TELEMETRY.name}", {**wanted, "max_msgs": -1})
