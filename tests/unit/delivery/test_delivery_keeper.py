"""Turns that begin together: what a process finds waiting when it starts, or after a crowd failed at once."""

from dataclasses import replace
from itertools import pairwise

from whole_world import ROUTES, World, standing

from pulse_delivery.domain.roster import RosterLimits


def test_turns_of_one_look_begin_one_after_the_other() -> None:
    world, openings = World(0), list[float]()
    world.bounds = replace(world.bounds, turns=RosterLimits())
    world.mood = dict.fromkeys(ROUTES, "dead")
    with world.loop:
        for number, address in enumerate(ROUTES):
            world.server.put_aside(address, standing(address, number, 0.0))
        process = world.start()
        world.processes.append(process)
        try:
            for _ in range(150):
                world.loop.advance(0.01)
                openings += [world.loop.time()] * (world.server.happened["opened"] - len(openings))
        finally:
            process.end()

    gaps = [after - before for before, after in pairwise(openings)]
    assert len(openings) == len(ROUTES)
    assert min(gaps) > 0.1
