from dataclasses import replace

from delivery_builders import parcel

from pulse_contracts.ids import MessageId
from pulse_contracts.turns import HeadTries
from pulse_delivery.domain.heads import Heads
from pulse_delivery.domain.parcel import Parcel


def numbered(number: int, *, attempts: int = 0, answered: int = 0) -> Parcel:
    made = parcel(attempts=attempts, answered=answered)
    return replace(made, envelope=replace(made.envelope, message_id=MessageId(f"m-{number}")))


def test_a_message_that_was_given_back_comes_again_with_its_attempts() -> None:
    heads = Heads()
    heads.note(numbered(1, attempts=3, answered=2))
    assert heads.of(numbered(1, attempts=1)) == numbered(1, attempts=3, answered=2)
    assert heads.of(numbered(2)) == numbered(2)


def test_a_copy_at_the_tail_is_not_counted_twice() -> None:
    heads = Heads()
    heads.note(numbered(1, attempts=3, answered=3))
    assert heads.of(numbered(1, attempts=4, answered=3)) == numbered(1, attempts=4, answered=3)


def test_what_is_known_passes_on() -> None:
    heads = Heads()
    heads.note(numbered(1, attempts=1))
    assert Heads(heads.all()).of(numbered(1)) == numbered(1, attempts=1)


def test_the_latest_is_the_one_that_was_given_back_last() -> None:
    heads = Heads()
    for number in (1, 2, 1):
        heads.note(numbered(number, attempts=1))
    assert heads.latest == HeadTries(message_id="m-1", attempts=1, answered=0)
    heads.forget(numbered(1))
    assert heads.latest == HeadTries(message_id="m-2", attempts=1, answered=0)


def test_no_more_are_remembered_than_a_turn_can_have_in_hand_twice() -> None:
    heads = Heads()
    for number in range(1000):
        heads.note(numbered(number, attempts=1))
    assert len(heads.all()) == 32
    assert heads.of(numbered(999)).attempts == 1


def test_tries_that_somebody_else_wrote_are_nobodys() -> None:
    tries = HeadTries(message_id="m-1", attempts=12, answered=3)
    assert HeadTries.from_text(tries.as_text()) == tries
    assert [HeadTries.from_text(text) for text in ("", "m-1", "m-1 x 3", "m-1 1 2 3", "m-1 -1 2")] == [None] * 5
