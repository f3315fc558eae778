"""Who may still put what into the siding: a dynamic threshold (ADR 0017), synchronous and pure.

    free    = what the siding takes in all - what is in it
    tenant  may hold  share x free
    route   may hold  what is left of its tenant's part, and so many messages

The more is free the more everybody may hold, and what is free never runs out: whoever was admitted last holds at most
*share* times as much as is still free. After n tenants that take all they can get, at least 1 / (1 + share)^n of the
siding is free.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from heapq import nlargest
from math import inf
from typing import Final

from pulse_contracts.ids import TenantId
from pulse_contracts.subjects import RouteAddress
from pulse_delivery.domain.stock import Stock

_MIB: Final = 1024 * 1024
_OVERDRAFT: Final = 4.0
_HEADROOM: Final = 16
"""Places of a full route that are kept for moves: a head that goes to the tail is there twice for a moment."""


class Bound(StrEnum):
    """Which bound leaves no room."""

    ROUTE_MESSAGES = "route_messages"
    ROUTE_BYTES = "route_bytes"
    TENANT = "tenant"
    SIDING = "siding"


class Claim(StrEnum):
    """On what grounds room is asked for."""

    SHARE = "share"
    """A message that could become a dead letter instead."""
    OVERDRAFT = "overdraft"
    """There is no room for dead letters either: a tenant may hold four times its share."""
    MOVE = "move"
    """The message stands in the siding already and moves to the tail: it frees what it takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoRoom:
    """There is no room for a message, and why."""

    bound: Bound
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much there is, and how much there may be; None where there is no bound."""

    used_bytes: int
    most_bytes: int | None
    most_per_route: int | None


class SidingRoom:
    """What stands in the siding by tenant and route, and who may add to it.

    Counts and the bytes of the whole come from the server about once a second. In between every message of this
    process is charged when it is admitted, and nothing is credited for what leaves: what this process knows to be free
    is never more than what is free, but for what other processes add within that second.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._extent = Extent(used_bytes=0, most_bytes=None, most_per_route=None)
        self._stocks: dict[RouteAddress, Stock] = {}
        self._held_bytes: defaultdict[TenantId, float] = defaultdict(float)
        self._usual_bytes = 0.0
        self._added_bytes = 0.0
        """Charged, and not in the server's account that we have."""
        self._added_since_bytes = 0.0
        """Charged, and not surely in the account that is being asked for."""

    @property
    def free_bytes(self) -> float:
        """What is surely free."""
        if self._extent.most_bytes is None:
            return inf
        return self._extent.most_bytes - self._extent.used_bytes - self._added_bytes

    def held_bytes(self, tenant: TenantId) -> float:
        """What a tenant's messages occupy, as far as known."""
        return self._held_bytes.get(tenant, 0.0)

    def fullest(self, most: int) -> list[float]:
        """Return the parts of the whole siding that the fullest tenants hold, the fullest first."""
        if not self._extent.most_bytes:
            return []
        return [held / self._extent.most_bytes for held in nlargest(most, self._held_bytes.values())]

    def enter(self, address: RouteAddress, size_bytes: int, claim: Claim = Claim.SHARE) -> NoRoom | None:
        """Charge a message that is going to be published, or say why it may not be; `entered` must follow."""
        stock = self._stocks.get(address) or Stock()
        if claim is not Claim.MOVE and (refused := self._judge(address.tenant, stock, size_bytes, claim)):
            return refused
        self._stocks[address] = stock
        stock.comes(size_bytes)
        self._charge(address.tenant, size_bytes)
        return None

    def entered(self, address: RouteAddress, size_bytes: int, *, stays: bool) -> None:
        """The message is committed, or it came to nothing."""
        self._stocks[address].came(size_bytes, stays=stays)
        if not stays:
            self._charge(address.tenant, -size_bytes)

    def count_begins(self) -> None:
        """The server is asked now: what is committed from here on it may or may not count."""
        for stock in self._stocks.values():
            stock.count_begins()
        self._added_since_bytes = sum(stock.coming_bytes for stock in self._stocks.values())

    def counted(self, waiting: Mapping[RouteAddress, int], extent: Extent) -> None:
        """Take the server's account."""
        self._extent = extent
        self._added_bytes = self._added_since_bytes
        for address in waiting.keys() - self._stocks.keys():
            self._stocks[address] = Stock()
        for address, stock in list(self._stocks.items()):
            stock.counted(waiting.get(address, 0))
            if not stock.messages:
                del self._stocks[address]
        self._usual_bytes = extent.used_bytes / max(1, sum(waiting.values()))
        self._value()

    def unread(self, most: int) -> list[RouteAddress]:
        """Return routes with messages whose sizes are not known, those of which least was read first."""
        unsized = [(stock.readings, -stock.others, address) for address, stock in self._stocks.items() if stock.others]
        return [address for _, _, address in sorted(unsized, key=lambda known: known[:2])[:most]]

    def read(self, address: RouteAddress, size_bytes: int) -> None:
        """A message that stands in the siding was read; it counts from the next account on."""
        if stock := self._stocks.get(address):
            stock.read(size_bytes)

    def _value(self) -> None:
        self._held_bytes.clear()
        for address, stock in self._stocks.items():
            self._held_bytes[address.tenant] += stock.size_bytes(self._usual_bytes)

    def _charge(self, tenant: TenantId, size_bytes: int) -> None:
        self._held_bytes[tenant] += size_bytes
        self._added_bytes += size_bytes
        self._added_since_bytes += size_bytes

    def _judge(self, tenant: TenantId, stock: Stock, size_bytes: int, claim: Claim) -> NoRoom | None:
        most = self._extent.most_per_route
        if most is not None and stock.messages >= most - min(_HEADROOM, most // 10):
            return NoRoom(bound=Bound.ROUTE_MESSAGES, error=f"{stock.messages:,} messages of the route wait already")
        free = self.free_bytes - size_bytes
        if free < 0:
            return NoRoom(bound=Bound.SIDING, error=f"the siding is full: {_mib(self.free_bytes)} are free")
        part = self._share * free * (_OVERDRAFT if claim is Claim.OVERDRAFT else 1.0)
        held = self.held_bytes(tenant)
        if held + size_bytes > part:
            error = f"the tenant's messages in the siding take {_mib(held)}; its share of what is free is {_mib(part)}"
            return NoRoom(bound=Bound.TENANT, error=error)
        left, own = part - held, stock.size_bytes(self._usual_bytes)
        if own + size_bytes > left:
            error = f"the route's messages in the siding take {_mib(own)}; {_mib(left)} are left of its tenant's share"
            return NoRoom(bound=Bound.ROUTE_BYTES, error=error)
        return None


def _mib(size_bytes: float) -> str:
    return f"{size_bytes / _MIB:.3g} MiB"
