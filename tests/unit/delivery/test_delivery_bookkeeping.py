from delivery_builders import NOW, address
from hypothesis import given
from hypothesis import strategies as st

from pulse_contracts.disposition import ProbeFailed
from pulse_delivery.domain.memory import DeliveredMemory
from pulse_delivery.domain.troubles import Troubles

ONE, OTHER = address("r-1"), address("r-2")


def test_a_route_is_troubled_from_the_moment_a_shunt_begins() -> None:
    troubles = Troubles()
    assert not troubles.is_troubled(ONE)
    troubles.shunt_begins(ONE)
    assert troubles.is_troubled(ONE)
    assert not troubles.is_troubled(OTHER)


def test_a_committed_shunt_leaves_the_route_troubled() -> None:
    troubles = Troubles()
    troubles.shunt_begins(ONE)
    troubles.shunt_ends(ONE, waits=True)
    assert troubles.is_troubled(ONE)
    assert not troubles.is_shunting(ONE)
    assert troubles.all() == {ONE: 1}


def test_a_shunt_that_came_to_nothing_leaves_no_trouble() -> None:
    troubles = Troubles()
    troubles.shunt_begins(ONE)
    troubles.shunt_ends(ONE, waits=False)
    assert not troubles.is_troubled(ONE)
    assert troubles.all() == {}


def test_of_several_shunts_the_last_one_ends_the_shunting() -> None:
    troubles = Troubles()
    troubles.shunt_begins(ONE)
    troubles.shunt_begins(ONE)
    troubles.shunt_ends(ONE, waits=False)
    assert troubles.is_shunting(ONE)
    troubles.shunt_ends(ONE, waits=False)
    assert not troubles.is_shunting(ONE)


def test_the_sidings_own_account_replaces_what_was_thought() -> None:
    troubles = Troubles()
    troubles.replace({ONE: 3})
    troubles.replace({OTHER: 5})
    assert not troubles.is_troubled(ONE)
    assert troubles.all() == {OTHER: 5}


def test_a_failure_is_known_while_its_route_is_troubled() -> None:
    troubles, failed = Troubles(), ProbeFailed(pause_until=NOW, error="answered 503")
    troubles.shunt_begins(ONE)
    for route in (ONE, OTHER):
        troubles.note_failure(route, failed)
    troubles.replace({})
    assert troubles.take_failure(OTHER) is None
    assert troubles.take_failure(ONE) == failed
    assert troubles.take_failure(ONE) is None


def test_the_sidings_account_does_not_hide_a_shunt_on_its_way() -> None:
    troubles = Troubles()
    troubles.shunt_begins(ONE)
    troubles.replace({})
    assert troubles.is_troubled(ONE)


def test_a_recovered_route_is_troubled_no_longer_until_the_siding_says_so() -> None:
    troubles = Troubles()
    troubles.replace({ONE: 1})
    troubles.recovered(ONE)
    assert not troubles.is_troubled(ONE)
    troubles.count_begins()
    troubles.replace({ONE: 1})
    assert troubles.is_troubled(ONE)


def test_an_account_that_began_before_a_shunt_was_committed_does_not_hide_it() -> None:
    troubles = Troubles()
    troubles.shunt_begins(ONE)
    troubles.count_begins()
    troubles.shunt_ends(ONE, waits=True)
    troubles.replace({OTHER: 2})
    assert troubles.is_troubled(ONE)
    assert troubles.all() == {ONE: 1, OTHER: 2}


def test_a_shunt_that_such_an_account_does_contain_is_not_counted_twice() -> None:
    troubles = Troubles()
    troubles.count_begins()
    troubles.shunt_begins(ONE)
    troubles.shunt_ends(ONE, waits=True)
    troubles.replace({ONE: 1})
    assert troubles.all() == {ONE: 1}


def test_the_next_account_knows_better() -> None:
    troubles = Troubles()
    troubles.count_begins()
    troubles.shunt_begins(ONE)
    troubles.shunt_ends(ONE, waits=True)
    troubles.replace({})
    troubles.count_begins()
    troubles.replace({})
    assert not troubles.is_troubled(ONE)


def test_an_account_that_began_before_a_recovery_does_not_trouble_the_route_again() -> None:
    troubles = Troubles()
    troubles.replace({ONE: 1})
    troubles.count_begins()
    troubles.recovered(ONE)
    troubles.replace({ONE: 1})
    assert not troubles.is_troubled(ONE)


def test_what_was_shunted_after_a_recovery_is_troubled_whatever_the_account_says() -> None:
    troubles = Troubles()
    troubles.count_begins()
    troubles.recovered(ONE)
    troubles.shunt_begins(ONE)
    troubles.shunt_ends(ONE, waits=True)
    troubles.replace({})
    assert troubles.is_troubled(ONE)


def test_a_shunt_before_a_recovery_is_done_with_by_it() -> None:
    troubles = Troubles()
    troubles.count_begins()
    troubles.shunt_begins(ONE)
    troubles.shunt_ends(ONE, waits=True)
    troubles.recovered(ONE)
    troubles.replace({ONE: 1})
    assert not troubles.is_troubled(ONE)


def test_what_all_returns_is_a_copy() -> None:
    troubles = Troubles()
    troubles.all()[ONE] = 1
    assert not troubles.is_troubled(ONE)


@given(st.lists(st.integers(0, 9)), st.integers(1, 5))
def test_the_memory_keeps_exactly_the_latest_deliveries(added: list[int], most: int) -> None:
    memory = DeliveredMemory(most)
    for number in added:
        memory.add(str(number))
    latest = list(dict.fromkeys(reversed(added)))[:most]
    assert [number for number in range(10) if str(number) in memory] == sorted(latest)
