from dataclasses import replace

from delivery_builders import address

from pulse_contracts.ids import TenantId
from pulse_contracts.outcome import Delivered, Failed, Reach, Rejected
from pulse_contracts.subjects import RouteAddress
from pulse_delivery.domain.uplink import Uplink

CUT = Failed(error="no route to host", answered=False, reach=Reach.NOWHERE)
HUNG = Failed(error="timed out in phase answer", answered=False, reach=Reach.DESTINATION)
NEUTRAL = Rejected(error="address refused", reason="address_refused")


def routes(count: int, *, tenants: int = 4, prefix: str = "r") -> list[RouteAddress]:
    return [replace(address(f"{prefix}-{n}"), tenant=TenantId(f"t-{n % tenants}")) for n in range(count)]


def reached(uplink: Uplink, addresses: list[RouteAddress], now: float) -> None:
    for one in addresses:
        uplink.note(one, Delivered(), now)


def cut(uplink: Uplink, addresses: list[RouteAddress], now: float) -> None:
    for one in addresses:
        uplink.note(one, CUT, now)


def test_it_is_down_when_most_routes_that_were_reached_are_cut_off() -> None:
    uplink, all_routes = Uplink(), routes(20)
    reached(uplink, all_routes, 0.0)

    cut(uplink, all_routes[:10], 1.0)
    assert not uplink.is_down

    cut(uplink, all_routes[10:11], 1.0)
    assert uplink.is_down


def test_one_answer_ends_it() -> None:
    uplink, all_routes = Uplink(), routes(20)
    reached(uplink, all_routes, 0.0)
    cut(uplink, all_routes, 1.0)

    uplink.note(all_routes[3], HUNG, 2.0)

    assert not uplink.is_down


def test_an_answer_half_a_second_ago_is_proof_enough() -> None:
    uplink, all_routes = Uplink(), routes(20)
    reached(uplink, all_routes, 0.0)
    uplink.note(all_routes[0], Delivered(), 1.0)

    cut(uplink, all_routes, 1.4)
    assert not uplink.is_down

    cut(uplink, all_routes, 1.6)
    assert uplink.is_down


def test_a_tenant_with_most_of_the_routes_is_not_most_tenants() -> None:
    uplink = Uplink()
    hostile = routes(100, tenants=1, prefix="dead")
    others = [replace(one, tenant=TenantId("other")) for one in routes(3)]
    reached(uplink, [*hostile, *others], 0.0)

    cut(uplink, hostile, 1.0)

    assert not uplink.is_down


def test_routes_that_were_never_reached_prove_nothing_beside_one_that_was() -> None:
    uplink = Uplink()
    reached(uplink, routes(6, prefix="alive"), 0.0)

    cut(uplink, routes(100, prefix="dead"), 1.0)

    assert not uplink.is_down


def test_what_was_reached_more_than_a_minute_ago_counts_no_longer() -> None:
    uplink, all_routes = Uplink(), routes(20)
    reached(uplink, all_routes, 0.0)

    cut(uplink, all_routes, 61.0)

    assert not uplink.is_down


def test_a_process_that_never_reached_anybody_takes_it_for_its_own_trouble() -> None:
    uplink = Uplink()

    cut(uplink, routes(4), 0.0)
    assert not uplink.is_down

    cut(uplink, routes(5), 0.0)
    assert uplink.is_down


def test_one_tenant_whose_routes_are_all_dead_does_not_stop_a_process_that_just_started() -> None:
    uplink = Uplink()

    cut(uplink, routes(20, tenants=1), 0.0)

    assert not uplink.is_down


def test_a_refusal_without_a_try_says_nothing() -> None:
    uplink, all_routes = Uplink(), routes(20)
    reached(uplink, all_routes, 0.0)
    cut(uplink, all_routes, 1.0)

    uplink.note(all_routes[0], NEUTRAL, 2.0)

    assert uplink.is_down


def test_a_route_that_hangs_is_suspected_like_one_that_failed() -> None:
    uplink, all_routes = Uplink(), routes(20)
    reached(uplink, all_routes, 0.0)

    for one in all_routes[:11]:
        uplink.suspect(one, 1.0)

    assert uplink.is_down


def test_who_never_reached_anybody_and_gives_up_takes_all_for_theirs_until_somebody_is_reached() -> None:
    uplink, all_routes = Uplink(), routes(20)
    cut(uplink, all_routes, 0.0)
    assert uplink.give_up()
    assert not uplink.is_down

    cut(uplink, all_routes, 1.0)
    assert not uplink.is_down

    reached(uplink, all_routes, 2.0)
    cut(uplink, all_routes, 3.0)
    assert uplink.is_down


def test_who_reached_somebody_does_not_give_up() -> None:
    uplink, all_routes = Uplink(), routes(20)
    reached(uplink, all_routes, 0.0)
    cut(uplink, all_routes, 1.0)
    assert not uplink.give_up()
    assert uplink.is_down
