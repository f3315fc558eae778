"""The matchers agree with the reference on what hypothesis can think of."""

import json
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pulse_matching import reference
from pulse_matching.expression import MatchError, Message, compile_expression
from pulse_matching.index import TopicIndex
from pulse_matching.payload import InvalidPayloadFilter, compile_filter
from pulse_matching.topic import InvalidTopicFilter, check_topic_filter, matches

# Few different pieces, so that filters and messages meet often.
LEVELS = st.sampled_from(["", "a", "b", "$a", "$SYS", "ä"])
TOPICS = st.one_of(
    st.lists(LEVELS, min_size=1, max_size=5).map("/".join),
    st.text(alphabet="a/+#$\0", max_size=6),
    st.sampled_from(["", "#", "+", "a/#", "a/+", "a#", "a\0"]),
)
FILTERS = (
    st.tuples(st.lists(LEVELS | st.just("+"), max_size=4), st.sampled_from([[], ["#"], ["+"]]))
    .map(lambda parts: "/".join(parts[0] + parts[1]))
    .filter(bool)
)


@st.composite
def meetings(draw: st.DrawFn) -> tuple[str, list[str]]:
    """Draw a topic, and filters that are made from it by wildcards and cuts."""
    levels = draw(st.lists(LEVELS, min_size=1, max_size=4))
    filters: list[str] = []
    for _ in range(draw(st.integers(1, 4))):
        kept = [draw(st.sampled_from([level, level, "+"])) for level in levels[: draw(st.integers(0, len(levels)))]]
        filters.append("/".join([*kept, *draw(st.sampled_from([[], ["#"], ["#"], ["+"]]))]))
    return "/".join(levels), [each for each in filters if each]


NAMES = st.sampled_from(["a", "b", "a.b", "metrics", "c\\"])
PATHS = st.lists(NAMES.map(lambda name: name.replace(".", r"\.")), min_size=1, max_size=3).map(".".join)
NUMBERS = st.sampled_from([0, 1, 2, 1.0, 1.5, -0.0, -1, 2**53, 2**53 + 1, 1e300])
STRINGS = st.sampled_from(["", "a", "b", "ab", "1", "A", "\uffff", "\U00010000", "a.b"])
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, STRINGS)
PATTERNS = st.sampled_from(["a", "^a$", "b|1", ".", "", "[A-Z]", "a.*b"])
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=6,
)
PAYLOADS = st.dictionaries(NAMES, VALUES, max_size=4)

# A few neighbours of 0, 1, null and "1": the values that careless comparisons take for each other.
NEAR = st.sampled_from([None, True, False, 0, 1, 1.0, 2, "", "1", "a"])
NEAR_ELEMENTS = NEAR | st.sampled_from([{"a": 1}, {"b": True}, {"metrics": {"a": 1}}, [1]])
NEAR_VALUES: st.SearchStrategy[Any] = NEAR | st.lists(NEAR_ELEMENTS, max_size=3)
BOUNDS = st.sampled_from([0, 1, 1.5, 2, "", "1", "a"])
SINGLE_OPERATORS: st.SearchStrategy[Any] = st.one_of(
    *(st.fixed_dictionaries({name: NEAR}) for name in ("$eq", "$ne")),
    *(st.fixed_dictionaries({name: BOUNDS}) for name in ("$gt", "$gte", "$lt", "$lte")),
    *(st.fixed_dictionaries({name: st.lists(NEAR, min_size=1, max_size=2)}) for name in ("$in", "$nin")),
    st.fixed_dictionaries({"$exists": st.booleans()}),
    st.fixed_dictionaries({"$elem": st.fixed_dictionaries({"a": NEAR})}),
    st.fixed_dictionaries({"$elem": st.fixed_dictionaries({"$gte": BOUNDS, "$ne": NEAR})}),
    st.fixed_dictionaries({"$not": st.fixed_dictionaries({"$eq": NEAR})}),
)


def _as_object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(members)


def _conditions(inner: st.SearchStrategy[Any], names: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """Build objects whose members are operators of a value, and paths where *names* has some."""
    operators: dict[str, st.SearchStrategy[Any]] = {
        "$eq": SCALARS,
        "$ne": SCALARS,
        "$gt": NUMBERS | STRINGS,
        "$gte": NUMBERS | STRINGS,
        "$lt": NUMBERS | STRINGS,
        "$lte": NUMBERS | STRINGS,
        "$in": st.lists(SCALARS, min_size=1, max_size=3),
        "$nin": st.lists(SCALARS, min_size=1, max_size=3),
        "$exists": st.booleans(),
        "$regex": PATTERNS,
        "$not": inner,
        "$and": st.lists(inner, min_size=1, max_size=2),
        "$or": st.lists(inner, min_size=1, max_size=2),
    }
    members: list[st.SearchStrategy[tuple[str, Any]]] = [
        *(st.tuples(st.just(name), operand) for name, operand in operators.items()),
        st.tuples(st.just("$elem"), ELEMENTS),
        st.tuples(names, SCALARS | VALUE_CONDITIONS),
    ]
    return st.lists(st.one_of(members), min_size=1, max_size=2).map(_as_object)


NOTHING: st.SearchStrategy[str] = st.nothing()
VALUE_CONDITIONS: st.SearchStrategy[Any] = st.deferred(lambda: _conditions(VALUE_CONDITIONS, NOTHING))
ELEMENTS: st.SearchStrategy[Any] = st.deferred(lambda: _conditions(ELEMENTS, PATHS))


def _filters(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(inner, min_size=1, max_size=2)
    return st.one_of(
        st.fixed_dictionaries({"$and": lists}),
        st.fixed_dictionaries({"$or": lists}),
        st.fixed_dictionaries({"$not": inner}),
        st.fixed_dictionaries({"$not": inner}, optional={"a": SCALARS, "b": VALUE_CONDITIONS}),
    )


SPECS: st.SearchStrategy[Any] = st.recursive(
    st.dictionaries(PATHS, SCALARS | VALUE_CONDITIONS, max_size=2), _filters, max_leaves=3
)
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["$and", "$in", "$elem"]), inner),
    max_leaves=8,
)


@given(topic_filter=FILTERS, topic=TOPICS)
@settings(max_examples=200, deadline=None)
def test_topic_matching_agrees_with_the_reference(topic_filter: str, topic: str) -> None:
    check_topic_filter(topic_filter)
    assert reference.topic_matches(topic_filter, topic) == matches(topic_filter, topic)


@given(meeting=meetings())
@settings(max_examples=300, deadline=None)
def test_topics_and_filters_that_meet_agree_with_the_reference(meeting: tuple[str, list[str]]) -> None:
    topic, filters = meeting
    expected = [each for each in filters if reference.topic_matches(each, topic)]
    assert expected == [each for each in filters if matches(each, topic)]
    assert expected == TopicIndex(zip(filters, filters, strict=True)).lookup(topic)


@given(filters=st.lists(FILTERS, max_size=8), topic=TOPICS)
@settings(max_examples=200, deadline=None)
def test_index_finds_what_the_reference_finds(filters: list[str], topic: str) -> None:
    routes = TopicIndex(zip(filters, range(len(filters)), strict=True))
    expected = [place for place, each in enumerate(filters) if reference.topic_matches(each, topic)]
    assert expected == routes.lookup(topic)


@given(topic_filter=st.text(alphabet="a/+#$\0\ud800", max_size=8), topic=TOPICS)
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_filter_or_refused(topic_filter: str, topic: str) -> None:
    with suppress(InvalidTopicFilter):
        assert matches(topic_filter, topic) in (True, False)


@given(spec=SPECS, payload=PAYLOADS)
@settings(max_examples=300, deadline=None)
def test_payload_filter_agrees_with_the_reference(spec: Any, payload: dict[str, Any]) -> None:
    try:
        holds = compile_filter(spec)
    except InvalidPayloadFilter as exc:
        # A generated filter is valid: only the bounds may refuse it.
        if "deeper" in exc.reason or "regular expressions" in exc.reason:
            return
        raise
    assert reference.payload_matches(spec, payload) == holds(payload)
    assert compile_filter(json.dumps(spec))(payload) == holds(payload)


@given(operand=SCALARS | SINGLE_OPERATORS, value=NEAR_VALUES, fallback=NEAR_VALUES)
@settings(max_examples=1000, deadline=None)
def test_condition_on_a_present_value_agrees_with_the_reference(operand: Any, value: Any, fallback: Any) -> None:
    payloads: list[dict[str, Any]] = [{"a": value}, {"metrics": {"a": value}, "a": fallback}]
    holds = compile_filter({"a": operand})
    for payload in payloads:
        assert reference.payload_matches({"a": operand}, payload) == holds(payload)


@given(names=st.lists(NAMES, min_size=1, max_size=3), escapes=st.booleans(), below=st.sampled_from([[], ["metrics"]]))
@settings(max_examples=150, deadline=None)
def test_path_to_a_present_value_agrees_with_the_reference(
    names: list[str], *, escapes: bool, below: list[str]
) -> None:
    payload: Any = 1
    for name in reversed(below + names):
        payload = {name: payload}
    path = ".".join(name.replace(".", r"\.") if escapes else name for name in names)
    assert reference.payload_matches({path: 1}, payload) == compile_filter({path: 1})(payload)


@given(topic_filter=FILTERS, spec=SPECS, topic=TOPICS, payload=PAYLOADS)
@settings(max_examples=100, deadline=None)
def test_route_matches_where_both_filters_do(topic_filter: str, spec: Any, topic: str, payload: dict[str, Any]) -> None:
    both = reference.topic_matches(topic_filter, topic) and reference.payload_matches(spec, payload)
    assert both == reference.matches_route(topic_filter, spec, topic, payload)


@given(spec=ANYTHING, payload=st.dictionaries(st.text(), ANYTHING))
@settings(max_examples=50, deadline=None)
def test_anything_is_a_filter_or_refused_and_never_raises(spec: Any, payload: dict[str, Any]) -> None:
    try:
        holds = compile_filter(spec)
    except InvalidPayloadFilter:
        return
    assert holds(payload) in (True, False)


@given(
    payload=st.dictionaries(st.text(), ANYTHING),
    text=st.sampled_from(["metrics.a > 1", "payload.a[0].b", "[payload].exists(p, has(p.a))"]),
)
@settings(max_examples=50, deadline=None)
def test_expression_decides_or_raises_match_error(payload: dict[str, Any], text: str) -> None:
    decides = compile_expression(text)
    with suppress(MatchError):
        assert decides(Message(payload=payload, topic="a", device_id="d", type="t")) in (True, False)
