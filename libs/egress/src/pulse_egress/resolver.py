"""The resolver that aiohttp gets: checks every answer, and hands over only addresses that passed."""

import socket
from ipaddress import IPv6Address

from aiohttp.abc import AbstractResolver, ResolveResult

from pulse_egress.dial import current_attempt
from pulse_egress.guard import check_addresses
from pulse_egress.names import Names
from pulse_egress.policy import AddressPolicy


class CheckedResolver(AbstractResolver):
    """Lets aiohttp see an answer only if the policy permits every address in it.

    aiohttp does not ask a resolver about literal addresses; `DialGuard` covers those.
    """

    def __init__(self, names: Names, policy: AddressPolicy) -> None:
        self._names = names
        self._policy = policy

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 # every family must pass, whichever is dialled
    ) -> list[ResolveResult]:
        """Raises `AddressRefused` for a bad or empty answer; an error of the resolver passes through as OSError."""
        addresses = check_addresses(await self._names.addresses(host, current_attempt()), self._policy)
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET6 if isinstance(address, IPv6Address) else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Holds nothing; whoever made the names closes them."""
