"""Delivery inline: each of four workers writes a message, acknowledges it, and delivers it before it takes the next."""

import asyncio
from typing import Final

from blast_radius.baselines.delivery import Webhooks
from blast_radius.baselines.journal import Journal
from pulse_contracts.envelope import Envelope
from pulse_ingest.domain.ports import Busy, Receipt

WORKERS: Final = 4
QUEUE: Final = 10_000


class InlineLog:
    """The intake's log of messages. With all workers at a receiver that does not answer, nobody writes."""

    def __init__(self, journal: Journal, webhooks: Webhooks) -> None:
        self._journal = journal
        self._webhooks = webhooks
        self._queue: asyncio.Queue[tuple[Envelope, asyncio.Future[Receipt]]] = asyncio.Queue(QUEUE)

    async def commit(self, envelope: Envelope) -> Receipt | Busy:
        stored: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait((envelope, stored))
        except asyncio.QueueFull:
            return Busy(reason="the queue is full")
        return await stored

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(WORKERS):
                group.create_task(self._work(), name=f"baseline.worker[{number}]")

    async def _work(self) -> None:
        while True:
            envelope, stored = await self._queue.get()
            await self._journal.append(envelope.encode())
            if not stored.done():
                stored.set_result(Receipt(duplicate=False))
            await self._webhooks.deliver(envelope)
