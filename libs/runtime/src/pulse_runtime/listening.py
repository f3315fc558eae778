"""How a process listens: one way to bind an address, of IPv4 or IPv6, and how long it keeps an idle connection."""

import socket
from typing import Final

KEEP_ALIVE_S: Final = 75
"""Longer than clients and load balancers keep theirs (5 to 60 s): whoever closes last meets no request on its way."""
_ALL_IPV6: Final = "::"


def listen(host: str, port: int, *, backlog: int | None = None) -> socket.socket:
    """Return a listening socket that does not block; raises `OSError`.

    ``::`` takes IPv4 too where the system can do both, so that one setting serves a cluster of either kind.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == _ALL_IPV6 and socket.has_dualstack_ipv6()
    bound = socket.create_server((host, port), family=family, backlog=backlog, dualstack_ipv6=both)
    bound.setblocking(False)
    return bound
