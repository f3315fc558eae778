import pytest

from pulse_matching.topic import InvalidTopicFilter, check_topic_filter, matches


@pytest.mark.parametrize(
    ("topic_filter", "topic"),
    [
        ("a", "a"),
        ("a/b", "a/b"),
        ("/", "/"),
        ("/a", "/a"),
        ("a/", "a/"),
        ("a b/ä", "a b/ä"),
        ("#", "a"),
        ("#", "/"),
        ("#", "a/b/c"),
        ("sport/#", "sport"),
        ("sport/#", "sport/"),
        ("sport/tennis/player1/#", "sport/tennis/player1"),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
        ("foo/+/#", "foo/bar"),
        ("foo/+/#", "foo/"),
        ("/#", "/a"),
        ("/#", "/"),
        ("+", "a"),
        ("+/+", "/finance"),
        ("+/+", "/"),
        ("/+", "/finance"),
        ("sport/+", "sport/"),
        ("foo/+/+/baz", "foo///baz"),
        ("+/tennis/#", "sport/tennis"),
        ("$SYS/#", "$SYS"),
        ("$SYS/#", "$SYS/broker/load"),
        ("$SYS/+", "$SYS/x"),
        ("$SYS/monitor/+", "$SYS/monitor/Clients"),
        ("a/#", "a/b/$c"),
        ("a/+", "a/$c"),
        ("$sharex/a", "$sharex/a"),
    ],
)
def test_filter_selects_topic(topic_filter: str, topic: str) -> None:
    assert matches(topic_filter, topic)


@pytest.mark.parametrize(
    ("topic_filter", "topic"),
    [
        ("a", "A"),
        ("a", "a/"),
        ("a/", "a"),
        ("/a", "a"),
        ("a", "/a"),
        ("a/b", "a"),
        ("a", "a/b"),
        ("sport/#", "sports"),
        ("sport/+", "sport"),
        ("sport/+", "sport/a/b"),
        ("+", "/finance"),
        ("+", "a/b"),
        ("+/+", "a"),
        ("foo/+/#", "foo"),
        ("#", "$SYS"),
        ("#", "$SYS/x"),
        ("+", "$SYS"),
        ("+/x", "$SYS/x"),
        ("+/monitor/Clients", "$SYS/monitor/Clients"),
        ("\u00e9", "e\u0301"),
    ],
)
def test_filter_passes_topic_over(topic_filter: str, topic: str) -> None:
    assert not matches(topic_filter, topic)


@pytest.mark.parametrize("topic", ["", "a/+", "a/#", "+", "#", "a+b", "a#", "a\0b"])
def test_topic_that_nobody_may_publish_matches_nothing(topic: str) -> None:
    assert not matches("#", topic)
    assert not matches("a/+", topic)


@pytest.mark.parametrize(
    ("topic_filter", "reason"),
    [
        ("", "1 to 65535 bytes"),
        ("a" * 65_536, "1 to 65535 bytes"),
        ("ä" * 32_768, "1 to 65535 bytes"),
        ("a\0b", "NUL"),
        ("\ud800", "unicode"),
        ("sport/tennis#", "#"),
        ("sport/tennis/#/ranking", "#"),
        ("#/a", "#"),
        ("a/##", "#"),
        ("a/#+", "#"),
        ("sport+", "+"),
        ("a/++", "+"),
        ("a/+b/c", "+"),
        ("$share/group/a", "shared subscription"),
        ("$share/group/#", "shared subscription"),
        ("$share", "shared subscription"),
    ],
)
def test_bad_filter_is_refused_with_its_reason(topic_filter: str, reason: str) -> None:
    with pytest.raises(InvalidTopicFilter) as caught:
        check_topic_filter(topic_filter)
    assert reason in caught.value.reason
    assert topic_filter == caught.value.topic_filter


def test_bad_filter_is_refused_even_for_a_topic_that_matches_nothing() -> None:
    with pytest.raises(InvalidTopicFilter):
        matches("$share/g/a", "")


@pytest.mark.parametrize("topic_filter", ["a" * 65_535, "/" * 65_535, "+/" * 32_767 + "#"])
def test_longest_filter_is_accepted(topic_filter: str) -> None:
    check_topic_filter(topic_filter)
