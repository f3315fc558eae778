from collections.abc import Mapping
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pulse_contracts.ids import RouteId, TenantId
from pulse_contracts.subjects import RouteAddress
from pulse_delivery.domain.room import Bound, Claim, Extent, SidingRoom

MIB = 1024 * 1024
SIZES = st.integers(1, 1000)


def address(tenant: str, route: str = "r") -> RouteAddress:
    return RouteAddress(kind="webhook", tenant=TenantId(tenant), route=RouteId(f"{tenant}-{route}"))


def room(
    most_bytes: int | None = 1000, *, share: float = 1.0, most_per_route: int | None = None, used_bytes: int = 0
) -> SidingRoom:
    made = SidingRoom(share)
    count(made, {}, used_bytes, most_bytes, most_per_route)
    return made


def count(
    made: SidingRoom,
    waiting: Mapping[RouteAddress, int],
    used_bytes: int,
    most_bytes: int | None = 1000,
    most_per_route: int | None = None,
) -> None:
    made.count_begins()
    made.counted(waiting, Extent(used_bytes=used_bytes, most_bytes=most_bytes, most_per_route=most_per_route))


def fill(made: SidingRoom, where: RouteAddress, size_bytes: int = 1, claim: Claim = Claim.SHARE) -> int:
    """Enter messages of one size until one is refused; returns how many bytes went in."""
    entered = 0
    while made.enter(where, size_bytes, claim) is None:
        made.entered(where, size_bytes, stays=True)
        entered += size_bytes
    return entered


def refusal(made: SidingRoom, where: RouteAddress, size_bytes: int, claim: Claim = Claim.SHARE) -> Bound | None:
    refused = made.enter(where, size_bytes, claim)
    if refused is None:
        made.entered(where, size_bytes, stays=False)
    return refused.bound if refused else None


def test_routes_of_a_single_tenant_fill_half_of_the_siding_at_a_share_of_one() -> None:
    made = room()
    filled = sum(fill(made, address("acme", f"r{n}")) for n in range(20))
    assert filled == 500
    assert made.free_bytes == 500


def test_one_route_leaves_as_much_as_it_takes_to_its_tenants_other_routes() -> None:
    made = room()
    first = fill(made, address("acme", "dead"))
    assert first == 333
    assert fill(made, address("acme", "other")) > 0


def test_tenants_that_arrive_together_share_alike() -> None:
    made = room(10_000)
    tenants = [address(f"t{n}", f"r{k}") for n in range(3) for k in range(12)]
    held: dict[TenantId, int] = {}
    going = True
    while going:
        going = False
        for where in tenants:
            if made.enter(where, 1) is None:
                made.entered(where, 1, stays=True)
                held[where.tenant] = held.get(where.tenant, 0) + 1
                going = True
    assert all(size == pytest.approx(10_000 / 4, rel=0.1) for size in held.values())


@settings(deadline=None)
@given(st.sampled_from([0.25, 0.5, 1.0, 2.0]), st.integers(1, 8), st.data())
def test_greed_leaves_room_for_a_newcomer(share: float, tenants: int, data: st.DataObject) -> None:
    most = 1_000_000
    made = room(most, share=share)
    for _ in range(tenants * 30):
        where = address(f"t{data.draw(st.integers(1, tenants))}", f"r{data.draw(st.integers(1, 5))}")
        size = data.draw(st.integers(100, 40_000))
        if made.enter(where, size) is None:
            made.entered(where, size, stays=True)
    least_free = most / (1 + share) ** tenants
    assert made.free_bytes >= least_free
    assert refusal(made, address("newcomer"), int(least_free * share / (1 + share))) is None


def test_a_message_on_its_way_is_charged_at_once() -> None:
    made = room()
    assert made.enter(address("acme"), 300) is None
    assert made.free_bytes == 700
    assert made.held_bytes(TenantId("acme")) == 300


def test_a_message_that_came_to_nothing_is_credited() -> None:
    made = room()
    made.enter(address("acme"), 300)
    made.entered(address("acme"), 300, stays=False)
    assert made.free_bytes == 1000
    assert made.held_bytes(TenantId("acme")) == 0


def test_a_full_route_is_refused_with_its_number_of_messages() -> None:
    made = room(MIB, most_per_route=3)
    assert fill(made, address("acme")) == 3
    refused = made.enter(address("acme"), 1)
    assert refused is not None
    assert refused.bound is Bound.ROUTE_MESSAGES
    assert refused.error == "3 messages of the route wait already"
    assert refusal(made, address("acme", "other"), 1) is None


@pytest.mark.parametrize(("most", "entered"), [(3, 3), (100, 90), (1000, 984)])
def test_a_full_route_keeps_places_for_heads_that_move_to_the_tail(most: int, entered: int) -> None:
    made = room(MIB, most_per_route=most)
    assert fill(made, address("acme")) == entered
    assert made.enter(address("acme"), 1, Claim.MOVE) is None


def test_each_bound_says_its_figures() -> None:
    made = room(8 * MIB, share=1.0)
    fill(made, address("acme"), MIB // 8)
    of_route = made.enter(address("acme"), MIB // 8)
    for n in range(20):
        fill(made, address("acme", f"r{n}"), MIB // 8)
    of_tenant = made.enter(address("acme", "late"), MIB // 8)
    of_whole = made.enter(address("globex"), 8 * MIB)
    assert of_route
    assert of_tenant
    assert of_whole
    assert (of_route.bound, of_tenant.bound, of_whole.bound) == (Bound.ROUTE_BYTES, Bound.TENANT, Bound.SIDING)
    assert of_route.error.endswith("in the siding take 2.62 MiB; 2.62 MiB are left of its tenant's share")
    assert of_tenant.error.endswith("in the siding take 4 MiB; its share of what is free is 3.88 MiB")
    assert of_whole.error == "the siding is full: 4 MiB are free"


def test_an_overdraft_goes_beyond_the_share_and_still_leaves_something() -> None:
    made = room(10_000, share=0.5)
    within = fill(made, address("acme"))
    beyond = fill(made, address("acme"), claim=Claim.OVERDRAFT)
    assert (within, beyond) == (2000, 3000)
    assert refusal(made, address("globex"), 100) is None


def test_a_move_to_the_tail_is_never_refused_and_always_charged() -> None:
    made = room(1000, most_per_route=1)
    fill(made, address("acme"))
    assert refusal(made, address("acme"), 1) is Bound.ROUTE_MESSAGES
    assert made.enter(address("acme"), 5000, Claim.MOVE) is None
    assert made.free_bytes < 0


def test_a_siding_without_a_bound_takes_everything() -> None:
    made = room(None)
    assert refusal(made, address("acme"), 10**12) is None
    assert made.free_bytes == inf
    assert made.fullest(5) == []


def test_the_fullest_tenants_are_told_as_parts_of_the_whole() -> None:
    made = room(1000)
    for tenant, size in (("a", 100), ("b", 300), ("c", 200)):
        made.enter(address(tenant), size, Claim.MOVE)
    assert made.fullest(2) == [0.3, 0.2]


def test_messages_of_unknown_size_count_as_the_mean_of_the_stream() -> None:
    made = room()
    count(made, {address("acme"): 30, address("globex"): 10}, 400)
    assert made.held_bytes(TenantId("acme")) == 300
    assert made.held_bytes(TenantId("globex")) == 100


def test_messages_of_unknown_size_count_as_what_was_read_of_their_route() -> None:
    made = room(10_000)
    waiting = {address("acme"): 30, address("globex"): 10}
    count(made, waiting, 4_030, 10_000)
    made.read(address("acme"), 1)
    made.read(address("globex"), 300)
    made.read(address("globex"), 500)
    count(made, waiting, 4_030, 10_000)
    assert made.held_bytes(TenantId("acme")) == 30
    assert made.held_bytes(TenantId("globex")) == 4_000


def test_what_is_known_least_is_read_first() -> None:
    made = room(10_000)
    made.enter(address("own"), 5)
    made.entered(address("own"), 5, stays=True)
    waiting = {address("own"): 1, address("few"): 2, address("many"): 9, address("seen"): 9}
    count(made, waiting, 400)
    made.read(address("seen"), 20)
    assert made.unread(2) == [address("many"), address("few")]
    assert made.unread(9) == [address("many"), address("few"), address("seen")]


def test_what_a_tenant_sends_now_does_not_change_the_value_of_what_stands() -> None:
    made = room(100_000, share=16.0)
    count(made, {address("acme"): 10}, 50_000, 100_000)
    fill_once = [made.enter(address("acme"), 1) for _ in range(100)]
    assert not any(fill_once)
    assert made.held_bytes(TenantId("acme")) == 50_100


@given(st.lists(SIZES, min_size=1, max_size=30), st.data())
def test_what_is_thought_to_stand_is_as_wrong_as_sizes_differ_at_most(sizes: list[int], data: st.DataObject) -> None:
    made = room(10**6)
    for size in sizes:
        assert made.enter(address("acme"), size, Claim.MOVE) is None
        made.entered(address("acme"), size, stays=True)
    left = sizes[data.draw(st.integers(0, len(sizes) - 1)) :]
    count(made, {address("acme"): len(left)}, sum(left), 10**6)
    spread = max(sizes) / min(sizes)
    assert sum(left) / spread <= made.held_bytes(TenantId("acme")) * 1.000001
    assert made.held_bytes(TenantId("acme")) <= sum(left) * spread * 1.000001


def test_an_emptied_route_is_forgotten() -> None:
    made = room()
    fill(made, address("acme"))
    count(made, {}, 0)
    assert made.held_bytes(TenantId("acme")) == 0
    assert made.free_bytes == 1000
    assert refusal(made, address("acme"), 300) is None
