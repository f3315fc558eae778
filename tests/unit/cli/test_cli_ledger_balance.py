from dataclasses import replace
from typing import Any

import pytest
from ledger_books import books, destination, garbage, holding, message, receipt, row

from pulse_cli.ledger.balance import Ledger, RouteAccount, balance, oldest_waiting_s
from pulse_cli.ledger.facts import Books

HOT: dict[str, object] = {"temp_max": {"$gte": 20}}
M0, M1, M2 = (message(f"m{n}") for n in range(3))


def whole() -> Books:
    return books(M0, M1, M2)


def without_m2() -> Books:
    """The last message was not delivered."""
    made = whole()
    return replace(made, receipts=made.receipts[:2])


def fates(ledger: Ledger) -> tuple[int, int, int, int, int]:
    assert ledger.matched == sum(account.matched for account in ledger.routes)
    return ledger.matched, ledger.delivered, ledger.waiting, ledger.dead_lettered, ledger.lost


def test_nothing_sent_is_nothing_owed() -> None:
    assert fates(balance(books())) == (0, 0, 0, 0, 0)


def test_a_whole_run_balances() -> None:
    ledger = balance(whole())
    assert fates(ledger) == (3, 3, 0, 0, 0)
    assert (ledger.accepted, ledger.stored, ledger.duplicates) == (3, 3, 0)


def test_lost_is_what_was_acknowledged_and_never_stored() -> None:
    ledger = balance(holding(whole(), stored=[row(M0), row(M1)]))
    assert (ledger.accepted, ledger.stored, ledger.lost) == (3, 2, 1)


def test_lost_is_what_was_malformed_and_never_quarantined() -> None:
    made = books(M0, garbage(b"x"), garbage(b"y"))
    kept = frozenset({("acme", garbage(b"x").entry)})
    ledger = balance(holding(made, quarantined=kept))
    assert (ledger.accepted, ledger.quarantined, ledger.lost) == (3, 1, 1)


def test_a_quarantine_record_on_its_way_is_not_lost() -> None:
    made = books(M0, garbage(b"x"))
    assert balance(holding(made, quarantined=frozenset(), unquarantined=frozenset({garbage(b"x").entry}))).lost == 0


def test_lost_is_a_match_that_is_nowhere() -> None:
    assert fates(balance(without_m2())) == (3, 2, 0, 0, 1)


def test_the_three_ways_to_be_lost_add_up() -> None:
    made = replace(books(M0, M1, M2, garbage(b"x")), receipts=[])
    assert balance(holding(made, stored=[row(M0)], quarantined=frozenset())).lost == 2 + 1 + 3


def test_what_still_has_to_be_stored_is_not_lost() -> None:
    ledger = balance(holding(whole(), stored=[row(M0)], unstored=frozenset({M1.entry, M2.entry})))
    assert (ledger.stored, ledger.lost) == (1, 0)


PAIR = (M2.entry, "acme-healthy")


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"set_aside": frozenset({PAIR})}, (3, 2, 1, 0, 0)),
        ({"undelivered": frozenset({PAIR})}, (3, 2, 1, 0, 0)),
        ({"unrouted": frozenset({M2.entry})}, (3, 2, 1, 0, 0)),
        ({"dead_lettered": frozenset({("acme", PAIR)})}, (3, 2, 0, 1, 0)),
        # On its way from the stream into the table: the end is known.
        ({"dead_lettered": frozenset({("acme", PAIR)}), "unfiled": frozenset({PAIR})}, (3, 2, 0, 1, 0)),
        ({"set_aside": frozenset({(M2.entry, "acme-other")})}, (3, 2, 0, 0, 1)),
        ({"dead_lettered": frozenset({("acme", (M1.entry, "acme-healthy"))})}, (3, 2, 0, 0, 1)),
        ({"unstored": frozenset({M2.entry})}, (3, 2, 0, 0, 1)),
        ({}, (3, 2, 0, 0, 1)),
    ],
    ids=[
        "in the siding",
        "above the ack floor",
        "not routed yet",
        "dead-lettered",
        "dead letter being written",
        "in a stream for another route",
        "another message is dead",
        "not stored yet says nothing of its delivery",
        "nowhere",
    ],
)
def test_a_match_that_was_not_delivered_is_in_exactly_one_place(
    where: dict[str, Any], expected: tuple[int, int, int, int, int]
) -> None:
    assert fates(balance(holding(without_m2(), **where))) == expected


def test_what_was_delivered_counts_as_delivered_whatever_else_holds_it() -> None:
    made = holding(whole(), set_aside=frozenset({PAIR}), dead_lettered=frozenset({("acme", PAIR)}))
    assert fates(balance(made)) == (3, 3, 0, 0, 0)


def test_what_was_stored_is_owed_although_nobody_was_told_so() -> None:
    made = without_m2()
    del made.sendings.acknowledged[M2.entry]
    assert fates(balance(made)) == (3, 2, 0, 0, 1)


def test_duplicates_are_counted_at_the_receiver_and_in_the_table() -> None:
    made = whole()
    made = replace(made, receipts=[*made.receipts, receipt(M0), receipt(M0), receipt(M1)])
    ledger = balance(holding(made, stored=[*made.holdings.stored, row(M0), row(M0)]))
    assert ledger.duplicates == 3 + 2
    assert fates(ledger) == (3, 3, 0, 0, 0)


def test_a_filter_decides_what_is_owed() -> None:
    hot = [message("m0", temperature=25), message("m1", temperature=15), message("m2", temperature=20)]
    made = books(*hot, destinations=(destination(), destination("warm", payload_filter=HOT)))
    ledger = balance(replace(made, receipts=[*made.receipts, receipt(hot[0], "warm")]))
    assert ledger.routes[1] == RouteAccount(
        tenant="acme", name="warm", matched=2, delivered=1, waiting=0, dead_lettered=0, lost=1
    )


def test_tenants_have_accounts_of_their_own_also_for_the_same_message_name() -> None:
    ours, theirs = message("m0"), message("m0", "globex")
    made = books(ours, theirs, destinations=(destination(), destination(tenant="globex")))
    ledger = balance(replace(made, receipts=[receipt(ours)]))
    assert [(account.tenant, account.delivered, account.lost) for account in ledger.routes] == [
        ("acme", 1, 0),
        ("globex", 0, 1),
    ]


def test_what_a_receiver_got_without_being_owed_it_is_no_delivery() -> None:
    made = books(M0, destinations=(destination(), destination("warm", payload_filter=HOT)))
    made = replace(made, receipts=[*made.receipts, receipt(M0, "warm"), receipt(message("never-sent"))])
    assert fates(balance(made)) == (1, 1, 0, 0, 0)


def test_latencies_are_from_the_first_sending_to_the_healthy_receiver() -> None:
    sent = [message(f"m{n}", at=101.0 - n / 1000) for n in range(100)]
    ledger = balance(books(*sent))
    assert (ledger.healthy_p50_ms, ledger.healthy_p99_ms) == (50.0, 99.0)


def test_without_a_healthy_receiver_there_is_no_latency() -> None:
    ledger = balance(replace(whole(), receipts=[]))
    assert (ledger.healthy_p50_ms, ledger.healthy_p99_ms) == (0.0, 0.0)


@pytest.mark.parametrize("where", [{"set_aside": frozenset({PAIR})}, {"unrouted": frozenset({M2.entry})}])
def test_the_oldest_undelivered_is_counted_from_its_sending_wherever_it_waits(where: dict[str, Any]) -> None:
    assert oldest_waiting_s(holding(without_m2(), **where), 107.5) == 7.5


def test_nothing_undelivered_is_not_old() -> None:
    assert oldest_waiting_s(whole(), 107.5) == 0.0
