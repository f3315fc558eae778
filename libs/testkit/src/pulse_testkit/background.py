"""What runs for ever runs for the length of a block."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager


@asynccontextmanager
async def running(work: Awaitable[None]) -> AsyncGenerator[asyncio.Task[None]]:
    """Run *work* within the block, at whose end it is cancelled and waited for; what it raises stays in its task."""

    async def body() -> None:
        await work

    task = asyncio.create_task(body(), name="test[running]")
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})
