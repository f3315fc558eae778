"""One answer to a ping that came after its asker had given up, and a connection was deaf for up to thirty seconds.

The client's reading ended with an `InvalidStateError`: the late PONG was handed to a future that was cancelled. A turn
that ended while nats-server took more than a second to answer was enough. Until the next pings went unanswered nothing
was pulled, no answer was heard and nothing was delivered, of any tenant. Seen after each standstill of ten seconds.
"""

import asyncio

import pytest

from pulse_testkit.nats import TESTER, Bus
from pulse_testkit.proxy import TcpProxy


async def test_a_connection_hears_on_after_an_answer_that_nobody_waits_for(bus: Bus) -> None:
    async with TcpProxy(bus.nats.port) as proxy:
        connection = await bus.connect(TESTER, port=proxy.port)
        subscription = await connection.subscribe("anything", lambda _: None)

        proxy.blackhole()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await subscription.drain()
        proxy.heal()

        for _ in range(2):
            await connection.request("$JS.API.INFO", timeout_s=5)
        assert connection.reconnects == 0
