import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse_egress.errors import HeaderRefused
from pulse_egress.headers import check_header, check_wire_header

CONTROLS = [*map(chr, range(0x20)), "\x7f"]


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("pattern", ["{}", "{}a", "a{}", "a{}b"])
def test_no_control_byte_passes_in_a_name_or_a_value(control: str, pattern: str) -> None:
    with pytest.raises(HeaderRefused):
        check_header(pattern.format(control), "value")
    with pytest.raises(HeaderRefused):
        check_header("X-Name", pattern.format(control))


@pytest.mark.parametrize("name", ["", " ", "a b", "a:", ":authority", "a,b", "(a)", 'a"', "é", "a" * 129, "a\u212a"])
def test_a_name_that_is_no_token_is_refused(name: str) -> None:
    with pytest.raises(HeaderRefused):
        check_header(name, "value")


@pytest.mark.parametrize("value", [" a", "a ", "é", "日本", "\u2028", "\ud800", "a" * 4097])
def test_a_value_that_would_change_on_the_wire_is_refused(value: str) -> None:
    with pytest.raises(HeaderRefused):
        check_header("X-Name", value)


@pytest.mark.parametrize(
    "name",
    [
        *("Host", "CONTENT-LENGTH", "transfer-encoding", "Connection", "Upgrade", "TE", "Trailer", "Expect"),
        *("Proxy-Authorization", "Accept-Encoding", "webhook-id", "Webhook-Signature", "webhook-anything"),
        "X-Signature-256",
    ],
)
def test_a_reserved_name_is_refused_in_any_case(name: str) -> None:
    with pytest.raises(HeaderRefused):
        check_header(name, "value")


@pytest.mark.parametrize(
    ("name", "value"),
    [("Authorization", "Bearer a.b-c_d=="), ("X-Api-Key", "k"), ("X-Empty", ""), ("X!#$%&'*+.^_`|~", 'a "b"; c, d')],
)
def test_an_ordinary_header_passes(name: str, value: str) -> None:
    check_header(name, value)


def test_the_sender_may_set_signatures_but_not_framing() -> None:
    check_wire_header("webhook-signature", "v1,abc v1,def")
    with pytest.raises(HeaderRefused):
        check_wire_header("Transfer-Encoding", "chunked")


def test_a_refusal_does_not_quote_the_value() -> None:
    with pytest.raises(HeaderRefused) as caught:
        check_header("Authorization", "secret\n")
    assert "secret" not in str(caught.value)


@given(name=st.text(), value=st.text())
def test_whatever_passes_is_one_line_of_ascii(name: str, value: str) -> None:
    try:
        check_header(name, value)
    except HeaderRefused:
        return
    assert f"{name}: {value}".isprintable()
    assert f"{name}: {value}".isascii()
