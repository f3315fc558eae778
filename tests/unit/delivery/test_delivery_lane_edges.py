"""What the fast lane does with what waits in a lane: when the route fails, when it is too much, when it has lapsed."""

from dataclasses import replace

from one_process import ROUTE, one_process
from server_in_memory import MAX_ACK_PENDING

from pulse_contracts.outcome import Failed
from pulse_delivery.domain.limits import LaneLimits

ONE_AT_A_TIME = replace(LaneLimits(), lane_in_flight=1)
DEAD = Failed(error="refused", answered=False)


def test_what_waits_behind_a_failure_goes_behind_it() -> None:
    with one_process(limits=replace(LaneLimits(), lane_in_flight=2)) as one:
        one.takes_s.update({1: 0.2, 2: 0.3, 3: 0.4, 4: 0.2})
        one.outcomes[1] = DEAD
        one.send(*range(1, 9))
        one.loop.advance(0.5)
        # The failure makes room for the third before anybody knows of it; with it the rest is withdrawn.
        assert one.tried() == [1, 2, 3]
        assert sorted(stored.number for stored in one.server.siding[ROUTE].values()) == [1, 4, 5, 6, 7, 8]


def test_lanes_give_way_before_they_fill_what_is_kept_for_what_comes() -> None:
    limits = replace(LaneLimits(), held_messages=MAX_ACK_PENDING // 2)
    with one_process(limits=limits) as one:
        one.process.lanes.hold(ROUTE.route)
        one.send(*range(1, 18))
        one.loop.advance(1.5)
        assert one.server.happened["held_limit"] == 17
        assert not one.process.lanes.held


def test_a_message_that_lapsed_in_its_lane_is_not_tried() -> None:
    with one_process(limits=ONE_AT_A_TIME) as one:
        one.takes_s[1] = 0.4
        one.send(1, 2)
        one.until(lambda: one.tried() == [1])
        one.stand_still(one.server.lane)
        assert one.tried() == [1]
