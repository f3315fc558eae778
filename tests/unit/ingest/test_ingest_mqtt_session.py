import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from ingest_builders import settings
from mqtt_by_hand import CONNECTED, SUBSCRIBED, is_ended_by_a_cancellation_that_meets, made_by_hand

from pulse_ingest.mqtt.session import (
    Arrival,
    MqttSession,
    _Open,  # pyright: ignore[reportPrivateUsage] - the queue between receiving and acknowledging
)

Ack = tuple[int, int]


async def _nothing(_arrival: Arrival) -> None: ...


@asynccontextmanager
async def acknowledging(*messages: tuple[asyncio.Event, int]) -> AsyncGenerator[list[Ack], None]:
    """Yield the acknowledgements of messages that are each done with when their event is set."""
    acks: list[Ack] = []
    queue: asyncio.Queue[_Open] = asyncio.Queue()

    async def handle(done: asyncio.Event) -> None:
        await done.wait()

    session = MqttSession(settings(), _nothing)
    for done, mid in messages:
        queue.put_nowait(_Open(task=asyncio.create_task(handle(done)), mid=mid, qos=1))
    task = asyncio.create_task(
        session._acknowledge(queue, lambda mid, qos: acks.append((mid, qos)))  # pyright: ignore[reportPrivateUsage] - no broker here
    )
    try:
        yield acks
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_acknowledgements_go_out_in_the_order_of_receipt() -> None:
    first, second, third = asyncio.Event(), asyncio.Event(), asyncio.Event()
    async with acknowledging((first, 7), (second, 3), (third, 9)) as acks:
        third.set()
        second.set()
        await settled()
        assert acks == []
        first.set()
        await settled()
        assert acks == [(7, 1), (3, 1), (9, 1)]


async def test_only_the_contiguous_prefix_of_what_is_done_is_acknowledged() -> None:
    events = [asyncio.Event() for _ in range(4)]
    async with acknowledging(*((event, mid) for mid, event in enumerate(events, start=1))) as acks:
        for index in (0, 1, 3):
            events[index].set()
        await settled()
        assert acks == [(1, 1), (2, 1)]
        events[2].set()
        await settled()


@pytest.mark.parametrize("answers", [(CONNECTED,), (CONNECTED, SUBSCRIBED)], ids=["connected", "subscribed"])
async def test_a_session_that_is_cancelled_when_it_is_answered_ends(
    monkeypatch: pytest.MonkeyPatch, answers: tuple[object, ...]
) -> None:
    made = made_by_hand(monkeypatch)
    session = asyncio.create_task(MqttSession(settings(), _nothing).run(lambda: None), name="test[session]")
    assert await is_ended_by_a_cancellation_that_meets(session, made, *answers)
