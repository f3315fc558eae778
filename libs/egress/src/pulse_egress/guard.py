"""The guard: decides from a URL, and later from the resolved addresses, whether Pulse may connect there.

`check_url` runs when a destination is saved and again at every attempt, since the policy may have changed between;
`check_addresses` runs on every answer of the resolver and on every dialled address.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from pulse_egress.errors import AddressRefused, Refusal
from pulse_egress.hosts import bracketed, is_local_name, parse_name, parse_v6
from pulse_egress.policy import PUBLIC_ONLY, Address, AddressPolicy

MAX_URL_LENGTH: Final = 2048

_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
_MAX_PORT: Final = 65535
_FORBIDDEN: Final = re.compile(r"[\x00-\x20\x7f-\x9f\\]")
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?]+)(.*)")
_AUTHORITY: Final = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]:]+))(?P<port>:.*)?",
)
_PORT: Final = re.compile(r":[1-9][0-9]{0,4}")
# RFC 3986, and brackets and the bar, which query strings of real receivers hold unescaped.
_TARGET: Final = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?\[\]|]|%[0-9A-Fa-f]{2})*")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedUrl:
    """A URL that `check_url` accepted; its parts are used from here on, the text is never parsed again."""

    scheme: str
    host: str
    """The name in ASCII and lower case, or the literal address without brackets."""
    port: int
    target: str = field(repr=False)
    """Path and query, exactly as given. Often a secret: never log it."""
    address: Address | None
    """The address, if the host is a literal one."""
    policy: AddressPolicy = field(repr=False, compare=False)
    """The policy under which the URL was accepted."""

    @property
    def origin(self) -> str:
        """Scheme, host and port: what may be logged."""
        port = "" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{bracketed(self.host, self.address)}{port}"

    @property
    def text(self) -> str:
        """The whole URL in canonical form; it may hold a secret."""
        return self.origin + self.target


def check_url(url: str, policy: AddressPolicy = PUBLIC_ONLY) -> CheckedUrl:
    """Parses a URL once and strictly, or raises `AddressRefused`; asks no resolver.

    What it returns is no promise that the host is public: a name must still be resolved and every answer checked.
    """
    scheme, authority, target = _split(url)
    host, address, explicit_port = _parse_authority(authority)
    _check_scheme(scheme, address, policy)
    port = explicit_port or _DEFAULT_PORTS[scheme]
    if address is not None:
        check_addresses((address,), policy)
    elif is_local_name(host) and not policy.covers_name(host):
        raise AddressRefused(Refusal.LOCAL_NAME)
    if not _is_port_allowed(host, address, port, policy):
        raise AddressRefused(Refusal.PORT)
    return CheckedUrl(scheme=scheme, host=host, port=port, target=target, address=address, policy=policy)


def check_addresses(addresses: Iterable[str | Address], policy: AddressPolicy = PUBLIC_ONLY) -> tuple[Address, ...]:
    """Returns the addresses if there is at least one and all of them may be dialled, else raises `AddressRefused`.

    One bad address spoils the whole answer: whoever mixes public and private answers is probing.
    """
    checked = tuple(_check_address(address, policy) for address in addresses)
    if not checked:
        raise AddressRefused(Refusal.NO_ADDRESS)
    return checked


def _split(url: str) -> tuple[str, str, str]:
    if len(url) > MAX_URL_LENGTH:
        raise AddressRefused(Refusal.TOO_LONG)
    if _FORBIDDEN.search(url):
        raise AddressRefused(Refusal.CHARACTER)
    if "#" in url:
        raise AddressRefused(Refusal.FRAGMENT)
    parts = _URL.fullmatch(url)
    if parts is None:
        raise AddressRefused(Refusal.FORM)
    scheme, authority, target = parts.groups()
    if not _TARGET.fullmatch(target):
        raise AddressRefused(Refusal.CHARACTER)
    return scheme.lower(), authority, target if target.startswith("/") else f"/{target}"


def _parse_authority(authority: str) -> tuple[str, Address | None, int | None]:
    if "@" in authority:
        raise AddressRefused(Refusal.USERINFO)
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise AddressRefused(Refusal.HOST)
    port = _parse_port(parts["port"])
    if parts["v6"] is not None:
        address = parse_v6(parts["v6"])
        return str(address), address, port
    return *parse_name(parts["name"]), port


def _parse_port(text: str | None) -> int | None:
    if text is None:
        return None
    if not _PORT.fullmatch(text) or int(text[1:]) > _MAX_PORT:
        raise AddressRefused(Refusal.PORT)
    return int(text[1:])


def _check_scheme(scheme: str, address: Address | None, policy: AddressPolicy) -> None:
    if scheme not in _DEFAULT_PORTS:
        raise AddressRefused(Refusal.SCHEME)
    is_named_network = address is not None and policy.covers(address)
    if scheme == "http" and not policy.allow_http and not is_named_network:
        raise AddressRefused(Refusal.PLAIN_HTTP)


def _is_port_allowed(host: str, address: Address | None, port: int, policy: AddressPolicy) -> bool:
    if policy.ports is None or port in policy.ports:
        return True
    return policy.covers(address) if address is not None else policy.covers_name(host)


def _check_address(address: str | Address, policy: AddressPolicy) -> Address:
    try:
        parsed = address if isinstance(address, IPv4Address | IPv6Address) else ip_address(address)
    except ValueError:
        raise AddressRefused(Refusal.ADDRESS) from None  # the cause would quote the resolver's answer
    if not policy.permits(parsed):
        raise AddressRefused(Refusal.ADDRESS)
    return parsed
