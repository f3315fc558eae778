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

from pulse_cli.demo.genuine import is_signed
from pulse_cli.ledger.facts import Receipt, Sendings, digest_of
from pulse_contracts.ids import DeviceId, TenantId, supplied_message_id
from pulse_runtime.cancellation import heed_cancellation

SLOW_S: Final = 2.0
_HOST: Final = "127.0.0.1"
_RECONNECT_S: Final = 0.2


def address_of(tenant: str, route: str) -> str:
    """Name where a tenant's route delivers to, in the ledger."""
    return f"{tenant}/{route}"


class Receivers:
    """Keep what arrives, and whether it is what was sent, signed with its route's secret."""

    def __init__(self, port: int, dead_port: int, sendings: Sendings) -> None:
        self._port = port
        self._sendings = sendings
        self._secrets: dict[str, str] = {}
        self.dead_url = f"http://{_HOST}:{dead_port}/dead"
        self.receipts: list[Receipt] = []

    def url(self, tenant: str, route: str) -> str:
        return f"http://{_HOST}:{self._port}/{tenant}/{route}"

    def expect(self, tenant: str, route: str, secret: str) -> None:
        """From now on what comes to a route's address must be signed with *secret*."""
        self._secrets[address_of(tenant, route)] = secret

    async def handle(self, request: web.Request) -> web.Response:
        tenant, route = request.match_info["tenant"], request.match_info["route"]
        arrived = time.monotonic()
        body = await request.read()
        if route == "slow":
            await asyncio.sleep(SLOW_S)
        self._note_webhook(address_of(tenant, route), request.headers, body, arrived)
        return web.Response(status=204)

    def note_republished(self, tenant: TenantId, topic: str, body: bytes) -> None:
        """Keep a message that came over MQTT: it must be, to the byte, what the device sent."""
        device = DeviceId(topic.rpartition("/")[2])
        entry = supplied_message_id(tenant, device, json.loads(body)["message_id"])
        sent = self._sendings.attempted.get(entry)
        is_genuine = sent is None or sent.body == body
        address = address_of(tenant, "republished")
        self.receipts.append(Receipt(address=address, entry=entry, at=time.monotonic(), is_genuine=is_genuine))

    def _note_webhook(self, address: str, headers: Mapping[str, str], body: bytes, arrived: float) -> None:
        said = json.loads(body)
        entry = said["message_id"]
        sent = self._sendings.attempted.get(entry)
        is_genuine = (
            (sent is None or digest_of(said["payload"]) == digest_of(sent.payload))
            and headers.get("webhook-id", "").startswith(f"{entry}:")
            # An address of no route has no secret; that nothing may come there is another check's matter.
            and (address not in self._secrets or is_signed(self._secrets[address], headers, body))
        )
        self.receipts.append(Receipt(address=address, entry=entry, at=arrived, is_genuine=is_genuine))


@asynccontextmanager
async def open_receivers(sendings: Sendings) -> AsyncGenerator[Receivers, None]:
    """Yield receivers that listen, and a port that nobody listens on although it is taken."""
    with socket.socket() as dead:
        dead.bind((_HOST, 0))
        listening = socket.create_server((_HOST, 0))
        receivers = Receivers(listening.getsockname()[1], dead.getsockname()[1], sendings)
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
    """Receive what is republished for each tenant until cancelled; *subscribed* is set once all listen.

    A broker that is away for a while is no loss of Pulse's: the sessions are persistent, and are taken up again.
    """
    listening: set[TenantId] = set()

    async def listen(tenant: TenantId, key: str) -> None:
        async with _session(broker, tenant, key) as client:
            heed_cancellation()
            await client.subscribe(f"tenant/{tenant}/weather/#", qos=1)
            heed_cancellation()
            listening.add(tenant)
            if len(listening) == len(keys):
                subscribed.set()
            async for message in client.messages:
                receivers.note_republished(tenant, str(message.topic), bytes(message.payload))

    async def keep_listening(tenant: TenantId, key: str) -> None:
        while True:
            try:
                await listen(tenant, key)
            except aiomqtt.MqttError:
                heed_cancellation()
                await asyncio.sleep(_RECONNECT_S)

    async with asyncio.TaskGroup() as group:
        for tenant, key in keys.items():
            group.create_task(keep_listening(tenant, key), name=f"demo.subscriber[{tenant}]")


def _session(broker: tuple[str, int], tenant: TenantId, key: str) -> aiomqtt.Client:
    host, port = broker
    return aiomqtt.Client(
        host, port, username=tenant, password=key, identifier=f"demo-{tenant}-subscriber", clean_session=False
    )
