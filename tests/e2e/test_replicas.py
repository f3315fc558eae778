"""Two and three delivery processes: they share the work, and one that is killed or frozen at any step is replaced."""

import asyncio
import operator
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
from support.processes import connected_from
from support.pulse import Pulse, running
from support.receiver import Answer, Behaviour, Receiver, Request, always, open_receiver
from support.replicas import Replica, replica
from support.tenant import ACTOR, Device, Route, Tenant
from support.turns import turns, turns_of
from support.waiting import eventually

from pulse_bus.inspection import Standing, unacknowledged
from pulse_contracts.envelope import decode_envelope
from pulse_contracts.ids import TenantId
from pulse_contracts.subjects import RouteAddress, parse_route_address
from pulse_contracts.topology import ACK_WAIT_S
from pulse_contracts.turns import TurnListing
from pulse_control import routes
from pulse_runtime.events import ROUTE_DELIVERED, ROUTE_TROUBLED
from pulse_runtime.failpoints import FILE_VARIABLE as FAILPOINTS_FILE
from pulse_runtime.failpoints import VARIABLE as FAILPOINTS

pytestmark = pytest.mark.alone

Pair = tuple[str, str]
"""Message id and route id."""

SHARED = {"PULSE_DELIVERY_REPLICAS": "3"}
AMONG_THREE = [("kill", "before_shunt"), ("stop", "paused"), ("stop", "after_shunt"), ("kill", "probe")]
AMONG_TWO = [("stop", "before_shunt"), ("kill", "paused"), ("kill", "after_shunt"), ("stop", "probe")]
FAULTS = AMONG_THREE + AMONG_TWO
"""A process is frozen or killed at each step, beside two others or beside one."""
HEALTHY, MOST_SICK = 3, 19
INTERVAL_S = 0.03
ADOPTED_WITHIN_S = 5.0
SETTLED_WITHIN_S = 60.0
FROZEN_S = 3 * ACK_WAIT_S
"""A message may come to a frozen process, and so to each of them, before it comes to one that runs."""
IN_HAND_S = 4.0
"""So long an attempt and its acknowledgement take at most: the deadline, then the attempt's record gathers."""
ARRIVES_WITHIN_S = 0.5
"""So soon what a process had sent when it was struck is with the receiver."""


@dataclass(slots=True, kw_only=True)
class Campaign:
    """One process struck at one step, and what was sent around it."""

    pulse: Pulse
    receiver: Receiver
    tenant: Tenant
    device: Device
    victim: Replica
    step: str
    armed: Path
    """While this file is there, the process is struck at its next shunt, if that is the step."""
    routes: list[Route] = field(default_factory=list[Route])
    expected: set[Pair] = field(default_factory=set[Pair])
    sent_at: dict[Pair, float] = field(default_factory=dict[Pair, float])
    hanging: Counter[str] = field(default_factory=Counter[str])
    healed: asyncio.Event = field(default_factory=asyncio.Event)
    is_serving: bool = False
    """Whether the process has a turn; until then the sick routes get one message each."""
    struck_at: float = 0.0
    moving: set[str] = field(default_factory=set[str])
    """Matches that stood in the siding when it was struck, and were not acknowledged where they came from."""
    left: dict[RouteAddress, TurnListing] = field(default_factory=dict[RouteAddress, TurnListing])
    """The turns of the process when it was struck."""
    adopted: dict[RouteAddress, TurnListing] = field(default_factory=dict[RouteAddress, TurnListing])
    adopted_after_s: float = 0.0

    async def add(self, name: str, behaviour: Behaviour | None) -> None:
        """Add a route of which only messages of type *name* are."""
        path = f"/{self.tenant.tenant_id}/{name}"
        if behaviour:
            self.receiver.behaviour[path] = behaviour
        slow = {"first_s": 40, "factor": 1, "cap_s": 40} if self.step == "paused" and behaviour else None
        policy = {"deadline_s": 3, "max_attempts": 1000} | ({"backoff": slow} if slow else {})
        url, topic_filter = self.receiver.url(path), f"tenant/+/device/+/{name}"
        self.routes.append(await self.tenant.webhook(url, name=name, topic_filter=topic_filter, policy=policy))

    async def send(self, route: Route) -> None:
        pair = (await self.device.accepted({}, route.name), route.route_id)
        self.sent_at[pair] = time.monotonic()
        self.expected.add(pair)

    async def served(self) -> dict[RouteAddress, TurnListing]:
        """Return the turns that the victim has of this tenant's routes."""
        theirs = await turns_of(self.pulse, self.victim.owner)
        return {address: turn for address, turn in theirs.items() if address.tenant == self.tenant.tenant_id}

    def sick(self) -> Behaviour:
        return self._hangs if self.step == "probe" else always(500)

    async def _hangs(self, request: Request) -> Answer:
        self.hanging[request.path] += 1
        await self.healed.wait()
        self.hanging[request.path] -= 1
        # Whoever sent it may have given up: only an attempt that comes to its end is a delivery.
        return Answer(status=503)

    async def heal(self) -> None:
        self.healed.set()
        for route in self.routes:
            self.receiver.behaviour.pop(self.path(route.route_id), None)
        for route in self.routes if self.step == "paused" else []:
            # An edit ends a pause.
            await routes.update_route(self.pulse.control, self.tenant.tenant_id, route.name, {"policy": {}}, ACTOR)

    def path(self, route_id: str) -> str:
        return next(f"/{self.tenant.tenant_id}/{route.name}" for route in self.routes if route.route_id == route_id)

    def accepted(self) -> list[Request]:
        return [r for r in self.receiver.accepted if r.path.startswith(f"/{self.tenant.tenant_id}/")]

    def delivered(self) -> set[Pair]:
        pairs = (request.webhook_id.partition(":") for request in self.accepted())
        return {(message_id, route_id) for message_id, _, route_id in pairs}

    def in_hand(self) -> set[str]:
        """The matches that the process may have had in hand when it was struck.

        What it had tried just before: its own connections tell. What it still held when it wakes is another's by then.
        What was on its way into the siding comes from there and, to any process, once more: the server tells.
        """
        pid, since, until = self.victim.child.pid, self.struck_at - IN_HAND_S, self.struck_at + ARRIVES_WITHIN_S
        tried = {r.webhook_id for r in self.receiver.received if r.sender == pid and since <= r.at <= until}
        return self.moving | tried

    async def note_moving(self) -> None:
        async with self.pulse.bus() as bus:
            subject = f"delivery.*.{self.tenant.tenant_id}.*"
            owed = _pairs(await unacknowledged(bus, "DELIVERY", subject, "deliver-webhook"))
        recent = (pair for pair in owed & await self.waiting() if self._was_new_at_the_strike(pair))
        self.moving = {f"{message_id}:{route_id}" for message_id, route_id in recent}

    def _was_new_at_the_strike(self, pair: Pair) -> bool:
        return 0 <= self.struck_at - self.sent_at.get(pair, self.struck_at) <= IN_HAND_S

    async def waiting(self) -> set[Pair]:
        """What stands in the siding."""
        async with self.pulse.bus() as bus:
            return _pairs(await unacknowledged(bus, "SIDING", f"siding.*.{self.tenant.tenant_id}.*", None))


def _pairs(standing: Iterable[Standing]) -> set[Pair]:
    return {(decode_envelope(m.data).message_id, parse_route_address(m.subject).route) for m in standing}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What the campaigns share."""

    pulse: Pulse
    receiver: Receiver
    stack: AsyncExitStack
    """Ends the processes that were struck, when all is over."""
    pids: list[int]
    """Of every delivery process."""

    async def replica(self, name: str, **variables: str) -> Replica:
        made = await self.stack.enter_async_context(replica(self.pulse, name, **SHARED, **variables))
        self.pids.append(made.child.pid)
        return made


@pytest.fixture(scope="module")
async def campaigns(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[dict[tuple[str, str], Campaign]]:
    """All faults one after the other; what is frozen stays so until the last one has been shown."""
    folder = tmp_path_factory.mktemp("replicas")
    async with (
        running(folder, only={"delivery": SHARED}) as pulse,
        open_receiver() as receiver,
        AsyncExitStack() as stack,
    ):
        made: dict[tuple[str, str], Campaign] = {}
        stage = Stage(pulse=pulse, receiver=receiver, stack=stack, pids=[pulse.stack.pid("delivery")])
        receiver.sender_of = lambda port: connected_from(port, stage.pids)
        async with replica(pulse, "delivery-steady", **SHARED) as steady:
            stage.pids.append(steady.child.pid)
            for verb, step in AMONG_THREE[:-1]:
                made[verb, step] = await _campaign(stage, verb, step)
            verb, step = AMONG_THREE[-1]
            made[verb, step] = await _campaign(stage, verb, step, beside=("delivery", "delivery-steady"))
        for verb, step in AMONG_TWO:
            made[verb, step] = await _campaign(stage, verb, step)
        for campaign in made.values():
            if campaign.victim.child.status is None:
                campaign.victim.thaw()
            await campaign.heal()
        yield made


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("verb", "step"), FAULTS)
async def test_troubled_routes_are_adopted(campaigns: dict[tuple[str, str], Campaign], verb: str, step: str) -> None:
    campaign = campaigns[verb, step]
    print(f"{verb} {step}: {len(campaign.left)} turns adopted after {campaign.adopted_after_s:.2f} s")
    assert campaign.left
    assert campaign.adopted.keys() == campaign.left.keys()
    assert campaign.adopted_after_s <= ADOPTED_WITHIN_S


@pytest.mark.parametrize(("verb", "step"), FAULTS)
async def test_every_match_is_delivered_dead_lettered_or_waiting(
    campaigns: dict[tuple[str, str], Campaign], verb: str, step: str
) -> None:
    campaign = campaigns[verb, step]

    async def unsettled() -> set[Pair]:
        """What is nowhere, and what waits although its destination answers."""
        waiting = await campaign.waiting()
        dead = {(row.message_id, row.route_id) for row in await campaign.tenant.dead_letters()}
        return (campaign.expected - campaign.delivered() - dead - waiting) | waiting

    await eventually(unsettled, SETTLED_WITHIN_S, what="a fate for every match", until=operator.not_)
    assert not await campaign.tenant.dead_letters()


@pytest.mark.parametrize(("verb", "step"), FAULTS)
async def test_only_what_the_process_had_in_hand_is_delivered_twice(
    campaigns: dict[tuple[str, str], Campaign], verb: str, step: str
) -> None:
    campaign = campaigns[verb, step]
    times = Counter(request.webhook_id for request in campaign.accepted())
    twice = {webhook_id for webhook_id, count in times.items() if count > 1}
    in_hand = campaign.in_hand()
    print(f"{verb} {step}: {len(twice)} of {len(times)} delivered twice, {len(in_hand)} in hand")
    assert all(request.sender for request in campaign.accepted()), "each connection was traced to its process"
    assert twice - in_hand == set()


@pytest.mark.parametrize("verb", ["stop", "kill"])
async def test_a_pause_outlives_the_process_that_made_it(campaigns: dict[tuple[str, str], Campaign], verb: str) -> None:
    campaign = campaigns[verb, "paused"]
    for address, left in campaign.left.items():
        adopted = campaign.adopted[address]
        assert (adopted.paused_until, adopted.failures, adopted.since) == (left.paused_until, left.failures, left.since)


async def test_every_process_delivers_and_serves(campaigns: dict[tuple[str, str], Campaign]) -> None:
    campaign = campaigns["kill", "probe"]
    for process in ("delivery", "delivery-steady", campaign.victim.name):
        assert campaign.pulse.log(process, ROUTE_DELIVERED, tenant_id=campaign.tenant.tenant_id)
        assert campaign.pulse.log(process, ROUTE_TROUBLED)


async def _campaign(stage: Stage, verb: str, step: str, *, beside: Sequence[str] = ()) -> Campaign:
    """Strike a process once it serves a route, and those *beside* it have served one too."""
    pulse, receiver = stage.pulse, stage.receiver
    tenant = await pulse.tenant(f"{verb}-{step.replace('_', '-')}")
    armed = pulse.folder.path / f"armed-{verb}-{step}"
    point = {FAILPOINTS: f"delivery.{step}={verb}", FAILPOINTS_FILE: str(armed)} if "shunt" in step else {}
    victim = await stage.replica(f"delivery-{verb}-{step}", **point)
    device = await tenant.device()
    campaign = Campaign(
        pulse=pulse, receiver=receiver, tenant=tenant, device=device, victim=victim, step=step, armed=armed
    )
    for number in range(HEALTHY):
        await campaign.add(f"healthy-{number}", None)
    sending = asyncio.create_task(_keep_sending(campaign), name="test.sending")
    try:
        await _until_it_serves(campaign, beside)
        await _strike(campaign, verb)
        campaign.left = await turns_of(pulse, victim.owner)
        await campaign.note_moving()
        await eventually(lambda: _all_adopted(campaign), 20, what="adoption")
    finally:
        sending.cancel()
        await asyncio.wait({sending})
    return campaign


async def _keep_sending(campaign: Campaign) -> None:
    for number in count():
        routes = campaign.routes if campaign.is_serving else campaign.routes[:HEALTHY]
        await campaign.send(routes[number % len(routes)])
        await asyncio.sleep(INTERVAL_S)


async def _until_it_serves(campaign: Campaign, beside: Sequence[str]) -> None:
    """Make routes troubled until each has served one, the victim one of these: who looks takes what is troubled then.

    The next route is made meanwhile. If none were troubled for long after each look, a process might look just then
    every time, and get none.
    """
    await campaign.add("sick-0", campaign.sick())
    for number in range(MOST_SICK):
        await campaign.send(route := campaign.routes[-1])
        await campaign.add(f"sick-{number + 1}", campaign.sick())
        await eventually(lambda route=route: _has_turn(campaign, route), FROZEN_S, what="a turn")
        if await campaign.served() and all(campaign.pulse.log(other, ROUTE_TROUBLED) for other in beside):
            campaign.is_serving = True
            return
    raise AssertionError("the process serves no route")


async def _held_by_others(campaign: Campaign) -> set[TenantId]:
    async with campaign.pulse.bus() as bus:
        owed = await unacknowledged(bus, "DELIVERY", "delivery.>", "deliver-webhook")
    return {parse_route_address(message.subject).tenant for message in owed} - {campaign.tenant.tenant_id}


def _is_struck(campaign: Campaign) -> bool:
    return campaign.victim.child.status is not None or campaign.victim.is_frozen


async def _has_turn(campaign: Campaign, route: Route) -> bool:
    return any(address.route == route.route_id for address in await turns(campaign.pulse))


async def _strike(campaign: Campaign, verb: str) -> None:
    if "shunt" in campaign.step:
        # What a process struck before had in hand comes to this one too, and goes to the siding at once.
        await eventually(
            lambda: _held_by_others(campaign), FROZEN_S, what="an end of earlier ones", until=operator.not_
        )
        campaign.armed.touch()
        await eventually(lambda: _is_struck(campaign), 20, what="the failpoint")
        campaign.struck_at = time.monotonic()
        return
    await eventually(lambda: _is_at_step(campaign), 20, what=campaign.step)
    campaign.struck_at = await (campaign.victim.kill() if verb == "kill" else campaign.victim.freeze())


async def _is_at_step(campaign: Campaign) -> bool:
    mine = await campaign.served()
    if campaign.step == "probe":
        return any(campaign.hanging[campaign.path(address.route)] for address in mine)
    return any(turn.paused_until for turn in mine.values())


def _is_served(turn: TurnListing) -> bool:
    """Whether somebody pulls at it, tries something of it, or sits out its pause."""
    taken, settled = turn.progress
    return turn.is_pulled or taken > settled or turn.paused_until is not None


async def _all_adopted(campaign: Campaign) -> bool:
    listed = await turns(campaign.pulse)
    theirs = campaign.victim.owner
    campaign.adopted = {
        address: turn
        for address, turn in listed.items()
        if address in campaign.left and turn.owner != theirs and _is_served(turn)
    }
    campaign.adopted_after_s = time.monotonic() - campaign.struck_at
    return len(campaign.adopted) == len(campaign.left)
