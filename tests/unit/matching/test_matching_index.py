import pytest

from pulse_matching import index
from pulse_matching.index import TopicIndex
from pulse_matching.topic import InvalidTopicFilter


def test_lookup_returns_values_in_the_order_given() -> None:
    routes = TopicIndex([("#", 1), ("a/b", 2), ("a/+", 3), ("x", 4), ("a/#", 5), ("a/b/#", 6), ("+/b", 7)])
    assert routes.lookup("a/b") == [1, 2, 3, 5, 6, 7]


def test_filter_given_twice_gives_both_values() -> None:
    routes = TopicIndex([("a", 1), ("a", 2)])
    assert routes.lookup("a") == [1, 2]
    assert len(routes) == 2


def test_values_need_no_order_of_their_own() -> None:
    first, second = object(), object()
    assert [first, second] == TopicIndex([("a", first), ("#", second)]).lookup("a")


def test_leading_wildcards_do_not_see_topics_of_the_server() -> None:
    routes = TopicIndex([("#", 1), ("+/x", 2), ("$SYS/#", 3), ("$SYS/+", 4)])
    assert routes.lookup("$SYS/x") == [3, 4]
    assert routes.lookup("$SYS") == [3]


@pytest.mark.parametrize("topic", ["", "a/+", "a/#", "a\0"])
def test_topic_that_nobody_may_publish_finds_nothing(topic: str) -> None:
    assert TopicIndex([("#", 1), ("a/+", 2), ("a/#", 3)]).lookup(topic) == []


def test_index_of_nothing_finds_nothing() -> None:
    empty: TopicIndex[int] = TopicIndex([])
    assert empty.lookup("a") == []


def test_bad_filter_is_refused_while_building() -> None:
    with pytest.raises(InvalidTopicFilter):
        TopicIndex([("a", 1), ("a#", 2)])


def test_cost_follows_matches_and_not_the_number_of_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    routes = TopicIndex([(f"tenant/t/device/d{i}/+", i) for i in range(20_000)])
    visited: list[int] = []
    step = index._step  # pyright: ignore[reportPrivateUsage] - counts the nodes visited

    def counting(nodes: list[object], *args: object, **kwargs: object) -> object:
        visited.append(len(nodes))
        return step(nodes, *args, **kwargs)  # pyright: ignore[reportArgumentType, reportUnknownVariableType] - passes all on

    monkeypatch.setattr(index, "_step", counting)
    assert routes.lookup("tenant/t/device/d77/up") == [77]
    assert visited == [1, 1, 1, 1, 1]
