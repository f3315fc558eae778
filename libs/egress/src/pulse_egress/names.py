"""Names: answers of the name service, each kept for a while, and who may ask for another now.

A zone whose servers hang holds a look-up, and its thread, for as long as resolv.conf says, often 10 s or more, and
whoever owns the zone can make up names without end. So each owner has a share of the look-ups. What waits for its
share has not been asked at all: such an attempt says nothing about the way out. A question that nobody answers at
once is answered by what was known before, as long as that serves (`answers.Answers`).
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final
from weakref import WeakValueDictionary

from pulse_egress.answers import Answers
from pulse_egress.dial import Attempt
from pulse_egress.errors import Phase
from pulse_egress.lookup import MOST_LOOKUPS, Lookup, is_no_such_name

MOST_OF_ONE_OWNER: Final = 8
"""Look-ups at once. They take milliseconds unless they hang."""
_PATIENCE_S: Final = 0.3
"""So long a look-up may take where an old answer would serve: no lane is stuck for it, which one is after 0.5 s."""


class Names:
    """Asks for each name once at a time, for everybody who waits for it."""

    def __init__(self, lookup: Lookup, answers: Answers) -> None:
        self._lookup = lookup
        self._answers = answers
        self._running: dict[str, asyncio.Task[Sequence[str]]] = {}
        self._places = asyncio.Semaphore(MOST_LOOKUPS)
        self._shares: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        """By owner, as long as a look-up runs or waits in it."""

    async def addresses(self, host: str, attempt: Attempt) -> Sequence[str]:
        """Returns all addresses of a name, unchecked; an error of the look-up passes through if no old answer serves.

        The caller bounds the wait. The attempt's phase says whether the look-up had begun.
        """
        old = self._answers.old(host, _now())
        if old is None or self._fresh(host) is not None:
            return await self._ask(host, attempt)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await self._ask(host, attempt)
        except OSError as exc:  # TimeoutError is one
            if is_no_such_name(exc):
                raise
        self._answers.unanswered(host, _now())
        return old

    def close(self) -> None:
        """Lets go of the look-ups that still run."""
        for task in self._running.values():
            task.cancel()

    async def _ask(self, host: str, attempt: Attempt) -> Sequence[str]:
        while (fresh := self._fresh(host)) is None:
            if running := self._running.get(host):
                attempt.phase = Phase.DNS
                return await asyncio.shield(running)
            attempt.phase = Phase.QUEUE
            await self._begin(host, attempt.owner)
        return fresh

    def _fresh(self, host: str) -> Sequence[str] | None:
        return self._answers.fresh(host, _now())

    async def _begin(self, host: str, owner: str) -> None:
        """Starts a look-up as soon as there is a place for it, unless another owner's has answered or begun by then."""
        share = self._shares.setdefault(owner, asyncio.Semaphore(MOST_OF_ONE_OWNER))
        async with AsyncExitStack() as places:
            await places.enter_async_context(share)
            await places.enter_async_context(self._places)
            if host in self._running or self._fresh(host) is not None:
                return
            # It keeps its places until it ends, also when nobody waits for it any more: so long it has the thread.
            task = asyncio.create_task(self._look_up(host, places.pop_all()), name=f"egress.lookup[{host}]")
            task.add_done_callback(_take_note)
            self._running[host] = task

    async def _look_up(self, host: str, places: AsyncExitStack) -> Sequence[str]:
        async with places:
            try:
                addresses = await self._lookup(host)
            except OSError as exc:
                if is_no_such_name(exc):
                    self._answers.unknown(host)
                raise
            finally:
                del self._running[host]
            self._answers.found(host, addresses, _now())
            return addresses


def _now() -> float:
    return asyncio.get_running_loop().time()


def _take_note(task: asyncio.Task[Sequence[str]]) -> None:
    """Retrieves the error of a look-up for which nobody waits any more."""
    if not task.cancelled():
        task.exception()
