"""When the demo closes its books, and what it finds in them."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from ledger_books import books, destination, holding, message, receipt

from pulse_bus.errors import BusUnavailable
from pulse_cli.demo.closing import LOOK_S, PATIENCE_S, close, settled
from pulse_cli.ledger.facts import Books
from pulse_testkit.clock import ManualClock

M0, M1 = message("m0"), message("m1")
HOT: dict[str, object] = {"temp_max": {"$gte": 20}}
DONE = books(M0, M1)


def moving(*, is_healthy: bool = True) -> Books:
    """One of two messages stands in a stream still."""
    made = books(M0, M1, destinations=(destination(is_healthy=is_healthy),))
    pair = (M1.entry, made.destinations[0].route.route_id)
    return holding(replace(made, receipts=made.receipts[:1]), set_aside=frozenset({pair}))


class PassingClock(ManualClock):
    """A clock whose sleepers wake at once, and find that the time has passed."""

    async def sleep(self, seconds: float) -> None:
        await self.advance(seconds)


def looks(*seen: Books | Exception) -> Callable[[], Awaitable[Books]]:
    """See one after the other, then the last one for ever."""
    left = list(seen)

    async def look() -> Books:
        found = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(found, Exception):
            raise found
        return found

    return look


async def test_books_are_closed_when_nothing_was_on_its_way_twice() -> None:
    clock = PassingClock()
    assert await settled(looks(moving(), DONE, moving(), DONE, DONE), clock) is DONE
    assert clock.monotonic() == 4 * LOOK_S


async def test_what_is_missing_although_nothing_is_on_its_way_gets_some_moments_more() -> None:
    missing = replace(DONE, receipts=DONE.receipts[:1])
    assert await settled(looks(missing, missing, missing, DONE), PassingClock()) is DONE
    clock = PassingClock()
    assert await settled(looks(missing), clock) is missing
    assert clock.monotonic() < PATIENCE_S / 5


async def test_what_the_broker_keeps_for_an_ingest_that_died_is_waited_for() -> None:
    """It has been acknowledged, and comes again some seconds after ingest is back."""
    kept = holding(replace(DONE, receipts=DONE.receipts[:1]), kept_by_broker=1)
    clock = PassingClock()
    assert await settled(looks(*[kept] * 20, DONE), clock) is DONE
    assert clock.monotonic() >= 20 * LOOK_S


async def test_a_server_that_is_away_for_a_while_is_waited_for() -> None:
    away = BusUnavailable("gone")
    assert await settled(looks(away, OSError(), DONE, away, DONE, DONE), PassingClock()) is DONE


async def test_a_server_that_stays_away_is_an_error() -> None:
    clock = PassingClock()
    with pytest.raises(BusUnavailable):
        await settled(looks(BusUnavailable("gone")), clock)
    assert clock.monotonic() == PATIENCE_S


async def test_what_was_not_delivered_when_patience_ends_is_a_finding() -> None:
    clock = PassingClock()
    stuck = await settled(looks(moving()), clock)
    assert clock.monotonic() == PATIENCE_S
    closing = close(stuck)
    assert (closing.ledger.waiting, closing.ledger.lost) == (1, 0)
    assert [finding.invariant for finding in closing.findings] == ["settled"]


def test_what_waits_for_a_dead_destination_is_none() -> None:
    closing = close(moving(is_healthy=False))
    assert (closing.ledger.waiting, closing.findings) == (1, [])


def test_books_in_order_have_no_finding() -> None:
    assert close(DONE).findings == []


@pytest.mark.parametrize(
    ("extra", "finding"),
    [
        (receipt(M0, "warm"), "only_matches_are_delivered"),
        (replace(receipt(M0), address="globex/healthy"), "tenants_are_apart"),
        (receipt(M0), "duplicates_are_explained"),
        (receipt(message("never-sent")), "nothing_from_nowhere"),
    ],
    ids=["where it does not match", "at another tenant", "twice", "never sent"],
)
def test_what_a_receiver_should_not_have_is_found_although_nothing_is_lost(extra: object, finding: str) -> None:
    destinations = (destination(), destination("warm", payload_filter=HOT), destination(tenant="globex"))
    made = books(M0, M1, destinations=destinations)
    closing = close(replace(made, receipts=[*made.receipts, extra]))
    assert closing.ledger.lost == 0
    assert finding in {found.invariant for found in closing.findings}
