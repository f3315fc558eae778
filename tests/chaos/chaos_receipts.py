"""What the receivers got, as the ledger wants it: signatures checked as a customer would, payloads compared."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import aiomqtt
from standardwebhooks import Webhook, WebhookVerificationError
from support.receiver import Receiver, Request
from support.tenant import Tenant

from pulse_cli.ledger.facts import Receipt, Sendings, digest_of
from pulse_contracts.ids import DeviceId, TenantId, supplied_message_id

_LOOK_S: Final = 1.0


class WebhookReceipts:
    """The receipts of one receiver; each request is looked at once, and soon."""

    def __init__(self, receiver: Receiver, secrets: Mapping[str, str], sendings: Sendings) -> None:
        """*secrets* by path."""
        self._receiver = receiver
        self._secrets = dict(secrets)
        self._sendings = sendings
        self._found: list[Receipt] = []

    def expect(self, path: str, secret: str) -> None:
        """From now on what comes to *path* is signed with *secret*."""
        self._secrets[path] = secret

    async def keep_reading(self) -> None:
        """Look at requests as they come, until cancelled: a signature is good for five minutes."""
        while True:
            self.read()
            await asyncio.sleep(_LOOK_S)

    def read(self) -> list[Receipt]:
        for request in self._receiver.accepted[len(self._found) :]:
            self._found.append(self._receipt(request))
        return self._found

    def _receipt(self, request: Request) -> Receipt:
        entry = request.message_id
        sent = self._sendings.attempted.get(entry)
        is_same = sent is None or digest_of(request.json["payload"]) == digest_of(sent.payload)
        is_genuine = is_same and request.webhook_id.startswith(f"{entry}:") and self._is_signed(request)
        return Receipt(address=request.path, entry=entry, at=request.at, is_genuine=is_genuine, sender=request.sender)

    def _is_signed(self, request: Request) -> bool:
        secret = self._secrets.get(request.path)
        if secret is None:  # an address of no route: the ledger finds that by itself
            return True
        try:
            Webhook(secret).verify(request.body, request.headers)
        except WebhookVerificationError:
            return False
        return True


def mirror_address(tenant: Tenant) -> str:
    return f"tenant/{tenant.tenant_id}/mirror"


@asynccontextmanager
async def mirrored(tenant: Tenant, sendings: Sendings) -> AsyncGenerator[list[Receipt], None]:
    """Yield the receipts of what is republished, taken over a persistent session across the broker's crashes too."""
    got: list[Receipt] = []
    subscribed = asyncio.Event()
    task = asyncio.create_task(_subscribe(tenant, sendings, got, subscribed), name=f"chaos.mirror[{tenant.tenant_id}]")
    try:
        await asyncio.wait_for(subscribed.wait(), 10)
        yield got
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _subscribe(tenant: Tenant, sendings: Sendings, got: list[Receipt], subscribed: asyncio.Event) -> None:
    host, port = tenant.pulse.mqtt
    while True:
        client = aiomqtt.Client(
            host,
            port,
            username=tenant.tenant_id,
            password=tenant.key,
            identifier=f"{tenant.tenant_id}-mirror",
            clean_session=False,
        )
        try:
            async with client:
                await client.subscribe(f"{mirror_address(tenant)}/#", qos=1)
                subscribed.set()
                async for message in client.messages:
                    got.append(_mirror_receipt(tenant, sendings, message))  # noqa: PERF401 - seen while it grows
        except aiomqtt.MqttError:
            await asyncio.sleep(0.1)


def _mirror_receipt(tenant: Tenant, sendings: Sendings, message: aiomqtt.Message) -> Receipt:
    body = bytes(message.payload)
    device = DeviceId(str(message.topic).rpartition("/")[2])
    payload = json.loads(body)
    # Whose it is says the message itself: both tenants have devices and numbers of the same names.
    entry = supplied_message_id(TenantId(payload["site_id"]), device, payload["message_id"])
    sent = sendings.attempted.get(entry)
    is_genuine = sent is None or sent.body == body
    return Receipt(address=mirror_address(tenant), entry=entry, at=time.monotonic(), is_genuine=is_genuine)
