"""An event loop whose time is virtual, and on which several processes run that can be frozen one by one.

Real coroutines run on it unchanged: `asyncio.sleep`, `timeout` and `wait` take their time from the loop. Nothing waits
for the host, so a minute takes milliseconds, and what happens depends on the seed only.
"""

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from itertools import count
from typing import Any, Self, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Owner:
    """A process: what its tasks are about to do, in order. Nothing of a frozen one happens until it is thawed."""

    def __init__(self) -> None:
        self.ready: deque[asyncio.Handle] = deque()
        self.is_frozen = False
        self.context = copy_context()
        """Whatever is begun in it, and what follows from that, is the process's."""
        self.context.run(_OWNER.set, self)


_OWNER: ContextVar[Owner | None] = ContextVar("owner", default=None)


class VirtualLoop(asyncio.AbstractEventLoop):
    """Time passes in `advance` only. Whose handles come next is the seed's choice; one process's come in order."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._now = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle, Context]] = []
        self._order = count()
        self._world = Owner()
        self._owners = [self._world]
        self.errors: list[BaseException | str] = []
        """What no task was there to take."""

    def __enter__(self) -> Self:
        asyncio._set_running_loop(self)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio._set_running_loop(None)

    def new_owner(self) -> Owner:
        owner = Owner()
        self._owners.append(owner)
        return owner

    def advance(self, seconds: float) -> None:
        """Let time pass, and all happen that happens meanwhile."""
        end = self._now + seconds
        self._run_ready()
        while self._timers and self._timers[0][0] <= end:
            when, _, handle, context = heapq.heappop(self._timers)
            if not handle.cancelled():
                self._now = max(self._now, when)
                self._owner_of(context).ready.append(handle)
                self._run_ready()
        self._now = end

    def _run_ready(self) -> None:
        while awake := [owner for owner in self._owners if owner.ready and not owner.is_frozen]:
            owner = awake[0] if len(awake) == 1 else self._chance.choice(awake)
            handles, owner.ready = owner.ready, deque()
            for handle in handles:
                if not handle.cancelled():
                    handle._run()

    def _owner_of(self, context: Context) -> Owner:
        return context.get(_OWNER) or self._world

    # What asyncio asks a loop for.

    def time(self) -> float:
        return self._now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        context = context or copy_context()
        handle = asyncio.Handle(callback, args, self, context)
        self._owner_of(context).ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        context = context or copy_context()
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._order), handle, context))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It stays in the heap, and is passed over when its time comes."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.errors.append(context.get("exception") or str(context["message"]))
