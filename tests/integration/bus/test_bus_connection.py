import asyncio

import pytest

from pulse_bus.address import BusAddress
from pulse_bus.connection import connect
from pulse_bus.errors import BusUnavailable
from pulse_testkit.nats import TESTER, Bus
from pulse_testkit.proxy import TcpProxy
from pulse_testkit.receiver import closed_port


async def test_an_answer_that_does_not_come_is_unavailability(bus: Bus) -> None:
    connection = await bus.connect(TESTER)
    await connection.subscribe("deaf", lambda _: None)

    with pytest.raises(BusUnavailable, match="no answer to deaf"):
        await connection.request("deaf", timeout_s=0.05)


async def test_a_break_fails_what_waits_for_an_answer_at_once_and_is_repaired(bus: Bus) -> None:
    async with TcpProxy(bus.nats.port) as proxy:
        connection = await bus.connect(TESTER, port=proxy.port)
        await connection.subscribe("deaf", lambda _: None)
        restored = asyncio.Event()
        connection.on_reconnect(restored.set)
        waiting = asyncio.create_task(connection.request("deaf", timeout_s=60))
        await connection.request("$JS.API.INFO", timeout_s=5)

        proxy.cut()
        with pytest.raises(BusUnavailable, match="broke"):
            await asyncio.wait_for(waiting, 5)
        proxy.heal()
        await asyncio.wait_for(restored.wait(), 5)

        assert (await connection.request("$JS.API.INFO", timeout_s=5)).data
        assert connection.reconnects == 1


async def test_a_connection_that_the_server_closed_with_an_error_is_made_again(bus: Bus) -> None:
    connection = await bus.connect(TESTER)
    restored = asyncio.Event()
    connection.on_reconnect(restored.set)

    # The client checks the body alone; with its headers the server finds the message too large and hangs up.
    await connection.publish("telemetry.a.d.t", b"x" * (connection.max_payload - 10), headers={"a": "b" * 100})
    await asyncio.wait_for(restored.wait(), 5)

    assert (await connection.request("$JS.API.INFO", timeout_s=5)).data


async def test_inboxes_of_two_connections_of_one_service_differ(bus: Bus) -> None:
    one, other = await bus.connect("ingest"), await bus.connect("ingest")

    assert one.expect()[0] != other.expect()[0]


async def test_any_of_several_servers_will_do(bus: Bus) -> None:
    with closed_port() as port:
        for _ in range(5):  # they are tried in any order
            url = f"nats://127.0.0.1:{port}, {bus.nats.url}"
            address = BusAddress(url=url, user="ingest", password=bus.nats.password("ingest"), service="ingest")
            async with connect(address) as connection:
                assert connection.is_connected


async def test_an_address_that_means_nothing_is_unavailability() -> None:
    address = BusAddress(url="nats://", user="ingest", password="x", service="ingest")
    with pytest.raises(BusUnavailable, match="invalid hostname"):
        async with connect(address):
            pass


async def test_connecting_where_nobody_listens_is_unavailability() -> None:
    with closed_port() as port:
        address = BusAddress(url=f"nats://127.0.0.1:{port}", user="ingest", password="x", service="ingest")
        with pytest.raises(BusUnavailable, match="cannot connect"):
            async with connect(address, timeout_s=0.4):
                pass


async def test_a_wrong_password_is_refused(bus: Bus) -> None:
    address = BusAddress(url=bus.nats.url, user="ingest", password="wrong", service="ingest")

    with pytest.raises(BusUnavailable, match="as ingest"):
        async with connect(address, timeout_s=0.4):
            pass
