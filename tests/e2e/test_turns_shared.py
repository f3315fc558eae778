"""More troubled routes than there are consumers for: all of them are tried in turn, and no tenant has them all."""

from collections import Counter
from collections.abc import AsyncGenerator

import pytest
from support.pulse import Pulse, running
from support.receiver import Receiver, always
from support.turns import turns
from support.waiting import eventually

CONSUMERS = 4
ROUTES = 8
"""Of one tenant, all of them in trouble."""
ITS_SHARE = 2
"""A tenant may have another only while more are free than it has."""
IMPATIENT = {"backoff": {"first_s": 0.2, "factor": 1, "cap_s": 0.2}, "max_attempts": 1000}
"""Pauses far shorter than what a turn gives its place up for, and no message dies to make room."""
TRIES = 2
"""Of each: one on the fast lane, and one in a turn at least."""


class Seen:
    """The most consumers that there were at once whenever somebody looked."""

    def __init__(self, pulse: Pulse) -> None:
        self._pulse = pulse
        self.most = Counter[str]()
        """By tenant."""
        self.most_in_all = 0

    async def look(self) -> Counter[str]:
        now = Counter[str](address.tenant for address in await turns(self._pulse))
        self.most |= now
        self.most_in_all = max(self.most_in_all, now.total())
        return self.most


@pytest.fixture(scope="module")
async def pulse(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Pulse]:
    only = {"delivery": {"PULSE_SIDING_CONSUMERS": str(CONSUMERS)}}
    async with running(tmp_path_factory.mktemp("pulse"), only=only) as stack:
        yield stack


@pytest.mark.timeout(180)
async def test_dead_endpoints_of_one_tenant_leave_consumers_for_the_others(pulse: Pulse, receiver: Receiver) -> None:
    greedy, modest = await pulse.tenant("greedy"), await pulse.tenant("modest")
    device = await greedy.device()
    paths = [f"/greedy/{number}" for number in range(ROUTES)]
    for path in (*paths, "/modest"):
        receiver.behaviour[path] = always(503)
    sick = [
        await greedy.webhook(receiver.url(path), name=f"r{number}", policy=IMPATIENT)
        for number, path in enumerate(paths)
    ]
    route = await modest.webhook(receiver.url("/modest"), policy=IMPATIENT)

    seen = Seen(pulse)
    await device.accepted({})
    await eventually(seen.look, until=lambda most: most[greedy.tenant_id] == ITS_SHARE, what="its share of consumers")
    await (await modest.device()).accepted({})
    await eventually(seen.look, until=lambda most: most[modest.tenant_id], what="a consumer for the other tenant")

    # On the fast lane, and in turns, of which each gives its place to another of the tenant's.
    def are_all_tried(_most: Counter[str]) -> bool:
        return min(_tries(receiver, path) for path in paths) >= TRIES

    await eventually(seen.look, 90, until=are_all_tried, what="tries of every route")
    receiver.behaviour.pop("/modest")
    await eventually(route.waiting, until=lambda waiting: not waiting, what="recovery beside who stays sick")
    assert (await seen.look())[greedy.tenant_id] == ITS_SHARE
    assert seen.most_in_all <= CONSUMERS

    for path in paths:
        receiver.behaviour.pop(path)
    for each in sick:
        await eventually(each.waiting, 60, until=lambda waiting: not waiting, what="everybody's recovery")
    assert all(len({request.message_id for request in receiver.of(path)}) == 1 for path in paths)


def _tries(receiver: Receiver, path: str) -> int:
    return sum(request.path == path for request in receiver.received)
