"""What callers have handed over and nobody has answered yet, in their order, and for how long each of them waits."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pulse_bus.errors import BusUnavailable
from pulse_bus.outgoing import Committed, Outgoing
from pulse_bus.spans import Sending


@dataclass(slots=True, kw_only=True)
class Group:
    """The messages of one caller, which stay in one batch."""

    messages: Sequence[Outgoing]
    done: asyncio.Future[list[Committed]]
    give_up_at: float
    """By the clock of the event loop."""
    sending: Sending | None = None

    def fail(self, error: Exception) -> None:
        """Answer with *error*, unless the caller has an answer or has gone."""
        if not self.done.done():
            self.done.set_exception(error)

    def succeed(self, committed: list[Committed]) -> None:
        """Answer with what was committed, unless the caller has an answer or has gone."""
        if not self.done.done():
            self.done.set_result(committed)


class Backlog:
    """Groups that wait, then those under way, until they are answered.

    Nobody waits longer than *patience_s*, whatever the committer is at: it may stand in a commit that takes longer. A
    group that runs out of patience fails with `BusUnavailable`. If it still waits it leaves the line, nothing of it is
    ever sent, and *on_dropped* is told; if it is under way its messages may be stored.
    """

    def __init__(self, stream: str, patience_s: float, on_dropped: Callable[[Sequence[Outgoing]], None]) -> None:
        self.messages = 0
        """How many wait or are under way."""
        self.arrived = asyncio.Event()
        """Whether any group waits."""
        self.trouble: str | None = None
        """What keeps the committer from its work, if it knows."""
        self._stream = stream
        self._patience_s = patience_s
        self._on_dropped = on_dropped
        self._waiting: deque[Group] = deque()
        self._under_way: deque[Group] = deque()
        # One timer for all: patience runs out in the order of arrival.
        self._timer: asyncio.TimerHandle | None = None

    def add(self, messages: Sequence[Outgoing], sending: Sending | None = None) -> asyncio.Future[list[Committed]]:
        """Put *messages* at the end of the line; returns their answer to be."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[list[Committed]] = loop.create_future()
        give_up_at = loop.time() + self._patience_s
        self._waiting.append(Group(messages=messages, done=done, give_up_at=give_up_at, sending=sending))
        self.messages += len(messages)
        self.arrived.set()
        if self._timer is None:
            self._watch()
        return done

    def take(self, most: int) -> list[Group]:
        """Return whole groups from the head of the line, of at most *most* messages; they are under way until `end`."""
        size = 0
        while self._waiting and size + len(self._waiting[0].messages) <= most:
            group = self._waiting.popleft()
            self._under_way.append(group)
            size += len(group.messages)
        self._note_emptiness()
        return list(self._under_way)

    def end(self, groups: Iterable[Group]) -> None:
        """Forget *groups*, which `take` returned last: they are answered, or will be at once."""
        self._under_way.clear()
        self.messages -= sum(len(group.messages) for group in groups)

    def abandon(self) -> None:
        """Fail all that is here: nobody will commit it."""
        for group in (*self._under_way, *self._waiting):
            group.fail(BusUnavailable(f"the publisher of {self._stream} stopped before the answer"))
        self._under_way.clear()
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _watch(self) -> None:
        """Wake when the group that has waited longest runs out of patience."""
        oldest = self._under_way or self._waiting
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(oldest[0].give_up_at, self._expire) if oldest else None

    def _expire(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._under_way and self._under_way[0].give_up_at <= now:
            self._under_way.popleft().fail(self._too_late())
        while self._waiting and self._waiting[0].give_up_at <= now:
            group = self._waiting.popleft()
            self.messages -= len(group.messages)
            group.fail(self._too_late())
            self._on_dropped(group.messages)
        self._note_emptiness()
        self._watch()

    def _too_late(self) -> BusUnavailable:
        why = f": {self.trouble}" if self.trouble else ""
        return BusUnavailable(f"not committed to {self._stream} within {self._patience_s:g} s{why}")

    def _note_emptiness(self) -> None:
        if not self._waiting:
            self.arrived.clear()
