import re
from ipaddress import IPv4Address, IPv6Address

import pytest
from egress_urls import (
    BAD_ANSWERS,
    BAD_HOSTS,
    GOOD_HOSTS,
    GOOD_TARGETS,
    LITERALS,
    LOCAL_NAMES,
    NUMERIC_HOSTS,
    REFUSED_TEXTS,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from pulse_egress.errors import AddressRefused, Refusal
from pulse_egress.guard import CheckedUrl, check_addresses, check_url
from pulse_egress.policy import PUBLIC_ONLY, AddressPolicy, is_public

LOOPBACK = AddressPolicy.from_ranges(["127.0.0.0/8", "::1/128"])


def refusal(url: str, policy: AddressPolicy = PUBLIC_ONLY) -> Refusal:
    with pytest.raises(AddressRefused) as caught:
        check_url(url, policy)
    return caught.value.reason


def test_the_corpora_have_the_promised_size() -> None:
    hostile = {*LITERALS, *NUMERIC_HOSTS, *LOCAL_NAMES, *BAD_HOSTS, *(text for text, _ in REFUSED_TEXTS)}
    assert len(hostile) + len(BAD_ANSWERS) >= 200
    assert len(GOOD_HOSTS) + len(GOOD_TARGETS) >= 50


@pytest.mark.parametrize("host", LITERALS)
def test_a_literal_address_that_is_not_public_is_refused(host: str) -> None:
    assert refusal(f"https://{host}/") is Refusal.ADDRESS


@pytest.mark.parametrize("host", NUMERIC_HOSTS)
def test_a_number_that_getaddrinfo_could_read_as_an_address_is_refused(host: str) -> None:
    assert refusal(f"https://{host}/") is Refusal.NUMERIC_HOST


@pytest.mark.parametrize("host", LOCAL_NAMES)
def test_a_local_name_is_refused(host: str) -> None:
    assert refusal(f"https://{host}/") is Refusal.LOCAL_NAME


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_a_malformed_or_mappable_host_is_refused(host: str) -> None:
    assert refusal(f"https://{host}/") in {Refusal.HOST, Refusal.PORT}


@pytest.mark.parametrize(("url", "reason"), REFUSED_TEXTS)
def test_a_url_is_refused_for_its_text(url: str, reason: Refusal) -> None:
    assert refusal(url) is reason


@pytest.mark.parametrize("host", [*LITERALS, *NUMERIC_HOSTS, *BAD_HOSTS])
def test_allowing_other_ranges_and_http_opens_no_refused_host(host: str) -> None:
    policy = AddressPolicy.from_ranges(["25.0.0.0/8"], allow_http=True, ports=None)
    with pytest.raises(AddressRefused):
        check_url(f"http://{host}:9000/", policy)


@pytest.mark.parametrize("answer", BAD_ANSWERS)
def test_one_bad_address_spoils_an_answer(answer: tuple[str, ...]) -> None:
    with pytest.raises(AddressRefused) as caught:
        check_addresses(answer)
    assert caught.value.reason is Refusal.ADDRESS


def test_an_empty_answer_is_refused() -> None:
    with pytest.raises(AddressRefused) as caught:
        check_addresses(())
    assert caught.value.reason is Refusal.NO_ADDRESS


def test_good_addresses_come_back_parsed() -> None:
    expected = (IPv4Address("8.8.8.8"), IPv6Address("2606:4700::1111"))
    assert expected == check_addresses(("8.8.8.8", IPv6Address("2606:4700::1111")))


@pytest.mark.parametrize(("host", "canonical"), GOOD_HOSTS)
def test_a_good_host_is_accepted_in_canonical_form(host: str, canonical: str) -> None:
    assert canonical == check_url(f"https://{host}/hook").host


@pytest.mark.parametrize(("target", "sent"), GOOD_TARGETS)
def test_a_good_target_is_kept_as_given(target: str, sent: str) -> None:
    assert sent == check_url(f"https://example.com{target}").target


@pytest.mark.parametrize("port", [80, 443, 8080, 8443])
def test_usual_ports_are_open(port: int) -> None:
    assert port == check_url(f"https://example.com:{port}/").port


def test_a_checked_url_shows_its_parts() -> None:
    url = check_url("HTTPS://Example.COM:8443/a?b")
    assert (url.scheme, url.host, url.port, url.target, url.address) == ("https", "example.com", 8443, "/a?b", None)
    assert url.origin == "https://example.com:8443"
    assert url.text == "https://example.com:8443/a?b"


def test_the_origin_of_an_ipv6_literal_has_brackets() -> None:
    assert check_url("https://[2606:4700::1]:443/x").text == "https://[2606:4700::1]/x"


def test_no_representation_of_a_checked_url_shows_its_target() -> None:
    url = check_url("https://example.com/T0/secret?sig=hidden")
    assert not re.search("secret|hidden", f"{url!r} {url} {url.origin}")


def test_a_refusal_quotes_nothing_of_the_url() -> None:
    with pytest.raises(AddressRefused) as caught:
        check_url("https://user:secret@example.com/secret")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_allowed_range_opens_its_literals_for_http_and_any_port() -> None:
    assert check_url("http://127.0.0.1:18080/hook", LOOPBACK).port == 18080
    assert check_url("http://[::1]:9/", LOOPBACK).address == IPv6Address("::1")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://10.0.0.1:18080/", Refusal.PLAIN_HTTP),
        ("https://10.0.0.1/", Refusal.ADDRESS),
        ("http://localhost:18080/", Refusal.PLAIN_HTTP),
        ("https://localhost/", Refusal.LOCAL_NAME),
        ("https://[::ffff:127.0.0.1]/", Refusal.ADDRESS),
        ("http://8.8.8.8/", Refusal.PLAIN_HTTP),
        ("https://127.1/", Refusal.NUMERIC_HOST),
        ("ftp://127.0.0.1/", Refusal.SCHEME),
    ],
)
def test_an_allowed_range_opens_nothing_else(url: str, reason: Refusal) -> None:
    assert refusal(url, LOOPBACK) is reason


def test_a_mapped_address_stays_closed_even_if_all_of_ipv6_is_allowed() -> None:
    policy = AddressPolicy.from_ranges(["::/0"])
    assert refusal("https://[::ffff:10.0.0.1]/", policy) is Refusal.ADDRESS


def test_an_allowed_name_is_exempt_from_the_rules_on_names_and_ports() -> None:
    policy = AddressPolicy.from_ranges(["127.0.0.0/8"], names=("localhost", ".svc.cluster.local"), allow_http=True)
    assert check_url("http://localhost:18080/", policy).host == "localhost"
    assert check_url("http://a.svc.cluster.local:81/", policy).port == 81
    assert refusal("http://metadata/", policy) is Refusal.LOCAL_NAME
    assert refusal("http://example.com:81/", policy) is Refusal.PORT


def test_an_allowed_name_opens_no_address() -> None:
    with pytest.raises(AddressRefused):
        check_addresses(("10.0.0.1",), AddressPolicy(allow_names=frozenset({"receiver.internal"})))


def test_a_range_with_host_bits_is_an_error() -> None:
    with pytest.raises(ValueError, match="host bits"):
        AddressPolicy.from_ranges(["127.0.0.1/8"])


def accepted(url: str) -> CheckedUrl | None:
    try:
        return check_url(url, AddressPolicy(allow_http=True, ports=None))
    except AddressRefused:
        return None


ALPHABET = "ht ps:/\\@#?%[]().-_01279afxX\t\r\n\x00lco。①ｌ\u00adüu+"  # look-alikes are the point


@settings(max_examples=500, deadline=None)
@given(rest=st.one_of(st.text(ALPHABET), st.text()))
def test_any_text_is_refused_or_becomes_plain_parts(rest: str) -> None:
    url = accepted(f"https://{rest}")
    if url is None:
        return
    assert re.fullmatch(r"[a-z0-9.:-]+", url.host)
    assert re.fullmatch(r"/[!-~]*", url.target)
    assert url.address is None or is_public(url.address)
    assert url == accepted(url.text)


@settings(max_examples=500, deadline=None)
@given(address=st.ip_addresses())
def test_a_literal_is_accepted_exactly_if_it_is_public(address: IPv4Address | IPv6Address) -> None:
    host = f"[{address}]" if isinstance(address, IPv6Address) else str(address)
    url = accepted(f"https://{host}/")
    assert (url is not None) is is_public(address)


@settings(max_examples=300, deadline=None)
@given(hidden=st.ip_addresses(v=4), prefix=st.sampled_from(["::", "::ffff:", "::ffff:0:", "64:ff9b::", "2002:"]))
def test_no_ipv6_address_that_embeds_an_ipv4_address_is_public(hidden: IPv4Address, prefix: str) -> None:
    high, low = int(hidden) >> 16, int(hidden) & 0xFFFF
    tail = "::" if prefix == "2002:" else ""
    assert not is_public(IPv6Address(f"{prefix}{high:x}:{low:x}{tail}"))


@settings(max_examples=300, deadline=None)
@given(address=st.ip_addresses())
def test_what_python_calls_private_is_never_public(address: IPv4Address | IPv6Address) -> None:
    assert not (is_public(address) and (address.is_private or address.is_multicast or address.is_reserved))
