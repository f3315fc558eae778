"""The host of a URL: an ASCII name or a canonical address, and nothing that another parser reads differently."""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from string import ascii_lowercase, ascii_uppercase
from typing import Final

import idna

from pulse_egress.errors import AddressRefused, Refusal
from pulse_egress.policy import Address

_MAX_NAME: Final = 253
_LOWER: Final = str.maketrans(ascii_uppercase, ascii_lowercase)
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LOCAL_SUFFIXES: Final = (
    ".localhost",
    ".localdomain",
    ".local",
    ".internal",
    ".intranet",
    ".lan",
    ".home.arpa",
)


def parse_name(text: str) -> tuple[str, IPv4Address | None]:
    """Returns a host in ASCII, and its address if it is an IPv4 literal.

    Only A to Z are folded. No other mapping takes place, because UTS 46 maps circled and full-width digits and
    ideographic dots to plain ones, and 127.0.0.1 can be written with any of them. For the same reason a host whose last
    label is a number must be a canonical dotted quad: getaddrinfo takes 127.1, 0x7f000001 and 2130706433 for loopback.
    """
    host = _to_ascii(text.translate(_LOWER))
    labels = host.split(".")
    if len(host) > _MAX_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        raise AddressRefused(Refusal.HOST)
    if _NUMBER.fullmatch(labels[-1]):
        return host, _parse_v4(host)
    return host, None


def parse_v6(text: str) -> IPv6Address:
    """Returns the address between the brackets of a URL; a zone is refused."""
    try:
        address = IPv6Address(text)
    except AddressValueError:
        raise AddressRefused(Refusal.HOST) from None  # the cause would repeat the URL
    if address.scope_id is not None:
        raise AddressRefused(Refusal.HOST)
    return address


def is_local_name(host: str) -> bool:
    """Whether a name has its meaning in a local network only: single labels, and names below local suffixes."""
    return "." not in host or host.endswith(_LOCAL_SUFFIXES)


def bracketed(host: str, address: Address | None) -> str:
    """Returns the host as it stands in a URL."""
    return f"[{host}]" if isinstance(address, IPv6Address) else host


def _to_ascii(text: str) -> str:
    if len(text) > _MAX_NAME:
        raise AddressRefused(Refusal.HOST)
    if text.isascii() and "xn--" not in text:
        return text
    try:
        return idna.encode(text, strict=True, std3_rules=True).decode("ascii")
    except UnicodeError:
        raise AddressRefused(Refusal.HOST) from None  # the cause would repeat the URL


def _parse_v4(host: str) -> IPv4Address:
    try:
        return IPv4Address(host)  # refuses leading zeros and fewer than four parts
    except AddressValueError:
        raise AddressRefused(Refusal.NUMERIC_HOST) from None  # the cause would repeat the URL
