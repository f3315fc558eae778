"""Each invariant holds for a whole run, and one thing that is wrong breaks it and no other."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from ledger_books import books, destination, garbage, holding, message, receipt, row

from pulse_cli.ledger.facts import Address, Books, Fault, Peak, Receipt, digest_of
from pulse_cli.ledger.invariants import CHECKS, as_quick_as_before, examine, unsettled
from pulse_cli.ledger.repeats import IN_HAND_S, explained

M0, M1, M2 = (message(f"m{n}") for n in range(3))
THEIRS = message("x", "globex")
BAD = garbage(b"not json")
PAIR = (M0.entry, "acme-healthy")


def whole() -> Books:
    return books(M0, M1, M2, BAD)


def receiving(made: Books, *more: Receipt) -> Books:
    return replace(made, receipts=[*made.receipts, *more])


def moved() -> Books:
    """The route has had a new address since 99.0, before anything was sent."""
    made = whole()
    addresses = (Address(name="acme/old", until=99.0), Address(name="acme/healthy"))
    return replace(made, destinations=[replace(made.destinations[0], addresses=addresses)])


def two_tenants() -> Books:
    return books(M0, THEIRS, destinations=(destination(), destination(tenant="globex")))


WRONG: dict[str, Books] = {
    "acknowledged_is_kept": holding(whole(), quarantined=frozenset()),
    "kept_in_one_place": holding(whole(), quarantined=whole().holdings.quarantined | {("acme", M0.entry)}),
    "stored_once": holding(whole(), stored=[*whole().holdings.stored, row(M0)]),
    "stored_as_sent": holding(
        whole(), stored=[replace(row(M0), digest=digest_of({"other": 1})), row(M1), row(M2)]
    ),
    "nothing_from_nowhere": holding(whole(), stored=[*whole().holdings.stored, row(message("invented"))]),
    "every_match_has_a_fate": replace(whole(), receipts=whole().receipts[:2]),
    "dead_is_not_delivered": holding(whole(), dead_lettered=frozenset({("acme", PAIR)})),
    "dead_does_not_wait": holding(
        replace(whole(), receipts=whole().receipts[1:]),
        set_aside=frozenset({PAIR}),
        dead_lettered=frozenset({("acme", PAIR)}),
    ),
    "only_matches_are_delivered": receiving(
        replace(whole(), destinations=(destination(), destination("warm", payload_filter={"temp_max": 99}))),
        receipt(M0, "warm"),
    ),
    "tenants_are_apart": holding(two_tenants(), stored=[replace(row(M0), tenant="globex"), row(THEIRS)]),
    "receipts_are_genuine": replace(whole(), receipts=[replace(each, is_genuine=False) for each in whole().receipts]),
    "addresses_are_current": receiving(moved(), receipt(M0, "old", at=101.0)),
    "duplicates_are_explained": receiving(whole(), receipt(M0, at=102.0)),
    "duplicates_are_bounded": replace(
        receiving(whole(), receipt(M0, at=120.0), receipt(M1, at=120.0)),
        faults=[Fault(name="kill", began=103.0, ended=104.0, in_hand=1)],
    ),
    "under_their_caps": replace(whole(), peaks=[Peak(name="delivery: memory", seen=400.0, cap=300.0)]),
}  # fmt: skip
ALSO = {
    # Whoever gives a row to another tenant changes it too; whoever sends to an old address sends twice here.
    "tenants_are_apart": {"stored_as_sent"},
    "addresses_are_current": {"duplicates_are_explained"},
}


def broken(made: Books) -> set[str]:
    return {finding.invariant for finding in examine(made)}


def test_a_whole_run_has_no_findings() -> None:
    assert examine(whole()) == []
    assert unsettled(whole()) == []


def test_every_check_has_a_case() -> None:
    assert {check.__name__ for check in CHECKS} == set(WRONG)


@pytest.mark.parametrize("invariant", WRONG)
def test_what_is_wrong_breaks_its_invariant_and_no_other(invariant: str) -> None:
    assert broken(WRONG[invariant]) == {invariant} | ALSO.get(invariant, set())


def test_a_receipt_of_another_tenant_s_message_is_found() -> None:
    stolen = replace(receipt(M0), address="globex/healthy")
    assert broken(receiving(two_tenants(), stolen)) == {"tenants_are_apart", "only_matches_are_delivered"}


def test_a_receipt_at_an_address_of_no_route_is_found() -> None:
    assert broken(receiving(whole(), receipt(M0, "redirected"))) == {"addresses_are_current"}


def test_what_was_sent_before_the_change_may_go_to_the_old_address() -> None:
    made = moved()
    [only] = made.destinations
    slow = replace(only, addresses=(Address(name="acme/old", until=200.0), *only.addresses[1:]))
    assert examine(replace(made, destinations=[slow], receipts=[receipt(each, "old") for each in (M0, M1, M2)])) == []


@pytest.mark.parametrize(("began", "ended", "is_explained"), [(103.0, 104.0, True), (90.0, 95.0, False)])
def test_a_fault_explains_a_duplicate_of_what_was_first_delivered_around_it(
    began: float, ended: float, *, is_explained: bool
) -> None:
    made = replace(receiving(whole(), receipt(M0, at=120.0)), faults=[Fault(name="kill", began=began, ended=ended)])
    assert (examine(made) == []) is is_explained


def struck(began: float = 103, ended: float = 104, **more: Any) -> Fault:
    return Fault(name="kill", began=began, ended=ended, **more)


def again(*times: float, faults: Sequence[Fault]) -> set[str]:
    """What is broken if M0 came again at these times."""
    return broken(replace(receiving(whole(), *(receipt(M0, at=at) for at in times)), faults=faults))


def test_one_strike_explains_one_more_delivery_of_a_message() -> None:
    assert again(104.0, 120.0, faults=[struck()]) == {"duplicates_are_explained"}
    assert again(104.0, 120.0, faults=[struck(), struck()]) == set()


def test_behind_a_broker_one_strike_explains_two_more() -> None:
    """Its own acknowledgement was lost, and its subscriber's: both send again."""
    made = whole()
    [webhook] = made.destinations
    mirror = replace(webhook, route=replace(webhook.route, kind="mqtt_republish"))
    thrice = receiving(replace(made, destinations=[mirror], faults=[struck()]), receipt(M0, at=104.0))
    assert broken(receiving(thrice, receipt(M0, at=105.0))) == set()
    assert broken(receiving(thrice, receipt(M0, at=105.0), receipt(M0, at=106.0))) == {"duplicates_are_explained"}


def test_a_fault_that_leaves_nothing_in_hand_explains_nothing() -> None:
    assert again(120.0, faults=[struck(in_hand=0)]) == {"duplicates_are_explained"}


def test_a_fault_explains_nothing_that_came_again_before_it() -> None:
    assert again(102.0, faults=[struck()]) == {"duplicates_are_explained"}


def delivered_by(sender: int | None, at: float, *, killed: int = 7) -> set[str]:
    """What is broken if M0 was delivered at that moment, and again at 120 after a process was killed at 103."""
    made = whole()
    first = replace(receipt(M0, at=at), sender=sender)
    others = [each for each in made.receipts if each.entry != M0.entry]
    receipts = [first, *others, replace(receipt(M0, at=120.0), sender=8)]
    return broken(replace(made, receipts=receipts, faults=[struck(killed=killed)]))


def test_a_killed_process_explains_what_it_had_just_delivered_itself() -> None:
    assert delivered_by(7, 102.0) == set()
    assert delivered_by(6, 102.0) == {"duplicates_are_explained"}


def test_a_killed_process_explains_nothing_that_it_had_delivered_long_before() -> None:
    assert delivered_by(7, 103.1 - IN_HAND_S) == set()
    assert delivered_by(7, 102.9 - IN_HAND_S) == {"duplicates_are_explained"}


def test_what_came_from_a_broker_is_explained_by_the_time_alone() -> None:
    assert delivered_by(None, 102.0) == set()
    assert delivered_by(None, 102.9 - IN_HAND_S) == {"duplicates_are_explained"}
    assert delivered_by(None, 109.0) == {"duplicates_are_explained"}


def test_it_is_told_how_much_each_fault_explains() -> None:
    made = replace(receiving(whole(), receipt(M0, at=120.0), receipt(M1, at=121.0)), faults=[struck()])
    assert [str(each) for each in explained(made)] == ["kill: 2 made again, delivered 2.00 s before it at most"]


def test_a_valid_message_in_quarantine_is_not_kept() -> None:
    made = holding(
        whole(),
        stored=[row(M1), row(M2)],
        quarantined=whole().holdings.quarantined | {("acme", M0.entry)},
    )
    assert broken(made) == {"acknowledged_is_kept"}


def test_a_message_of_another_tenant_at_a_mirror_is_found() -> None:
    mirror = replace(destination("mirror"), addresses=(Address(name="tenant/acme/mirror"),))
    made = replace(two_tenants(), destinations=(destination(), destination(tenant="globex"), mirror))
    made = receiving(made, replace(receipt(M0), address="tenant/acme/mirror"))
    assert broken(made) == set()
    leaked = receiving(made, replace(receipt(THEIRS), address="tenant/acme/mirror"))
    assert broken(leaked) == {"tenants_are_apart", "only_matches_are_delivered"}


def test_what_waits_for_a_healthy_destination_is_not_settled() -> None:
    made = holding(replace(whole(), receipts=whole().receipts[1:]), set_aside=frozenset({PAIR}))
    assert [finding.invariant for finding in unsettled(made)] == ["settled"]
    assert examine(made) == []


def troubled(**where: frozenset[tuple[str, str]]) -> Books:
    made = holding(replace(whole(), receipts=[]), **where)
    return replace(made, destinations=[destination("down", is_healthy=False)])


DOWN = frozenset((each.entry, "acme-down") for each in (M0, M1, M2))


def test_what_waits_in_the_siding_for_a_troubled_destination_is_settled() -> None:
    made = troubled(set_aside=DOWN)
    assert (unsettled(made), examine(made)) == ([], [])


@pytest.mark.parametrize("where", ["undelivered", "unfiled"])
def test_elsewhere_a_troubled_destination_s_messages_still_move(where: str) -> None:
    """Above the ack floor stands also what was settled behind it, and may be lost since."""
    made = troubled(**{where: DOWN})
    assert [finding.invariant for finding in unsettled(made)] == ["settled"]
    assert examine(made) == []


def test_what_was_delivered_and_not_acknowledged_is_not_settled() -> None:
    assert [finding.invariant for finding in unsettled(holding(whole(), undelivered=frozenset({PAIR})))] == ["settled"]


def test_what_others_wait_for_is_not_ours() -> None:
    theirs = frozenset({(M0.entry, "route of another run")})
    assert unsettled(holding(whole(), undelivered=theirs, unfiled=theirs, set_aside=theirs)) == []


def test_what_others_have_on_the_way_is_not_ours() -> None:
    assert unsettled(holding(whole(), unstored=frozenset({message("of another run").entry}))) == []


@pytest.mark.parametrize(("after_ms", "is_fine"), [(34.0, True), (36.0, False)])
def test_healthy_is_at_most_half_as_long_again_and_20_ms(after_ms: float, *, is_fine: bool) -> None:
    assert (as_quick_as_before([0.010] * 100, [after_ms / 1000] * 100) == []) is is_fine


def test_without_a_delivery_nothing_is_quick() -> None:
    assert as_quick_as_before([0.010], []) != []
    assert as_quick_as_before([], [0.010]) != []


def test_a_finding_names_examples_and_their_number() -> None:
    [finding] = examine(replace(whole(), receipts=[]))
    assert str(finding).startswith("every_match_has_a_fate: 3 (")
