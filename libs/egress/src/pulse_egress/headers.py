"""Which headers a customer may add to a request, and which can stand on the wire at all."""

import re
from typing import Final

from pulse_egress.errors import HeaderRefused

MAX_NAME_LENGTH: Final = 128
MAX_VALUE_LENGTH: Final = 4096

_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")
# Printable ASCII only. RFC 9110 also lets tabs and Latin-1 stand in old fields, but aiohttp writes headers as UTF-8,
# so that a Latin-1 letter would reach the receiver as two others.
_VALUE: Final = re.compile(r"(?:[!-~](?:[ -~]*[!-~])?)?")
_FRAMING: Final = frozenset(
    {
        "accept-encoding",  # the engine asks for identity and decodes nothing
        "connection",
        "content-encoding",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_SIGNATURES: Final = ("webhook-", "x-signature")


def check_header(name: str, value: str) -> None:
    """Raises `HeaderRefused` unless a customer may have this header sent to their own receiver.

    Headers that frame the request or carry a signature of Pulse are reserved: with them a tenant could smuggle a second
    request or forge the signature that a shared receiver trusts.
    """
    check_wire_header(name, value)
    if name.lower().startswith(_SIGNATURES):
        raise HeaderRefused("the name is reserved for signatures")


def check_wire_header(name: str, value: str) -> None:
    """Raises `HeaderRefused` unless the header is well-formed and leaves the framing to the engine."""
    if len(name) > MAX_NAME_LENGTH or not _TOKEN.fullmatch(name):
        raise HeaderRefused("the name is not a token")
    if len(value) > MAX_VALUE_LENGTH or not _VALUE.fullmatch(value):
        raise HeaderRefused("the value is not printable ascii of bounded length")
    if name.lower() in _FRAMING:
        raise HeaderRefused("the name is reserved for the connection")
