"""The way out is lost for all webhooks at once: pulling stops, nothing is shunted wholesale, all resumes."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
from support import names
from support.names import NameService
from support.pulse import Pulse, running
from support.receiver import Receiver, always, listening, takes
from support.tenant import Device, Route
from support.waiting import eventually

from pulse_bus.api import api_request
from pulse_delivery.domain.limits import LaneLimits
from pulse_runtime.events import MESSAGES_SHUNTED
from pulse_testkit.way_out import WayOut

pytestmark = pytest.mark.alone

TENANTS, ROUTES_EACH = 4, 10
INTERVAL_S = 0.25
QUIET_S = 0.5
"""Where nobody answers for so long, it may be an outage (ADR 0023)."""
NOTICED_S = 10.0
STOPS_S = 20.0
REPLICAS = 20
"""The part of one of so many is full when the outage is noticed: so a test sees the pulling stop."""
ANSWERS_AFTER_S = 0.3
APART_S = 3.0
NAMES_KEPT_S = 10
"""As long as the answers of the name service are used anyway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Devices whose every message goes to a route of their own, all of them behind one way out."""

    pulse: Pulse
    devices: list[Device]
    routes: list[Route]

    async def send_for(
        self, seconds: float, devices: Sequence[Device] = (), *, every_s: float = INTERVAL_S
    ) -> set[str]:
        """Send from these devices, or all, at a steady rate; returns the ids."""
        deadline = asyncio.get_running_loop().time() + seconds
        sent: set[str] = set()
        while asyncio.get_running_loop().time() < deadline:
            pause = asyncio.create_task(asyncio.sleep(every_s))
            sent.update(
                await asyncio.gather(*(device.accepted({}, device.device_id) for device in devices or self.devices))
            )
            await pause
        return sent

    async def shunted(self) -> float:
        return await self.pulse.metric_sum("delivery", "pulse_delivery_shunts_total")

    @property
    def ids(self) -> set[str]:
        """Of the routes."""
        return {route.route_id for route in self.routes}

    def outages(self, event: str) -> int:
        return len(self.pulse.log("delivery", event, kind="webhook"))


@pytest.fixture(scope="module")
def name_service(tmp_path_factory: pytest.TempPathFactory) -> NameService:
    return NameService(tmp_path_factory.mktemp("names"))


@pytest.fixture(scope="module")
async def pulse(tmp_path_factory: pytest.TempPathFactory, name_service: NameService) -> AsyncGenerator[Pulse]:
    ours = {"PULSE_DELIVERY_REPLICAS": str(REPLICAS), "PULSE_EGRESS_NAMES_KEPT_S": str(NAMES_KEPT_S)}
    only = {"delivery": ours | name_service.variables}
    async with running(tmp_path_factory.mktemp("pulse"), only=only, PULSE_LOG_LEVEL="debug") as stack:
        yield stack


@pytest.fixture
async def way_out(receiver: Receiver) -> AsyncGenerator[WayOut]:
    async with WayOut(receiver.port) as opened:
        yield opened


@pytest.fixture
async def fleet(pulse: Pulse, way_out: WayOut) -> Fleet:
    return await make_fleet(pulse, lambda _name: f"http://127.0.0.1:{way_out.port}/hook", tenants=TENANTS)


async def make_fleet(pulse: Pulse, url: Callable[[str], str], *, tenants: int) -> Fleet:
    """Make routes to what *url* says of the name of each."""
    devices: list[Device] = []
    routes: list[Route] = []
    for number in range(tenants):
        tenant = await pulse.tenant()
        called = [f"d{number}-{index}" for index in range(ROUTES_EACH)]
        devices += await pulse.devices(tenant, *called)
        routes += [
            await tenant.webhook(url(name), name=name, topic_filter=f"tenant/+/device/+/{name}") for name in called
        ]
    return Fleet(pulse=pulse, devices=devices, routes=routes)


@pytest.mark.timeout(120)
async def test_pulling_stops_and_nothing_is_shunted_while_no_name_can_be_looked_up(
    pulse: Pulse, name_service: NameService
) -> None:
    # The first here: of the routes that were reached within the last minute more than half have to be cut off.
    async with listening(Receiver(names.PORT, host=names.ADDRESS, tls=name_service.tls)) as receiver:
        # Else the connections that stand would be used on, and no name be asked for.
        receiver.behaviour["/hook"] = always(204, connection="close")
        fleet = await make_fleet(pulse, lambda name: name_service.url(name, "/hook"), tenants=2)
        # Their answers are not equally old, as in life: longer apart than a failure waits for the verdict.
        sent = await fleet.send_for(APART_S, fleet.devices[:ROUTES_EACH]) | await fleet.send_for(1.0)
        await _expect_delivery(fleet, sent, receiver)

        name_service.fail()
        began = fleet.outages("outage_began")
        async with asyncio.timeout(2 * NAMES_KEPT_S):
            while fleet.outages("outage_began") == began:
                sent |= await fleet.send_for(INTERVAL_S)
        print(f"{len(receiver.of('/hook'))} of {len(sent)} were delivered until the old answers had run out")
        sent |= await _expect_pulling_to_stop(fleet, sent, receiver)

        name_service.mend()
        await _expect_all_to_resume(fleet, sent, receiver)


@pytest.mark.timeout(120)
async def test_pulling_stops_and_nothing_is_shunted_while_nobody_can_be_reached(
    fleet: Fleet, way_out: WayOut, receiver: Receiver
) -> None:
    troubled = await _troubled(fleet.pulse, way_out, receiver)
    sent = await fleet.send_for(2.0)
    await _expect_delivery(fleet, sent, receiver)

    await way_out.shut()
    began = fleet.outages("outage_began")
    async with asyncio.timeout(NOTICED_S):
        while fleet.outages("outage_began") == began:
            sent |= await fleet.send_for(INTERVAL_S)
    sent |= await _expect_pulling_to_stop(fleet, sent, receiver)

    # What gathered meanwhile is more than the process holds, and leaves more slowly than it could be taken.
    receiver.behaviour["/hook"] = takes(ANSWERS_AFTER_S)
    way_out.open()
    await _expect_all_to_resume(fleet, sent, receiver)
    await eventually(lambda: receiver.of("/troubled"), what="the troubled route")
    await eventually(troubled.waiting, until=lambda waiting: not waiting, what="its recovery")


async def _expect_delivery(fleet: Fleet, sent: set[str], receiver: Receiver) -> None:
    """Each once, and acknowledged."""
    await eventually(lambda: {r.message_id for r in receiver.of("/hook")} == sent, 20, what="delivery of all")
    await _settled(fleet, 0)
    assert len(receiver.of("/hook")) == len(sent)


async def _expect_pulling_to_stop(fleet: Fleet, sent: set[str], receiver: Receiver) -> set[str]:
    """Send until the server says that of a whole second's messages delivery has pulled none; returns their ids."""
    more, held, before = set[str](), 0, -1
    async with asyncio.timeout(STOPS_S):
        while held != before:
            more |= await fleet.send_for(1.0)
            before, (held, left) = held, await _settled(fleet, len(sent | more) - len(receiver.of("/hook")))
            print(f"{held} are held, {left} are left in DELIVERY")
    assert 0 < held <= LaneLimits().held_messages / REPLICAS / 2, "the other kinds have their part"
    return more


async def _settled(fleet: Fleet, undelivered: int) -> tuple[int, int]:
    return await eventually(
        lambda: _held_and_left(fleet.pulse),
        until=lambda both: sum(both) == undelivered,
        what=f"{undelivered} messages in DELIVERY, none in the siding",
    )


async def _expect_all_to_resume(fleet: Fleet, sent: set[str], receiver: Receiver) -> None:
    sent |= await fleet.send_for(1.0)
    await eventually(lambda: fleet.outages("outage_ended") == fleet.outages("outage_began"), 20, what="its end")
    await _expect_delivery(fleet, sent, receiver)
    assert not [shunt for shunt in fleet.pulse.log("delivery", MESSAGES_SHUNTED) if shunt["route_id"] in fleet.ids]


async def _troubled(pulse: Pulse, way_out: WayOut, receiver: Receiver) -> Route:
    """Return a route behind the way out that sits out a pause, longer than the test, and whose destination is well."""
    tenant = await pulse.tenant("troubled")
    device = await tenant.device()
    receiver.behaviour["/troubled"] = always(503, retry_after="100")
    route = await tenant.webhook(f"http://127.0.0.1:{way_out.port}/troubled")
    await device.accepted({})
    await eventually(route.waiting, what="trouble")
    receiver.behaviour.pop("/troubled")
    return route


async def _held_and_left(pulse: Pulse) -> tuple[int, int]:
    """Return how many webhook messages delivery has pulled and not settled, and how many it has not pulled."""
    async with pulse.bus() as bus:
        info = await api_request(bus, "CONSUMER.INFO.DELIVERY.deliver-webhook")
    return info["num_ack_pending"], info["num_pending"]


@pytest.mark.timeout(120)
async def test_one_answer_proves_the_way_out(fleet: Fleet, way_out: WayOut, receiver: Receiver) -> None:
    """However many endpoints are dead, one that answers keeps its messages coming at once."""
    pulse = fleet.pulse
    tenant = await pulse.tenant()
    device = await tenant.device()
    await tenant.webhook(receiver.url("/alive"))
    began, before = fleet.outages("outage_began"), await fleet.shunted()

    async def keep_alive(offset_s: float) -> set[str]:
        await asyncio.sleep(offset_s)
        return {await device.accepted({"n": number}) for number in range(60) if not await asyncio.sleep(0.1)}

    await way_out.shut()
    # Two senders, and a message a second for each dead endpoint: the answers must come closer than half a second.
    *alive, _ = await asyncio.gather(keep_alive(0.0), keep_alive(0.05), fleet.send_for(4.0, every_s=1.0))

    await eventually(lambda: {r.message_id for r in receiver.of("/alive")} == set[str]().union(*alive))
    times = sorted(request.at for request in receiver.of("/alive"))
    quiet_s = max(later - earlier for earlier, later in pairwise(times))
    print(f"nobody answered for {quiet_s:.2f} s at most")
    if quiet_s < QUIET_S / 2:
        assert fleet.outages("outage_began") == began
    assert await fleet.shunted() > before
    way_out.open()
