"""Delivery from a queue in the process: 10,000 jobs, two workers. A full queue drops, a restart forgets."""

import asyncio
from typing import Final

from blast_radius.baselines.delivery import Webhooks
from blast_radius.baselines.journal import Journal
from pulse_contracts.envelope import Envelope
from pulse_ingest.domain.ports import Receipt

WORKERS: Final = 2
QUEUE: Final = 10_000


class QueuedLog:
    """The intake's log of messages: writing never waits for a delivery."""

    def __init__(self, journal: Journal, webhooks: Webhooks) -> None:
        self._journal = journal
        self._webhooks = webhooks
        self._queue: asyncio.Queue[Envelope] = asyncio.Queue(QUEUE)

    async def commit(self, envelope: Envelope) -> Receipt:
        await self._journal.append(envelope.encode())
        if not self._queue.full():
            self._queue.put_nowait(envelope)
        return Receipt(duplicate=False)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(WORKERS):
                group.create_task(self._work(), name=f"baseline.worker[{number}]")

    async def _work(self) -> None:
        while True:
            await self._webhooks.deliver(await self._queue.get())
