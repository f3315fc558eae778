"""What the bench plays with: strands, spread evenly over tenants."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

TENANTS: Final = 20
TYPE: Final = "reading"


@dataclass(frozen=True, slots=True, kw_only=True)
class Strand:
    """A device, the one route that its messages match, and the receiver at the end of it."""

    index: int
    tenant: str
    device: str
    url: str
    token: str = field(default="", repr=False)
    """The device's; given by the system under test."""


def addresses(count: int) -> list[str]:
    """Return an address of loopback for each receiver: as among real customers, no two share an origin."""
    return [f"127.77.{1 + index // 250}.{1 + index % 250}" for index in range(count)]


def plan(count: int, port: int) -> list[Strand]:
    """Return strands to receivers that listen on *port*."""
    return [
        Strand(
            index=index,
            tenant=f"tenant-{index % TENANTS:02}",
            device=f"device-{index:04}",
            url=f"http://{address}:{port}/hook",
        )
        for index, address in enumerate(addresses(count))
    ]


def tenants(strands: Iterable[Strand]) -> dict[str, list[Strand]]:
    """Return the strands of each tenant."""
    grouped: dict[str, list[Strand]] = {}
    for strand in strands:
        grouped.setdefault(strand.tenant, []).append(strand)
    return grouped


def of_one_tenant(strands: Sequence[Strand]) -> list[int]:
    """Return all strands of the first tenant."""
    return [strand.index for strand in strands if strand.tenant == strands[0].tenant]
