import json
from dataclasses import dataclass, field, replace

import pytest

from pulse_cli.demo.fleet import Sendings, Sent
from pulse_cli.demo.ledger import Holdings, Ledger, RouteAccount, balance, message_id_of
from pulse_cli.demo.receivers import Receivers
from pulse_contracts.ids import RouteId, TenantId
from pulse_contracts.routes import Route

HOT: dict[str, object] = {"temp_max": {"$gte": 20}}
IDLE = Holdings(
    stored={},
    quarantined=0,
    dead_lettered=frozenset(),
    unstored=frozenset(),
    unrouted=frozenset(),
    in_streams=frozenset(),
    is_idle=True,
)


def route(name: str, tenant: str = "acme", payload_filter: dict[str, object] | None = None) -> Route:
    return Route(
        route_id=RouteId(f"{tenant}-{name}"),
        tenant_id=TenantId(tenant),
        name=name,
        revision=1,
        topic_filter=f"tenant/{tenant}/device/#",
        payload_filter=payload_filter,
        expression=None,
        kind="webhook",
        config={},
    )


def sent(message: str, tenant: str = "acme", temperature: float = 10.0, at: float = 100.0) -> Sent:
    return Sent(
        tenant=tenant,
        device="d",
        message=message,
        topic=f"tenant/{tenant}/device/d/weather",
        payload=json.dumps({"metrics": {"temp_max": temperature}, "message_id": message}).encode(),
        first_sent_at=at,
    )


def id_of(message: str, tenant: str = "acme") -> str:
    return str(message_id_of(tenant, "d", message))


@dataclass(kw_only=True)
class Books:
    """What a run left behind; a test takes something away and looks at the balance."""

    sent: list[Sent]
    routes: list[Route]
    malformed: int = 0
    received: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    holdings: Holdings = IDLE

    def balance(self) -> Ledger:
        receivers = Receivers(0, 0)
        for tenant, name, message in self.received:
            receivers.note(tenant, name, message, 101.0)
        sendings = Sendings(attempted=len(self.sent), accepted=self.sent, malformed_accepted=self.malformed)
        return balance(sendings, receivers, self.routes, self.holdings)


def whole(messages: int = 3) -> Books:
    """Everything was stored once and delivered once."""
    names = [f"m{n}" for n in range(messages)]
    return Books(
        sent=[sent(name) for name in names],
        routes=[route("healthy")],
        received=[("acme", "healthy", name) for name in names],
        holdings=replace(IDLE, stored={id_of(name): 1 for name in names}),
    )


def fates(ledger: Ledger) -> tuple[int, int, int, int, int]:
    assert ledger.matched == sum(account.matched for account in ledger.routes)
    return ledger.matched, ledger.delivered, ledger.waiting, ledger.dead_lettered, ledger.lost


def test_nothing_sent_is_nothing_owed() -> None:
    assert fates(Books(sent=[], routes=[route("healthy")]).balance()) == (0, 0, 0, 0, 0)


def test_a_whole_run_balances() -> None:
    ledger = whole().balance()
    assert fates(ledger) == (3, 3, 0, 0, 0)
    assert (ledger.accepted, ledger.stored, ledger.duplicates) == (3, 3, 0)


def test_lost_is_what_was_accepted_and_never_stored() -> None:
    books = whole()
    books.holdings = replace(IDLE, stored={id_of("m0"): 1, id_of("m1"): 1})
    ledger = books.balance()
    assert (ledger.accepted, ledger.stored, ledger.lost) == (3, 2, 1)


def test_lost_is_what_was_malformed_and_never_quarantined() -> None:
    books = whole()
    books.malformed = 2
    books.holdings = replace(books.holdings, quarantined=1)
    ledger = books.balance()
    assert (ledger.accepted, ledger.quarantined, ledger.lost) == (5, 1, 1)


def test_lost_is_a_match_that_is_nowhere() -> None:
    books = whole()
    books.received = books.received[:2]
    assert fates(books.balance()) == (3, 2, 0, 0, 1)


def test_the_three_ways_to_be_lost_add_up() -> None:
    books = whole()
    books.malformed = 1
    books.received = []
    books.holdings = replace(IDLE, stored={id_of("m0"): 1})
    assert books.balance().lost == 2 + 1 + 3


def test_what_still_has_to_be_stored_is_not_lost() -> None:
    books = whole()
    books.holdings = replace(IDLE, stored={id_of("m0"): 1}, unstored=frozenset({id_of("m1"), id_of("m2")}))
    ledger = books.balance()
    assert (ledger.stored, ledger.lost) == (1, 0)


def test_while_streams_are_busy_a_missing_quarantine_record_may_be_on_its_way() -> None:
    books = whole()
    books.malformed = 1
    books.holdings = replace(books.holdings, is_idle=False)
    assert books.balance().lost == 0


PAIR = (id_of("m2"), "acme-healthy")


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (replace(IDLE, in_streams=frozenset({PAIR})), (3, 2, 1, 0, 0)),
        (replace(IDLE, unrouted=frozenset({id_of("m2")})), (3, 2, 1, 0, 0)),
        (replace(IDLE, dead_lettered=frozenset({PAIR})), (3, 2, 0, 1, 0)),
        # On its way from the stream into the table: the end is known.
        (replace(IDLE, dead_lettered=frozenset({PAIR}), in_streams=frozenset({PAIR})), (3, 2, 0, 1, 0)),
        (replace(IDLE, in_streams=frozenset({(id_of("m2"), "acme-other")})), (3, 2, 0, 0, 1)),
        (replace(IDLE, dead_lettered=frozenset({(id_of("m1"), "acme-healthy")})), (3, 2, 0, 0, 1)),
        (replace(IDLE, unstored=frozenset({id_of("m2")})), (3, 2, 0, 0, 1)),
        (IDLE, (3, 2, 0, 0, 1)),
    ],
    ids=[
        "in a stream",
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
    where: Holdings, expected: tuple[int, int, int, int, int]
) -> None:
    books = whole()
    books.received = books.received[:2]
    books.holdings = replace(where, stored=books.holdings.stored)
    assert fates(books.balance()) == expected


def test_what_was_delivered_counts_as_delivered_whatever_else_holds_it() -> None:
    books = whole()
    books.holdings = replace(books.holdings, in_streams=frozenset({PAIR}), dead_lettered=frozenset({PAIR}))
    assert fates(books.balance()) == (3, 3, 0, 0, 0)


def test_duplicates_are_counted_at_the_receiver_and_in_the_table() -> None:
    books = whole()
    books.received += [books.received[0], books.received[0], books.received[1]]
    books.holdings = replace(books.holdings, stored={**books.holdings.stored, id_of("m0"): 3})
    ledger = books.balance()
    assert ledger.duplicates == 3 + 2
    assert fates(ledger) == (3, 3, 0, 0, 0)


def test_a_message_sent_again_with_its_id_is_one_message() -> None:
    books = whole()
    books.sent.append(books.sent[0])
    ledger = books.balance()
    assert (ledger.accepted, fates(ledger)) == (3, (3, 3, 0, 0, 0))


def test_a_filter_decides_what_is_owed() -> None:
    books = whole()
    books.sent = [sent("m0", temperature=25), sent("m1", temperature=15), sent("m2", temperature=20)]
    books.routes.append(route("warm", payload_filter=HOT))
    books.received.append(("acme", "warm", "m0"))
    ledger = books.balance()
    assert ledger.routes[1] == RouteAccount(
        tenant="acme", name="warm", matched=2, delivered=1, waiting=0, dead_lettered=0, lost=1
    )


def test_tenants_have_accounts_of_their_own_also_for_the_same_message_name() -> None:
    books = whole(1)
    books.sent.append(sent("m0", "globex"))
    books.routes.append(route("healthy", "globex"))
    books.holdings = replace(IDLE, stored={id_of("m0"): 1, id_of("m0", "globex"): 1})
    ledger = books.balance()
    assert [(account.tenant, account.delivered, account.lost) for account in ledger.routes] == [
        ("acme", 1, 0),
        ("globex", 0, 1),
    ]


def test_what_a_receiver_got_without_being_owed_it_is_no_delivery() -> None:
    books = whole()
    books.routes.append(route("warm", payload_filter=HOT))
    books.received += [("acme", "warm", "m0"), ("acme", "healthy", "never-accepted")]
    assert fates(books.balance()) == (3, 3, 0, 0, 0)


def test_latencies_are_from_the_first_sending_to_the_healthy_receiver() -> None:
    books = whole(0)
    books.sent = [sent(f"m{n}", at=101.0 - n / 1000) for n in range(100)]
    books.received = [("acme", "healthy", f"m{n}") for n in range(100)]
    ledger = books.balance()
    assert (ledger.healthy_p50_ms, ledger.healthy_p99_ms) == (50.0, 99.0)


def test_without_a_healthy_receiver_there_is_no_latency() -> None:
    books = whole()
    books.received = []
    assert (books.balance().healthy_p50_ms, books.balance().healthy_p99_ms) == (0.0, 0.0)
