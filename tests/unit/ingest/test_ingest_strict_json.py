import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse_ingest.domain.strict_json import MAX_DEPTH, MAX_KEYS, JsonRefused, parse


def refused(data: bytes) -> JsonRefused:
    with pytest.raises(JsonRefused) as caught:
        parse(data)
    return caught.value


def nested_arrays(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def nested_objects(depth: int) -> bytes:
    return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)


def with_keys(count: int) -> bytes:
    return json.dumps({str(number): number for number in range(count)}).encode()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"NaN", "payload_number"),
        (b'{"t":NaN}', "payload_number"),
        (b'{"t":Infinity}', "payload_number"),
        (b'{"t":-Infinity}', "payload_number"),
        (b'{"t":1e999}', "payload_number"),
        (b'{"t":-1e999}', "payload_number"),
        (b'{"t":9223372036854775808}', "payload_number"),
        (b'{"t":-9223372036854775809}', "payload_number"),
        (b'{"t":18446744073709551616}', "payload_number"),
        (b'{"t":"a\\u0000b"}', "payload_nul"),
        (b'{"a\\u0000":1}', "payload_nul"),
        (b'{"t":"\\ud800"}', "payload_surrogate"),
        (b'{"t":"\\udc00\\ud800"}', "payload_surrogate"),
        (b'{"\\udfff":1}', "payload_surrogate"),
        (b'{"t":1,"t":1}', "payload_duplicate_key"),
        (b'{"t":1,"\\u0074":2}', "payload_duplicate_key"),
        (b'[{"a":{"b":1,"c":2,"b":3}}]', "payload_duplicate_key"),
        (nested_arrays(MAX_DEPTH + 1), "payload_too_deep"),
        (nested_objects(MAX_DEPTH + 1), "payload_too_deep"),
        (nested_arrays(100_000), "payload_too_deep"),
        (with_keys(MAX_KEYS + 1), "payload_too_many_keys"),
        ('{"t":1}'.encode("utf-16"), "payload_not_utf8"),
        ('{"t":1}'.encode("utf-16-le"), "payload_not_json"),
        (b'\xef\xbb\xbf{"t":1}', "payload_not_json"),
        (b'{"t":"\xff"}', "payload_not_utf8"),
        (b'{"t":"\xed\xa0\x80"}', "payload_not_utf8"),
        (b'{"t":"\xc0\x80"}', "payload_not_utf8"),
    ],
)
def test_each_row_of_the_table_is_refused_with_its_own_reason(data: bytes, reason: str) -> None:
    assert reason == refused(data).reason


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"{",
        b"}",
        b"{}}",
        b"{} {}",
        b'{"a":1,}',
        b"[1,]",
        b"[,1]",
        b"[1 2]",
        b'{"a" 1}',
        b'{"a":}',
        b"{a:1}",
        b"{'a':1}",
        b"{1:1}",
        b'{"a":01}',
        b'{"a":+1}',
        b'{"a":.5}',
        b'{"a":1.}',
        b'{"a":1e}',
        b'{"a":0x10}',
        b'{"a":1_000}',
        b'{"a":True}',
        b'{"a":nul}',
        b'{"a":undefined}',
        b'{"a":"\n"}',
        b'{"a":"\t"}',
        b'{"a":"\\x41"}',
        b'{"a":"\\u12"}',
        b'{"a":"',
        b'{"a":1}\x00',
        b'{"a":1}//',
        b"/**/{}",
        b"\x0c{}",
        b"\xc2\xa0{}",
        "{“a”:1}".encode(),
        b'{"a":\xd9\xa1}',
    ],
)
def test_what_is_not_json_is_refused(data: bytes) -> None:
    assert refused(data).reason == "payload_not_json"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"{}", {}),
        (b" \t\r\n{ } \n", {}),
        (b"null", None),
        (b"true", True),
        (b'""', ""),
        (b"-0", 0),
        (b"1E2", 100.0),
        (b"1e-999", 0.0),
        (b"9223372036854775807", 2**63 - 1),
        (b"-9223372036854775808", -(2**63)),
        (b"123456789012345678901234567890.0", 123456789012345678901234567890.0),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\u0001\\u001f\\u007f"', "\x01\x1f\x7f"),
        ('"\U0010ffff﷐"'.encode(), "\U0010ffff﷐"),
        (b'{"":1}', {"": 1}),
        (b'{"a":{"a":1},"b":{"a":1}}', {"a": {"a": 1}, "b": {"a": 1}}),
        (b'{"__proto__":1}', {"__proto__": 1}),
    ],
)
def test_what_is_json_is_taken_as_it_is(data: bytes, expected: object) -> None:
    assert expected == parse(data)


def test_the_bounds_themselves_are_taken() -> None:
    parse(nested_arrays(MAX_DEPTH))
    parse(nested_objects(MAX_DEPTH))
    parse(with_keys(MAX_KEYS))


def test_keys_are_counted_over_all_objects() -> None:
    half = with_keys(MAX_KEYS // 2)
    parse(b"[" + half + b"," + half + b"]")
    assert refused(b"[" + half + b"," + half + b',{"a":1}]').reason == "payload_too_many_keys"


def test_an_integer_of_many_digits_costs_nothing() -> None:
    started = time.process_time()
    assert refused(b"9" * 250_000).reason == "payload_number"
    assert time.process_time() - started < 0.5


def test_a_key_repeated_after_many_others_costs_no_more_than_reading_them() -> None:
    names = b",".join(b'"k%06d":1' % number for number in range(20_000))
    started = time.process_time()
    assert refused(b"{" + names + b',"k019999":1}').path == "k019999"
    assert time.process_time() - started < 1.0


def test_a_path_stays_short_however_long_the_keys_are() -> None:
    name = b"n" * 10_000
    data = b'{"%b":{"%b":{"x":"\\u0000"}}}' % (name, name)
    assert refused(data).path == "n" * 64


def test_a_refusal_names_where_it_found_the_fault() -> None:
    caught = refused(b'{"metrics":{"site":"\\u0000"}}')
    assert caught.path == "metrics.site"
    assert str(caught) == "metrics.site: contains a NUL character"


@pytest.mark.parametrize("name", ["\\ud800", "\\u0000", "a\\udfff"])
def test_a_refusal_can_be_written_down_whatever_the_key(name: str) -> None:
    caught = refused(f'{{"{name}":1,"{name}":2}}'.encode())
    assert "\x00" not in str(caught)
    assert str(caught).encode()


CLEAN_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | CLEAN_TEXT
)
JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(CLEAN_TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(JSON_VALUES, st.booleans())
def test_every_clean_value_survives_the_round_trip(value: Any, ascii_only: bool) -> None:  # noqa: FBT001 - hypothesis calls it
    assert value == parse(json.dumps(value, ensure_ascii=ascii_only).encode())


@given(st.binary(max_size=64) | st.text('{}[]",:0123456789eE+-.nulltrefas \\\x00', max_size=40).map(str.encode))
def test_bytes_are_taken_only_if_other_strict_readers_would_take_them(data: bytes) -> None:
    try:
        value = parse(data)
    except JsonRefused:
        return
    assert value == json.loads(data.decode())
    assert value == json.loads(json.dumps(value, allow_nan=False, ensure_ascii=False).encode())


@given(JSON_VALUES, st.text(st.characters(categories=["Cs"]), min_size=1, max_size=2))
def test_a_surrogate_anywhere_is_refused(value: Any, bad: str) -> None:
    # Written with escapes, of which two may make one whole character.
    text = json.dumps({"value": value, "bad": bad})
    if json.loads(text)["bad"].isascii() or len(json.loads(text)["bad"]) < len(bad):
        return
    assert refused(text.encode()).reason == "payload_surrogate"
