"""The limits of deploy/nats, as a server that runs with them shows them."""

import asyncio
import json
import re
import signal
from pathlib import Path
from typing import Any

import httpx
import yaml
from deploy_nats import SHIPPED, password, run_single

COMPOSE = SHIPPED.parent / "compose/compose.yaml"
NANOSECONDS = 10**9


async def test_a_server_has_its_limits_and_sends_clients_away_before_it_ends(tmp_path: Path) -> None:
    async with run_single(tmp_path) as server:
        async with httpx.AsyncClient() as http:
            shown = (await http.get(server.monitor.url("http", "/varz"))).json()
        assert (shown["max_payload"], shown["max_connections"]) == (1024 * 1024, 4096)
        assert shown["write_deadline"] == 10 * NANOSECONDS

        reader, writer = await asyncio.open_connection(server.client.host, server.client.port)
        try:
            assert not (await info(reader)).get("ldm")
            # Who does not say that it understands what is sent later is not told.
            login = {"user": "control", "pass": password("control"), "protocol": 1, "verbose": False}
            writer.write(f"CONNECT {json.dumps(login)}\r\nPING\r\n".encode())
            await asyncio.wait_for(reader.readuntil(b"PONG\r\n"), 10)
            assert server.process
            server.process.send_signal(signal.SIGUSR2)
            async with asyncio.timeout(10):
                # It sends one to say who has logged in, too.
                while not (await info(reader)).get("ldm"):
                    pass
            assert server.process.returncode is None
        finally:
            writer.close()
            await writer.wait_closed()


async def info(reader: asyncio.StreamReader) -> dict[str, Any]:
    """Return the next thing that the server says of itself."""
    while not (line := await reader.readline()).startswith(b"INFO "):
        assert line, "the server hung up"
    return json.loads(line.removeprefix(b"INFO "))


def test_an_orderly_end_has_the_time_that_it_takes() -> None:
    grace_s, duration_s = (
        int(re.findall(rf'^lame_duck_{name}: "(\d+)s"', (SHIPPED / "pulse.conf").read_text(), re.MULTILINE)[0])
        for name in ("grace_period", "duration")
    )
    # The least that nats-server accepts of the one, and it must be longer than the other.
    assert (grace_s < duration_s, duration_s >= 30) == (True, True)
    nats = yaml.safe_load(COMPOSE.read_text())["services"]["nats"]
    assert nats["stop_signal"] == "SIGUSR2"
    assert int(nats["stop_grace_period"].removesuffix("s")) > grace_s + duration_s
