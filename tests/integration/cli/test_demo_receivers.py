"""What the demo's receivers notice of what comes to them, over real sockets."""

import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from pulse_cli.demo.receivers import Receivers, open_receivers
from pulse_cli.ledger.facts import Sendings, Sent, sent_message
from pulse_contracts.ids import TenantId

ACME = TenantId("acme")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
SENT = sent_message(
    tenant=ACME,
    device="d-1",
    supplied="m0",
    topic="tenant/acme/device/d-1/weather",
    payload={"metrics": {"temp_max": 21.5}, "message_id": "m0"},
    first_sent_at=100.0,
)


@pytest.fixture
async def receivers() -> AsyncGenerator[Receivers]:
    async with open_receivers(Sendings(attempted={SENT.entry: SENT})) as opened:
        opened.expect(ACME, "healthy", SECRET)
        yield opened


async def post(receivers: Receivers, *secrets: str, to: str = "healthy", sent: Sent = SENT, **changes: Any) -> None:
    """Post as delivery does: one signature for each secret. *changes* are made before the body is signed."""
    body = json.dumps({"message_id": sent.entry, "payload": sent.payload, **changes})
    webhook_id, now = f"{sent.entry}:route", datetime.now(UTC)
    headers = {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(Webhook(secret).sign(webhook_id, now, body) for secret in secrets),
    }
    async with httpx.AsyncClient() as client:
        answer = await client.post(receivers.url(ACME, to), content=body, headers=headers)
    assert answer.status_code == 204


@pytest.mark.parametrize("secrets", [(SECRET,), (OTHER, SECRET)], ids=["one", "while one rotates"])
async def test_what_was_sent_and_signed_is_genuine(receivers: Receivers, secrets: tuple[str, ...]) -> None:
    await post(receivers, *secrets)
    [receipt] = receivers.receipts
    assert (receipt.address, receipt.entry, receipt.is_genuine) == ("acme/healthy", SENT.entry, True)


@pytest.mark.parametrize("secrets", [(), (OTHER,)], ids=["no signature", "another secret"])
async def test_a_signature_that_does_not_hold_is_seen(receivers: Receivers, secrets: tuple[str, ...]) -> None:
    await post(receivers, *secrets)
    assert [receipt.is_genuine for receipt in receivers.receipts] == [False]


async def test_another_payload_than_was_sent_is_seen(receivers: Receivers) -> None:
    await post(receivers, SECRET, payload={"metrics": {"temp_max": 22.5}, "message_id": "m0"})
    assert [receipt.is_genuine for receipt in receivers.receipts] == [False]


async def test_a_webhook_id_of_another_message_is_seen(receivers: Receivers) -> None:
    await post(receivers, SECRET, message_id="another")
    assert [receipt.is_genuine for receipt in receivers.receipts] == [False]


async def test_a_republished_message_is_genuine_to_the_byte(receivers: Receivers) -> None:
    for body in (SENT.body, SENT.body.replace(b": ", b":")):
        receivers.note_republished(ACME, "tenant/acme/weather/d-1", body)
    assert {(receipt.address, receipt.entry) for receipt in receivers.receipts} == {("acme/republished", SENT.entry)}
    assert [receipt.is_genuine for receipt in receivers.receipts] == [True, False]
