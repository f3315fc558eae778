from delivery_builders import address

from pulse_delivery.domain.rota import Rota

ONE, TWO, THREE = (address(f"r-{n}") for n in range(3))


def test_everybody_is_visited_in_turn() -> None:
    rota = Rota()
    rota.begin_round([ONE, TWO, THREE])
    assert [rota.next() for _ in range(4)] == [ONE, TWO, THREE, None]


def test_whoever_is_not_done_waits_behind_all_others() -> None:
    rota = Rota()
    rota.begin_round([ONE, TWO])
    assert rota.next() == ONE
    rota.visited(ONE, again=True)
    assert [rota.next() for _ in range(3)] == [TWO, ONE, None]


def test_a_round_that_begins_before_the_last_has_ended_lets_nobody_wait_twice_or_anew() -> None:
    rota = Rota()
    rota.begin_round([ONE, TWO])
    assert rota.next() == ONE
    rota.visited(ONE, again=False)
    rota.begin_round([ONE, THREE, TWO])
    assert [rota.next() for _ in range(4)] == [TWO, ONE, THREE, None]


def test_nobody_is_visited_twice_at_once() -> None:
    rota = Rota()
    rota.begin_round([ONE])
    assert rota.next() == ONE
    rota.begin_round([ONE])
    assert rota.next() is None
    rota.visited(ONE, again=True)
    assert rota.next() == ONE


def test_who_waits_no_more_is_not_visited() -> None:
    rota = Rota()
    rota.begin_round([ONE, TWO])
    rota.begin_round([TWO])
    assert [rota.next() for _ in range(2)] == [TWO, None]
