from pulse_egress.answers import Answers

TTL_S, KEPT_S = 10.0, 3600.0
OLD, NEW = ("192.0.2.1",), ("192.0.2.2",)


def answers(**given_at: float) -> Answers:
    made = Answers(TTL_S, KEPT_S)
    for host, now in given_at.items():
        made.found(host, OLD, now)
    return made


def test_an_answer_is_fresh_for_its_time_to_live() -> None:
    known = answers(a=0.0)
    assert known.fresh("a", 9.9) == OLD
    assert known.fresh("a", 10.0) is None


def test_an_old_answer_serves_for_a_minute_while_others_are_answered() -> None:
    known = answers(a=0.0, b=60.0)
    assert known.old("a", 60.0) == OLD
    known.found("b", NEW, 60.1)
    assert known.old("a", 60.1) is None
    assert known.old("b", 60.1) == NEW


def test_all_old_answers_run_out_at_the_same_moment_while_nobody_is_answered() -> None:
    known = answers(a=0.0, b=4.0, c=9.0)
    assert [known.old(host, 9.0 + KEPT_S - 0.1) for host in "abc"] == [OLD] * 3
    assert [known.old(host, 9.0 + KEPT_S) for host in "abc"] == [None] * 3


def test_after_a_question_without_an_answer_nobody_asks_again_for_the_time_to_live() -> None:
    known = answers(a=0.0)
    known.unanswered("a", 20.0)
    assert known.fresh("a", 29.9) == OLD
    assert known.fresh("a", 30.0) is None


def test_not_asking_again_prolongs_nothing() -> None:
    known = answers(a=0.0)
    known.unanswered("a", KEPT_S - 1.0)
    assert known.fresh("a", KEPT_S - 0.1) == OLD
    assert known.fresh("a", KEPT_S) is None


def test_a_name_that_is_gone_is_forgotten() -> None:
    known = answers(a=0.0)
    known.unknown("a")
    assert known.fresh("a", 1.0) is None
    assert known.old("a", 1.0) is None
