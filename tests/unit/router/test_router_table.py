from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from router_builders import envelope, route

from pulse_contracts.ids import RouteId, TenantId
from pulse_contracts.routes import Route
from pulse_matching.expression import Message
from pulse_matching.reference import matches_route
from pulse_router.domain.table import MAX_FANOUT, RouteFault, RouteTable, Verdict, build_table

DIVIDES_BY_ZERO = "payload.a / payload.b > 0"
ANSWERED = {"a": 1, "b": 0}


def judged(table: RouteTable, payload: Mapping[str, object] | None = None, tenant: str = "acme") -> Verdict:
    return table.judge(envelope(payload, tenant=tenant), payload or {})


def matched(table: RouteTable, payload: Mapping[str, object] | None = None, tenant: str = "acme") -> list[str]:
    return [str(found.route_id) for found in judged(table, payload, tenant).matched]


def test_an_empty_table_matches_nothing() -> None:
    assert judged(RouteTable()) == Verdict(matched=(), faults=(), generation=0)


def test_the_routes_that_match_come_in_the_order_they_were_given() -> None:
    table = build_table([route("b"), route("a", "#"), route("x", "tenant/acme/device/other/#"), route("c")])
    assert matched(table) == ["b", "a", "c"]


def test_topic_payload_filter_and_expression_must_all_hold() -> None:
    table = build_table([route("r", payload_filter={"t": {"$gt": 5}}, expression="payload.site == 'a'")])
    assert matched(table, {"t": 6, "site": "a"}) == ["r"]
    assert matched(table, {"t": 5, "site": "a"}) == []
    assert matched(table, {"t": 6, "site": "b"}) == []


def test_a_tenants_routes_see_only_its_own_messages() -> None:
    table = build_table([route("ours", "#"), route("theirs", "#", tenant="globex")])
    assert matched(table, tenant="acme") == ["ours"]
    assert matched(table, tenant="globex") == ["theirs"]
    assert matched(table, tenant="other") == []


@pytest.mark.parametrize(
    "bad",
    [
        route("bad", "a/#/b"),
        route("bad", ""),
        route("bad", "$share/group/#"),
        route("bad", payload_filter={"a": {"$nope": 1}}),
        route("bad", payload_filter={"$and": []}),
        route("bad", expression="payload.a +"),
        route("bad", expression="'text'"),
    ],
)
def test_a_route_that_cannot_be_compiled_is_reported_and_the_others_match(bad: Route) -> None:
    table = build_table([route("before"), bad, route("after")])
    assert matched(table) == ["before", "after"]
    assert [fault.route_id for fault in table.faults] == ["bad"]
    assert table.faults[0].error


def test_a_route_that_fails_on_a_message_is_a_fault_and_the_others_match() -> None:
    table = build_table([route("before"), route("bad", expression=DIVIDES_BY_ZERO), route("after")])
    verdict = judged(table, ANSWERED)
    assert [found.route_id for found in verdict.matched] == ["before", "after"]
    assert [fault.route_id for fault in verdict.faults] == ["bad"]


def test_a_route_that_failed_on_one_message_judges_the_next() -> None:
    table = build_table([route("r", expression=DIVIDES_BY_ZERO)])
    assert matched(table, ANSWERED) == []
    assert matched(table, {"a": 4, "b": 2}) == ["r"]


@pytest.mark.parametrize(
    "left_out", [route("gone", deleted=True), route("stored", kind="postgresql")], ids=["tombstone", "postgresql"]
)
def test_nothing_is_emitted_for_tombstones_and_for_what_is_stored_anyway(left_out: Route) -> None:
    table = build_table([left_out, route("r")])
    assert matched(table) == ["r"]
    assert table.faults == ()


def test_a_tombstone_with_a_broken_filter_is_no_fault() -> None:
    assert build_table([route("gone", "a/#/b", deleted=True)]).faults == ()


def test_a_disabled_route_matches_because_its_messages_wait_parked() -> None:
    assert matched(build_table([route("r", enabled=False)])) == ["r"]


def test_as_many_matches_as_fit_one_batch_are_all_matched() -> None:
    verdict = judged(build_table([route(f"r{n}") for n in range(MAX_FANOUT)]))
    assert (len(verdict.matched), verdict.faults) == (MAX_FANOUT, ())


def test_matches_beyond_one_batch_are_faults_that_name_the_route() -> None:
    verdict = judged(build_table([route(f"r{n}") for n in range(MAX_FANOUT + 2)]))
    assert len(verdict.matched) == MAX_FANOUT
    assert [fault.route_id for fault in verdict.faults] == [f"r{MAX_FANOUT}", f"r{MAX_FANOUT + 1}"]


def test_only_changed_routes_are_compiled_again() -> None:
    before = build_table([route("same"), route("edited")])
    after = build_table([route("same"), route("edited", revision=2), route("new")], before)
    kept = [compiled for key, compiled in after.compiled.items() if before.compiled.get(key) is compiled]
    assert [compiled.route.route_id for compiled in kept] == ["same"]


def test_only_the_tenant_of_a_changed_route_is_indexed_again() -> None:
    """However many routes the others have, an edit does not hold up their messages."""
    mine, theirs = TenantId("acme"), TenantId("globex")
    before = build_table([route("r"), route("other", tenant=theirs)])
    for edited in (route("r", revision=2), route("r", revision=2, deleted=True)):
        after = build_table([edited, route("other", tenant=theirs)], before)
        assert after.indexes[theirs] is before.indexes[theirs]
        assert after.indexes.get(mine) is not before.indexes[mine]


def test_an_edit_takes_effect() -> None:
    before = build_table([route("r", payload_filter={"a": 1})])
    after = build_table([route("r", revision=2, payload_filter={"a": 2})], before)
    assert matched(after, {"a": 2}) == ["r"]
    assert [found.revision for found in judged(after, {"a": 2}).matched] == [2]


def test_a_route_that_is_gone_is_forgotten() -> None:
    before = build_table([route("r"), route("gone")])
    after = build_table([route("r"), route("gone", revision=2, deleted=True)], before)
    assert [route_id for route_id, _ in after.compiled] == ["r"]


def test_a_table_once_built_does_not_change() -> None:
    before = build_table([route("r")])
    build_table([route("r", revision=2, deleted=True)], before)
    assert matched(before) == ["r"]


FILTERS = st.sampled_from(
    ["#", "tenant/#", "tenant/acme/device/+/weather", "tenant/+/device/d/#", "tenant/acme/device/e/#", "+/+"]
)
PAYLOAD_FILTERS = st.none() | st.dictionaries(
    st.sampled_from("ab"), st.integers(0, 2) | st.fixed_dictionaries({"$gt": st.integers(0, 2)}), max_size=2
)


@given(
    st.lists(st.tuples(FILTERS, PAYLOAD_FILTERS), max_size=6),
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 3), max_size=3),
)
def test_the_table_agrees_with_the_reference_matcher(
    wanted: list[tuple[str, dict[str, object] | None]], payload: dict[str, object]
) -> None:
    routes = [route(f"r{n}", topics, payload_filter=values) for n, (topics, values) in enumerate(wanted)]
    topic = envelope().topic
    expected = [
        str(found.route_id)
        for found in routes
        if matches_route(found.topic_filter, found.payload_filter, topic, payload)
    ]
    assert matched(build_table(routes), payload) == expected


def test_the_latest_change_of_any_of_the_tenants_routes_is_its_generation() -> None:
    table = build_table(
        [
            route("old", generation=3),
            route("gone", generation=7, deleted=True),
            route("theirs", tenant="globex", generation=9),
        ]
    )
    assert judged(table).generation == 7


def test_a_tenant_without_a_route_that_matches_is_judged_all_the_same() -> None:
    assert judged(build_table([route("r", "tenant/acme/other", generation=2)])).generation == 2


class Unforeseen:
    """Something in a row that no code of ours expects."""

    def __str__(self) -> str:
        raise RuntimeError("unforeseen")


def test_a_route_at_which_the_compiler_itself_fails_is_a_fault_and_the_others_match() -> None:
    table = build_table([route("bad", payload_filter=Unforeseen()), route("good")])  # pyright: ignore[reportArgumentType] - that is the point
    assert [fault.route_id for fault in table.faults] == ["bad"]
    assert matched(table) == ["good"]


def test_a_route_that_fails_on_a_message_in_an_unforeseen_way_is_a_fault_and_the_others_match() -> None:
    def fail(_message: Message) -> bool:
        raise RuntimeError("unforeseen")

    table = build_table([route("bad"), route("good")])
    bad = next(compiled for compiled in table.compiled.values() if compiled.route.route_id == "bad")
    object.__setattr__(bad, "judge", fail)
    verdict = judged(table)
    assert [found.route_id for found in verdict.matched] == ["good"]
    assert verdict.faults == (RouteFault(route_id=RouteId("bad"), error="RuntimeError('unforeseen')"),)
