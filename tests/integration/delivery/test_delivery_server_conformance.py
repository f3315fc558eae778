"""What the whole model takes for a server passes what a server passes: siding, turns and pull requests."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import cast

import pytest
from bus_in_memory import PublisherInMemory, PullsInMemory, into_siding
from prometheus_client import CollectorRegistry
from server_in_memory import EPOCH, Consumer, Server
from turn_rig import body, eventually, until
from yard_in_memory import YardInMemory, at_once

from pulse_bus.consumer import PullConsumer
from pulse_bus.errors import ApiError
from pulse_bus.incoming import Incoming
from pulse_bus.outgoing import Committed, Outgoing
from pulse_bus.publisher import Publisher
from pulse_bus.siding import PULL_EXPIRES_S, Siding
from pulse_contracts import subjects
from pulse_contracts.ids import RouteId, TenantId
from pulse_contracts.subjects import RouteAddress
from pulse_contracts.turns import HeadTries, TurnState
from pulse_runtime.clock import SystemClock
from pulse_runtime.metrics import BusMetrics
from pulse_testkit.background import running
from pulse_testkit.nats import Bus

ONE = RouteAddress(kind="webhook", tenant=TenantId("acme"), route=RouteId("r-1"))
SUBJECT = subjects.siding(ONE.kind, ONE.tenant, ONE.route)


class _SinceEpoch(SystemClock):
    """The model knows one time only."""

    def monotonic(self) -> float:
        return (self.now() - EPOCH).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    siding: Siding
    publisher: Publisher
    pulls: "partial[PullConsumer]"

    async def put_aside(self, *numbers: int) -> list[Committed]:
        return await self.publisher.publish(
            *(Outgoing(subject=SUBJECT, data=body(n), message_id=f"m-{n}:{ONE.route}:s") for n in numbers)
        )

    @asynccontextmanager
    async def turn(self, in_flight: int = 1) -> AsyncGenerator[tuple[str, PullConsumer]]:
        """Open a turn and pull from it."""
        name = await self.siding.open_turn(ONE, TurnState(phase="probing", in_flight=in_flight))
        assert name
        consumer = self.pulls(name)
        async with running(consumer.run()):
            yield name, consumer


@pytest.fixture(params=["server", "memory"])
async def rig(request: pytest.FixtureRequest, bus: Bus) -> AsyncGenerator[Rig]:
    if request.param == "memory":
        yield _in_memory()
        return
    connection, clock = await bus.connect("delivery"), SystemClock()
    publisher = Publisher(connection, "SIDING", clock=clock, metrics=BusMetrics(CollectorRegistry()), linger_s=0)
    pulls = partial(PullConsumer, connection, "SIDING", clock=clock, capacity=10, expires_s=PULL_EXPIRES_S)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running(publisher.run()))
        yield Rig(siding=Siding(connection, "me"), publisher=publisher, pulls=pulls)


def _in_memory() -> Rig:
    clock = _SinceEpoch()
    server = Server(1_000_000, clock.monotonic)

    def pulls(name: str) -> PullsInMemory:
        def find() -> Consumer | None:
            found = server.find_turn(name)
            return found[1] if found else None

        return PullsInMemory(server, find, holder="me", name=name, clock=clock, capacity=10, expires_s=PULL_EXPIRES_S)

    return Rig(
        siding=cast("Siding", YardInMemory(server, "me")),
        publisher=cast("Publisher", PublisherInMemory("SIDING", partial(into_siding, server), at_once)),
        pulls=cast("partial[PullConsumer]", pulls),
    )


async def test_what_is_published_waits_and_is_counted(rig: Rig) -> None:
    await rig.put_aside(1, 2)
    survey = await rig.siding.survey()
    assert survey.waiting == {SUBJECT: 2}
    assert await rig.siding.waiting_of(ONE) == 2
    head = await rig.siding.peek(ONE)
    assert head
    assert head.data == body(1)
    assert survey.used_bytes == pytest.approx(2 * head.stored_bytes, rel=0.2)


async def test_an_id_that_was_there_is_stored_once(rig: Rig) -> None:
    await rig.put_aside(1)
    assert [committed.duplicate for committed in await rig.put_aside(1)] == [True]
    assert await rig.siding.waiting_of(ONE) == 1


async def test_as_many_come_at_once_as_the_turn_allows(rig: Rig) -> None:
    await rig.put_aside(1, 2, 3)
    async with rig.turn(in_flight=2) as (name, consumer):
        await until(lambda: consumer.buffered == 2)
        first, second = consumer.take_now(10)
        assert [first.data, second.data] == [body(1), body(2)]
        await first.ack()
        [third] = await consumer.take(10)
        assert third.data == body(3)
        await rig.siding.change_turn(ONE, name, TurnState(phase="growing", in_flight=4))
        await rig.put_aside(4, 5)
        await until(lambda: consumer.buffered == 2)


async def test_what_is_given_back_comes_first(rig: Rig) -> None:
    await rig.put_aside(1, 2)
    async with rig.turn() as (_, consumer):
        [head] = await consumer.take(1)
        await head.nak()
        [again] = await consumer.take(1)
        assert again.data == body(1)


async def test_what_is_acknowledged_stands_there_no_longer(rig: Rig) -> None:
    await rig.put_aside(1)
    async with rig.turn() as (_, consumer):
        [head] = await consumer.take(1)
        await head.ack()

        async def is_gone() -> bool:
            return not await rig.siding.waiting_of(ONE)

        await eventually(is_gone)


async def test_nothing_comes_while_the_turn_pauses(rig: Rig) -> None:
    async with rig.turn() as (name, consumer):
        pause = timedelta(seconds=0.5)
        until_when = datetime.now(UTC) + pause
        await rig.siding.pause(name, until_when)
        await rig.put_aside(1)
        await consumer.arrival()
        assert datetime.now(UTC) >= until_when - timedelta(milliseconds=50)


async def test_the_open_pull_request_and_the_head_are_listed(rig: Rig) -> None:
    async with rig.turn() as (name, _):
        tries = HeadTries(message_id="m-1", attempts=2, answered=1)
        await rig.siding.change_turn(ONE, name, TurnState(phase="probing", in_flight=1, head=tries))

        async def is_pulled() -> bool:
            return (await rig.siding.turns())[ONE].is_pulled

        await eventually(is_pulled)
        assert (await rig.siding.turns())[ONE].head == tries


async def test_a_closed_turn_is_trouble_to_whoever_pulls(rig: Rig) -> None:
    await rig.put_aside(1)
    async with rig.turn() as (name, consumer):
        [head] = await consumer.take(1)
        await rig.siding.close_turn(name)
        await until(lambda: consumer.trouble)
        await head.ack()
        with pytest.raises(ApiError):
            await rig.siding.pause(name, datetime.now(UTC))
    assert await rig.siding.waiting_of(ONE) == 1


async def test_the_next_turn_gets_what_the_last_one_had_in_hand(rig: Rig) -> None:
    await rig.put_aside(1)
    async with rig.turn() as (name, consumer):
        await consumer.take(1)
        await rig.siding.close_turn(name)
    async with rig.turn() as (_, successor):
        heads: list[Incoming] = await successor.take(1)
        assert heads[0].data == body(1)


async def test_a_message_is_removed_by_its_number(rig: Rig) -> None:
    await rig.put_aside(1, 2)
    first = await rig.siding.first()
    assert first
    await rig.siding.remove(first.stream_seq)
    await rig.siding.remove(first.stream_seq)
    head = await rig.siding.peek(ONE)
    assert head
    assert head.data == body(2)


async def test_what_stands_before_a_message_is_removed_with_it_and_the_rest_is_served(rig: Rig) -> None:
    await rig.put_aside(1, 2, 3, 4)
    first = await rig.siding.first()
    assert first
    name = await rig.siding.open_turn(ONE, TurnState(phase="probing", in_flight=1))
    assert name
    second = await rig.siding.peek(ONE, first.stream_seq + 1)
    assert second
    for _ in range(2):
        await rig.siding.remove_through(ONE, second.stream_seq)
    assert await rig.siding.waiting_of(ONE) == 2

    consumer = rig.pulls(name)
    async with running(consumer.run()):
        seen: list[tuple[bytes, int]] = []
        while len(seen) < 2:
            for message in await consumer.take(1):
                seen.append((message.data, message.pending))
                await message.ack()
        assert seen == [(body(3), 1), (body(4), 0)]
