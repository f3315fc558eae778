"""Whole delivery processes together, in many schedules of their faults, on a virtual clock.

All of delivery runs as it is, on a server, a network and destinations in memory. A seed fixes a schedule; a failure
names it, and `World(seed).run()` replays it.
"""

import logging
from collections import Counter
from collections.abc import Generator

import pytest
import structlog
from whole_world import World

SCHEDULES = 320
CHUNKS = 4
EVENTS = {
    "shunted",
    "opened",
    "grew",
    "paused",
    "moved to the tail",
    "hold",
    "withdraw",
    "release",
    "recovered",
    "adopted",
    "siding_full",
    "held_limit",
    "max_attempts",
    "killed",
    "edited",
    "parked",
    "enabled",
    "route_deleted",
    "max_age",
}
"""What the schedules of a chunk must have gone through: a model in which nothing happens holds any invariant."""


@pytest.fixture(autouse=True)
def _silence() -> Generator[None]:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


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
        happened += world.witness.happened
    assert run == SCHEDULES // CHUNKS
    assert not EVENTS - happened.keys()
