from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime, timedelta
from itertools import pairwise

from delivery_builders import NOW, address

from pulse_contracts.ids import TenantId
from pulse_contracts.subjects import RouteAddress
from pulse_contracts.turns import HeadTries, TurnListing
from pulse_delivery.domain.roster import Rest, Roster, RosterLimits, Serving

ONE, OTHER = address("r-1"), address("r-2")
LOOK = timedelta(seconds=1)
IN_5_MINUTES = NOW + timedelta(minutes=5)
WORKING = Serving(paused_until=None)


def of(tenant: str, count: int) -> list[RouteAddress]:
    return [replace(address(f"{tenant}-{n}"), tenant=TenantId(tenant)) for n in range(count)]


def turn(
    route: RouteAddress,
    owner: str = "other",
    *,
    name: str = "turn-1",
    pulled: bool = True,
    pause: datetime | None = None,
) -> TurnListing:
    return TurnListing(
        address=route, name=name, owner=owner, is_pulled=pulled, failures=3, paused_until=pause, since=NOW - LOOK
    )


def listed(*turns: TurnListing) -> dict[RouteAddress, TurnListing]:
    return {turn.address: turn for turn in turns}


def waiting(*routes: RouteAddress) -> dict[RouteAddress, int]:
    return dict.fromkeys(routes, 1)


def planned(
    roster: Roster,
    troubled: dict[RouteAddress, int],
    turns: dict[RouteAddress, TurnListing],
    at: datetime,
    *,
    mine: Mapping[RouteAddress, Serving] | None = None,
    opening: Sequence[RouteAddress] = (),
) -> dict[str, list[RouteAddress]]:
    """Return what is to be done, without what is not."""
    plan = roster.plan(troubled, turns, mine or {}, at, opening=opening)
    return {field.name: list(getattr(plan, field.name)) for field in fields(plan) if getattr(plan, field.name)}


def test_a_troubled_route_that_nobody_serves_gets_a_turn() -> None:
    assert planned(Roster("me"), waiting(ONE), {}, NOW) == {"open": [ONE]}


def test_a_route_that_another_process_serves_is_left_to_it() -> None:
    assert planned(Roster("me"), waiting(ONE), listed(turn(ONE)), NOW) == {}


def test_a_turn_that_is_being_opened_here_is_not_opened_twice() -> None:
    assert planned(Roster("me"), waiting(ONE), {}, NOW, opening=[ONE]) == {}


def test_a_turn_at_which_nobody_pulls_is_adopted_at_the_second_look() -> None:
    roster, silent = Roster("me"), listed(turn(ONE, pulled=False))
    assert planned(roster, waiting(ONE), silent, NOW) == {}
    assert planned(roster, waiting(ONE), silent, NOW + LOOK) == {"adopt": [ONE]}


def test_a_turn_that_pauses_needs_no_pulls_while_its_process_is_heard_of() -> None:
    living = {"other"}
    roster, silent = Roster("me", lives=living.__contains__), listed(turn(ONE, pulled=False))
    for nth in range(5):
        assert planned(roster, waiting(ONE), silent, NOW + nth * LOOK) == {}
    living.clear()
    assert planned(roster, waiting(ONE), silent, NOW + 5 * LOOK) == {}
    assert planned(roster, waiting(ONE), silent, NOW + 6 * LOOK) == {"adopt": [ONE]}


def test_a_turn_that_is_pulled_at_again_is_not_adopted() -> None:
    roster, silent = Roster("me"), listed(turn(ONE, pulled=False))
    planned(roster, waiting(ONE), silent, NOW)
    planned(roster, waiting(ONE), listed(turn(ONE)), NOW + LOOK)
    assert planned(roster, waiting(ONE), silent, NOW + 2 * LOOK) == {}


def test_the_next_turn_of_a_route_is_not_taken_for_the_silent_one_before() -> None:
    roster = Roster("me")
    planned(roster, waiting(ONE), listed(turn(ONE, pulled=False)), NOW)
    just_made = listed(turn(ONE, name="turn-2", pulled=False))
    assert planned(roster, waiting(ONE), just_made, NOW + LOOK) == {}


def test_a_busy_turn_is_not_taken_for_silent_though_it_does_not_pull_at_the_moment() -> None:
    roster, quiet = Roster("me"), turn(ONE, pulled=False)
    roster.plan(waiting(ONE), listed(quiet), {}, NOW)
    assert planned(roster, waiting(ONE), listed(replace(quiet, progress=(7, 5))), NOW + LOOK) == {}


def test_a_process_that_stood_still_does_not_judge_by_what_it_saw_before() -> None:
    roster, silent = Roster("me"), listed(turn(ONE, pulled=False))
    roster.plan(waiting(ONE), silent, {}, NOW)
    assert planned(roster, waiting(ONE), silent, NOW + 10 * LOOK) == {}
    assert planned(roster, waiting(ONE), silent, NOW + 11 * LOOK) == {"adopt": [ONE]}


def test_a_silent_turn_without_messages_is_cleared_away() -> None:
    roster, silent = Roster("me"), listed(turn(ONE, pulled=False))
    planned(roster, {}, silent, NOW)
    assert planned(roster, {}, silent, NOW + LOOK) == {"clear": [ONE]}


def test_a_turn_of_ours_that_we_do_not_serve_is_taken_up_at_once() -> None:
    assert planned(Roster("me"), waiting(ONE), listed(turn(ONE, "me", pulled=False)), NOW) == {"adopt": [ONE]}


def test_a_turn_whose_consumer_is_gone_or_another_s_ends() -> None:
    plan = planned(Roster("me"), waiting(ONE, OTHER), listed(turn(OTHER)), NOW, mine={ONE: WORKING, OTHER: WORKING})
    assert plan == {"leave": [ONE, OTHER]}


def test_an_adopted_turn_goes_on_with_the_breaker_of_the_one_before() -> None:
    roster, silent = Roster("me"), listed(turn(ONE, pulled=False, pause=IN_5_MINUTES))
    planned(roster, waiting(ONE), silent, NOW)
    assert planned(roster, waiting(ONE), silent, NOW + LOOK)["adopt"] == [ONE]
    assert roster.recall(ONE) == Rest(failures=3, not_before=NOW + LOOK, paused_until=IN_5_MINUTES, since=NOW - LOOK)


def test_a_turn_of_another_process_that_vanished_is_made_again_with_its_pause() -> None:
    roster = Roster("me")
    planned(roster, waiting(ONE), listed(turn(ONE, pause=IN_5_MINUTES)), NOW)
    assert planned(roster, waiting(ONE), {}, NOW + LOOK) == {"open": [ONE]}
    rest = roster.recall(ONE)
    assert rest
    assert rest.paused_until == IN_5_MINUTES


def test_a_breaker_is_remembered_until_its_route_recovers() -> None:
    roster = Roster("me")
    roster.remember(ONE, Rest(failures=2, not_before=NOW + LOOK))
    assert planned(roster, waiting(ONE), {}, NOW) == {}
    assert planned(roster, waiting(ONE), {}, NOW + LOOK) == {"open": [ONE]}
    planned(roster, {}, {}, NOW + 2 * LOOK)
    assert roster.recall(ONE) is None


def test_of_a_parked_route_only_the_tries_are_remembered() -> None:
    roster, tries = Roster("me"), (HeadTries(message_id="m-1", attempts=5, answered=2),)
    roster.remember(ONE, Rest(failures=2, not_before=NOW, paused_until=IN_5_MINUTES, error="answered 503", heads=tries))
    roster.remember(OTHER, Rest(failures=2, not_before=NOW, paused_until=IN_5_MINUTES))
    roster.plan({}, {}, {}, NOW, parked=[ONE, OTHER])
    roster.plan(waiting(ONE, OTHER), {}, {}, NOW)
    assert roster.recall(ONE) == Rest(failures=0, not_before=NOW, heads=tries)
    assert roster.recall(OTHER) is None


def test_a_crowd_that_fails_at_once_gets_its_turns_little_by_little() -> None:
    roster, crowd = Roster("me", RosterLimits(openings=10)), [*of("greedy", 100), *of("modest", 3)]
    first = planned(roster, waiting(*crowd), {}, NOW)["open"]
    assert len(first) == 10
    assert [route.tenant for route in first].count(TenantId("modest")) == 3
    then = planned(roster, waiting(*crowd), {}, NOW + LOOK, opening=first[:4])["open"]
    assert len(then) == 6


def test_turns_that_were_lost_are_all_made_again_at_once() -> None:
    roster, crowd = Roster("me", RosterLimits(openings=10)), of("a", 50)
    roster.plan(waiting(*crowd), listed(*(turn(route, name=route.route) for route in crowd)), {}, NOW)
    assert len(planned(roster, waiting(*crowd), {}, NOW + LOOK)["open"]) == 50


def test_a_tenant_with_many_dead_endpoints_leaves_half_of_the_consumers() -> None:
    roster = Roster("me", RosterLimits(consumers=10))
    assert len(planned(roster, waiting(*of("greedy", 100)), {}, NOW)["open"]) == 5


def test_a_route_that_would_only_pause_gives_way_to_one_that_may_be_tried() -> None:
    roster = Roster("me", RosterLimits(consumers=2))
    roster.plan(waiting(ONE), listed(turn(ONE, pause=IN_5_MINUTES)), {}, NOW)
    assert planned(roster, {ONE: 1000, OTHER: 1}, {}, NOW + LOOK) == {"open": [OTHER]}


class Town:
    """Some processes that serve more routes than there may be consumers; each probe fails and pauses its route."""

    def __init__(self, processes: int, limits: RosterLimits, routes: Iterable[RouteAddress]) -> None:
        self.rosters = {f"p{n}": Roster(f"p{n}", limits) for n in range(processes)}
        self.routes = waiting(*routes)
        self.turns: dict[RouteAddress, TurnListing] = {}
        self.most_turns = 0
        self.probed: dict[RouteAddress, list[datetime]] = {route: [] for route in self.routes}

    def look(self, now: datetime, pause: timedelta) -> None:
        for owner, roster in self.rosters.items():
            mine = {
                route: Serving(paused_until=each.paused_until)
                for route, each in self.turns.items()
                if each.owner == owner
            }
            plan = roster.plan(self.routes, dict(self.turns), mine, now)
            for route in plan.retire:
                until = self.turns.pop(route).paused_until
                assert until
                roster.remember(route, Rest(failures=1, not_before=until, paused_until=until))
            for route in plan.open:
                self._open(route, owner, now, pause)
            self.most_turns = max(self.most_turns, len(self.turns))

    def _open(self, route: RouteAddress, owner: str, now: datetime, pause: timedelta) -> None:
        rest = self.rosters[owner].recall(route)
        until = rest.paused_until if rest else None
        if not (until and until > now):
            self.probed[route].append(now)
            until = now + pause
        self.turns[route] = turn(route, owner, name=route.route, pause=until)

    def end_pauses(self, now: datetime, pause: timedelta) -> None:
        for route, each in self.turns.items():
            if each.paused_until and each.paused_until <= now:
                self.probed[route].append(now)
                self.turns[route] = replace(each, paused_until=now + pause)


def test_more_troubled_routes_than_consumers_take_turns_and_no_pause_is_cut_short() -> None:
    pause, limits = timedelta(seconds=20), RosterLimits(consumers=12)
    town = Town(2, limits, [*of("a", 40), *of("b", 10), *of("c", 1)])
    for second in range(300):
        now = NOW + second * LOOK
        town.end_pauses(now, pause)
        town.look(now, pause)

    assert town.most_turns <= limits.consumers
    for moments in town.probed.values():
        gaps = [after - before for before, after in pairwise(moments)]
        assert len(moments) >= 2
        assert min(gaps) >= pause
