"""MQTT clients that wait for their broker as aiomqtt does; the test is the broker."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

import aiomqtt
import pytest

T = TypeVar("T")

CONNECTED, SUBSCRIBED = 0, (1,)
"""What a broker answers."""
_ENDS_WITHIN_S = 10


class ClientByHand(aiomqtt.Client):
    """Has no connection: each of its waits ends when somebody takes what it waits for, and answers."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.waits: asyncio.Queue[asyncio.Future[Any]] = asyncio.Queue()
        self._client.subscribe = _send_nothing

    def _client_connect(self) -> None:
        pass

    async def _wait_for(self, fut: Awaitable[T], timeout: float | None) -> T:
        if isinstance(fut, asyncio.Future):
            self.waits.put_nowait(fut)
        return await super()._wait_for(fut, timeout)


def _send_nothing(*_arguments: Any, **_options: Any) -> Any:
    """Return what paho's subscribe does: that it went well, and the packet's id."""
    return 0, 1


def made_by_hand(monkeypatch: pytest.MonkeyPatch) -> asyncio.Queue[ClientByHand]:
    """Have every client made by hand from now on; they come in the queue."""
    made: asyncio.Queue[ClientByHand] = asyncio.Queue()

    def make(*arguments: Any, **options: Any) -> ClientByHand:
        client = ClientByHand(*arguments, **options)
        made.put_nowait(client)
        return client

    monkeypatch.setattr(aiomqtt, "Client", make)
    return made


async def is_ended_by_a_cancellation_that_meets(
    task: asyncio.Task[None], made: asyncio.Queue[ClientByHand], *answers: object
) -> bool:
    """Answer what the next client waits for, cancel the task at the moment of the last answer; returns what it did."""
    async with asyncio.timeout(_ENDS_WITHIN_S):
        client = await made.get()
        for answer in answers:
            (await client.waits.get()).set_result(answer)
    task.cancel()
    await asyncio.wait({task}, timeout=_ENDS_WITHIN_S)
    return task.done() and task.cancelled()
