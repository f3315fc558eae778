"""How a demo ends: when its books are closed, and what is said of them then."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from pulse_bus.errors import BusError
from pulse_cli.ledger.balance import Ledger, balance
from pulse_cli.ledger.facts import Books
from pulse_cli.ledger.findings import Finding
from pulse_cli.ledger.invariants import examine, unsettled
from pulse_runtime.clock import Clock
from pulse_storage.pool import UNAVAILABLE

AWAY: Final = (BusError, *UNAVAILABLE)
"""What a look into the streams and tables may raise while a server is being restarted."""
PATIENCE_S: Final = 45.0
LOOK_S: Final = 0.5
_IDLE_LOOKS: Final = 2
_IDLE_LOOKS_WITH_FINDINGS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """The ledger of a run, and everything that is wrong with it."""

    ledger: Ledger
    findings: list[Finding]


async def settled(look: Callable[[], Awaitable[Books]], clock: Clock) -> Books:
    """Return the books once no stream holds anything, or as they are after 45 s.

    Raises what *look* raises if the servers are still away then.
    """
    deadline = clock.monotonic() + PATIENCE_S
    idle_looks = 0
    while True:
        is_last = clock.monotonic() >= deadline
        try:
            books = await look()
        except AWAY:
            if is_last:
                raise
            idle_looks = 0
        else:
            idle_looks = idle_looks + 1 if books.holdings.is_idle else 0
            if is_last or (idle_looks >= _IDLE_LOOKS and idle_looks >= _enough(books)):
                return books
        await clock.sleep(LOOK_S)


def close(books: Books) -> Closing:
    """Balance the books, and judge them: also what still moves where everything should have arrived is a finding."""
    return Closing(ledger=balance(books), findings=[*examine(books), *unsettled(books)])


def _enough(books: Books) -> int:
    return _IDLE_LOOKS_WITH_FINDINGS if examine(books) else _IDLE_LOOKS
