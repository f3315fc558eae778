"""The demo's destinations: webhooks of each temper, and a subscriber of what is republished."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import aiomqtt
from aiohttp import web

from pulse_cli.ledger.facts import Receipt
from pulse_contracts.ids import DeviceId, TenantId, supplied_message_id

SLOW_S: Final = 2.0
_HOST: Final = "127.0.0.1"


def address_of(tenant: str, route: str) -> str:
    """Name where a tenant's route delivers to, in the ledger."""
    return f"{tenant}/{route}"


class Receivers:
    """Keeps what arrives. The demo does not look at signatures."""

    def __init__(self, port: int, dead_port: int) -> None:
        self._port = port
        self.dead_url = f"http://{_HOST}:{dead_port}/dead"
        self.receipts: list[Receipt] = []

    def url(self, tenant: str, route: str) -> str:
        return f"http://{_HOST}:{self._port}/{tenant}/{route}"

    async def handle(self, request: web.Request) -> web.Response:
        tenant, route = request.match_info["tenant"], request.match_info["route"]
        body = json.loads(await request.read())
        arrived = time.monotonic()
        if route == "slow":
            await asyncio.sleep(SLOW_S)
        self.note(tenant, route, body["message_id"], arrived)
        return web.Response(status=204)

    def note(self, tenant: str, route: str, message_id: str, arrived: float) -> None:
        self.receipts.append(Receipt(address=address_of(tenant, route), entry=message_id, at=arrived))


@asynccontextmanager
async def open_receivers() -> AsyncGenerator[Receivers, None]:
    """Yield receivers that listen, and a port that nobody listens on although it is taken."""
    with socket.socket() as dead:
        dead.bind((_HOST, 0))
        listening = socket.create_server((_HOST, 0))
        receivers = Receivers(listening.getsockname()[1], dead.getsockname()[1])
        application = web.Application()
        application.router.add_post("/{tenant}/{route}", receivers.handle)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        try:
            await web.SockSite(runner, listening).start()
            yield receivers
        finally:
            await runner.cleanup()


async def subscribe(
    receivers: Receivers, broker: tuple[str, int], keys: Mapping[TenantId, str], subscribed: asyncio.Event
) -> None:
    """Receive what is republished for each tenant until cancelled; *subscribed* is set once all listen."""
    waiting = len(keys)

    async def listen(tenant: TenantId, key: str) -> None:
        nonlocal waiting
        host, port = broker
        client = aiomqtt.Client(host, port, username=tenant, password=key, identifier=f"demo-{tenant}-subscriber")
        async with client:
            await client.subscribe(f"tenant/{tenant}/weather/#", qos=1)
            waiting -= 1
            if not waiting:
                subscribed.set()
            async for message in client.messages:
                supplied = json.loads(bytes(message.payload))["message_id"]
                device = DeviceId(str(message.topic).rpartition("/")[2])
                message_id = supplied_message_id(tenant, device, supplied)
                receivers.note(tenant, "republished", message_id, time.monotonic())

    async with asyncio.TaskGroup() as group:
        for tenant, key in keys.items():
            group.create_task(listen(tenant, key), name=f"demo.subscriber[{tenant}]")
