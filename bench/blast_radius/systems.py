"""What a system under test has to offer, whether it is Pulse or one of the baselines."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from blast_radius.world import Strand


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What a system says about messages that no receiver has accepted. Each message matches exactly one route."""

    dead_lettered: frozenset[str]
    waiting: frozenset[str]
    """In a stream, where a restart finds them."""


class System(Protocol):
    """Takes messages over ingest's HTTP edge and delivers them."""

    @property
    def name(self) -> str: ...

    @property
    def strands(self) -> Sequence[Strand]:
        """What it delivers for, with the tokens of the devices."""
        ...

    @property
    def url(self) -> str:
        """Where devices post to."""
        ...

    def pids(self) -> Mapping[str, int]:
        """Return its processes by name."""
        ...

    async def settle(self, heal: Callable[[], Awaitable[None]]) -> None:
        """Call *heal*, which calms all receivers, and return when nothing is left that could disturb the next round.

        Raises `TimeoutError` if that takes too long.
        """
        ...

    async def account(self) -> Account:
        """Return what became of what was not delivered, of all rounds so far."""
        ...
