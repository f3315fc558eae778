"""Which addresses, names, ports and schemes egress may use."""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final, Self, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

PUBLIC_PORTS: Final = frozenset({80, 443, 8080, 8443})

# ipaddress.is_global is no guide: on Python 3.11 it calls 64:ff9b::7f00:1, 2002:7f00:1::, fec0::1, 224.0.0.1 and
# 192.88.99.1 global. These are the IANA special-purpose registries plus what clouds and history add to them.
_CLOSED_V4: Final = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier NAT; also the metadata service of Alibaba Cloud
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's platform service, reachable from every machine there
        "169.254.0.0/16",  # link-local; also the metadata services
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
# For IPv6 the rule is turned round: only global unicast is open, so ULA, link-local, NAT64, ::/96, SIIT, 5f00::/16
# and whatever IANA assigns next are closed without being listed.
_OPEN_V6: Final = IPv6Network("2000::/3")
_CLOSED_V6: Final = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",
        "2002::/16",  # 6to4 embeds an IPv4 address
        "3fff::/20",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressPolicy:
    """What egress may reach beyond public addresses.

    The default, `PUBLIC_ONLY`, is what tenants get. An operator widens it by ranges and, for receivers that have only
    a local name, by names; a name never opens an address: what it resolves to must be public or within `allow`.

    | | public address | within `allow` |
    |---|---|---|
    | https, a port of `ports` | yes | yes |
    | https, another port | no | literal address or allowed name only |
    | http | only with `allow_http` | literal address, or with `allow_http` |

    Plain http needs no `allow_http` for a literal address within `allow`, since the operator named that very network.
    A host *name* cannot have this exception: where it leads is not known before it is resolved, and may change.
    """

    allow: tuple[Network, ...] = ()
    """Networks that are reachable although they are not public."""
    allow_names: frozenset[str] = frozenset()
    """Host names exempt from the rules against local names and unusual ports; `.lan` means every name below lan."""
    allow_http: bool = False
    """Whether plain http is allowed to every reachable host."""
    ports: frozenset[int] | None = PUBLIC_PORTS
    """The ports of public hosts; None means any."""

    @classmethod
    def from_ranges(
        cls,
        ranges: Iterable[str],
        *,
        names: Iterable[str] = (),
        allow_http: bool = False,
        ports: frozenset[int] | None = PUBLIC_PORTS,
    ) -> Self:
        """Reads networks such as `127.0.0.0/8`; raises ValueError for what is no network or has host bits set."""
        return cls(
            allow=tuple(ip_network(text) for text in ranges),
            allow_names=frozenset(name.lower() for name in names),
            allow_http=allow_http,
            ports=ports,
        )

    def covers(self, address: Address) -> bool:
        """Whether the operator allowed this address explicitly."""
        return any(address in network for network in self.allow)

    def covers_name(self, host: str) -> bool:
        """Whether the operator allowed this name explicitly."""
        return host in self.allow_names or any(
            name.startswith(".") and host.endswith(name) for name in self.allow_names
        )

    def permits(self, address: Address) -> bool:
        """Whether this address may be dialled.

        A mapped address (`::ffff:10.0.0.1`) is never permitted, not even within `allow`: it is dialled as the IPv4
        address it hides, about which a range of IPv6 addresses says nothing. Nor is an address with a zone.
        """
        if isinstance(address, IPv6Address) and (address.ipv4_mapped is not None or address.scope_id is not None):
            return False
        return is_public(address) or self.covers(address)


PUBLIC_ONLY: Final = AddressPolicy()


def is_public(address: Address) -> bool:
    """Whether an address belongs to the open internet and to no special purpose."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _CLOSED_V4)
    return address in _OPEN_V6 and not any(address in network for network in _CLOSED_V6)
