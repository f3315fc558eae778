"""Messages that come again, or many at once: each is stored and delivered once."""

import asyncio
import json

from support.pulse import Pulse
from support.receiver import Receiver
from support.waiting import are, eventually


async def test_same_idempotency_key_is_one_row_and_one_delivery(pulse: Pulse, receiver: Receiver) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device()
    await tenant.webhook(receiver.url("/once"))
    first = await device.post({"v": 1}, idempotency_key="k-1")
    again = await device.post({"v": 1}, idempotency_key="k-1")
    by_field = await device.post({"v": 1, "message_id": "k-1"})
    assert (first.status_code, again.status_code, by_field.status_code) == (202, 202, 202)
    message_id = first.json()["message_id"]
    assert first.json() == {"message_id": message_id, "duplicate": False}
    assert again.json() == by_field.json() == {"message_id": message_id, "duplicate": True}

    last = await device.accepted({"v": 2})
    # The two are attempted side by side.
    await eventually(lambda: {request.message_id for request in receiver.of("/once")} == {message_id, last})
    assert sorted(request.message_id for request in receiver.of("/once")) == sorted([message_id, last])
    await eventually(tenant.stored, until=are(2))
    assert sorted(row["message_id"] for row in await tenant.stored()) == sorted([message_id, last])


async def test_duplicate_in_a_batch_costs_the_other_items_nothing(pulse: Pulse) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device()
    known = await device.accepted({"n": 0}, idempotency_key="k-0")

    async def send(n: int) -> tuple[str, bool]:
        answer = (await device.post({"n": n}, idempotency_key=f"k-{n}")).json()
        return answer["message_id"], answer["duplicate"]

    answers = await asyncio.gather(*(send(n) for n in range(50)))
    assert [message_id for message_id, duplicate in answers if duplicate] == [known]
    await eventually(tenant.stored, until=are(50))


async def test_batch_of_good_items_is_accepted(pulse: Pulse, receiver: Receiver) -> None:
    tenant = await pulse.tenant()
    one, two = await pulse.devices(tenant, "b1", "b2")
    await tenant.webhook(receiver.url("/batch"))
    items = [
        {"tenant_id": tenant.tenant_id, "device_id": device.device_id, "type": "data", "payload": {"n": n}}
        for n, device in enumerate([one, two] * 5)
    ]
    by_key = await pulse.http.post("/ingest/v1/batch", json=items, headers={"authorization": f"Bearer {tenant.key}"})
    own = [{**item, "token": (one, two)[n % 2].token} for n, item in enumerate(items)]
    lines = "\n".join(json.dumps(item) for item in own)
    by_token = await pulse.http.post("/ingest/v1/batch", content=lines)
    assert (by_key.status_code, by_token.status_code) == (202, 202)
    ids = {result["message_id"] for answer in (by_key, by_token) for result in answer.json()["results"]}
    assert len(ids) == 20
    await eventually(lambda: {request.message_id for request in receiver.of("/batch")} == ids)
    await eventually(tenant.stored, until=are(20))
