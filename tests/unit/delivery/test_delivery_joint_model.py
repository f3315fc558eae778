"""Lanes, budget, siding, room and breaker together, in many schedules of several processes and their faults.

A seed fixes a schedule: what is sent, which step comes next, what a destination answers, when a process dies or freezes
and when the broker restarts. A failure names its seed; `World(seed).run()` replays it.
"""

from collections import Counter

import pytest
from joint_world import World

SCHEDULES = 10_000
CHUNKS = 8
EVENTS = {
    "shunted",
    "lane_full",
    "lane_stuck",
    "no_slot",
    "gave way",
    "held",
    "opened",
    "grew",
    "paused",
    "moved to the tail",
    "adopted",
    "recovered",
    "siding_full",
    "killed",
}
"""What the schedules of a chunk must have gone through: a model in which nothing happens holds any invariant."""


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_the_invariants_hold_in_every_schedule(chunk: int) -> None:
    run, happened = 0, Counter[str]()
    for seed in range(chunk, SCHEDULES, CHUNKS):
        world = World(seed)
        try:
            world.run()
        except AssertionError as exc:
            raise AssertionError(f"seed {seed}: {exc}") from exc
        run += 1
        happened += world.happened
    assert run == SCHEDULES // CHUNKS
    assert not EVENTS - happened.keys()
