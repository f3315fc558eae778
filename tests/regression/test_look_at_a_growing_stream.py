"""A look at a stream that grew as fast as it was read had no end: the demo showed nothing while its devices sent."""

import asyncio
from typing import Any, cast

import pytest

from pulse_bus.connection import Connection
from pulse_bus.inspection import unacknowledged
from pulse_contracts.topology import STORE
from pulse_testkit.nats import TESTER, Bus


class Growing:
    """A connection on which a message more comes with each one that is read."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def request(self, subject: str, *arguments: Any, **options: Any) -> Any:
        answer = await self._connection.request(subject, *arguments, **options)
        if subject.startswith("$JS.API.DIRECT.GET"):
            await send(self._connection)
        return answer


async def send(connection: Connection) -> None:
    await connection.request("telemetry.acme.d.t", b"{}", timeout_s=5)


@pytest.mark.parametrize("consumer", [None, STORE.name])
async def test_a_look_ends_with_what_stood_there_when_it_began(bus: Bus, consumer: str | None) -> None:
    tester = await bus.connect(TESTER)
    for _ in range(3):
        await send(tester)
    async with asyncio.timeout(10):
        seen = await unacknowledged(cast("Connection", Growing(tester)), "TELEMETRY", "telemetry.>", consumer)
    assert [standing.stream_seq for standing in seen] == [1, 2, 3]
