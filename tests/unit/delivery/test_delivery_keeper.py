"""Turns that begin together: what a process finds waiting when it starts, or after a crowd failed at once."""

from dataclasses import replace
from itertools import pairwise

from server_in_memory import at, subject_of
from whole_world import ROUTES, World, body

from pulse_bus.outgoing import Outgoing
from pulse_contracts import headers
from pulse_delivery.domain.roster import RosterLimits


def test_turns_of_one_look_begin_one_after_the_other() -> None:
    world, openings = World(0), list[float]()
    world.bounds = replace(world.bounds, turns=RosterLimits())
    world.mood = dict.fromkeys(ROUTES, "dead")
    with world.loop:
        for number, address in enumerate(ROUTES):
            fields = {headers.ROUTE_REVISION: "1", headers.ROUTED_AT: str(int(at(0.0).timestamp() * 1000))}
            world.server.put_aside(
                address,
                Outgoing(
                    subject=subject_of(address),
                    data=body(address, number, 0),
                    message_id=f"m-{number}:{address.route}:s",
                    headers=fields,
                ),
            )
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
