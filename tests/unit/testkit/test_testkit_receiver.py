import asyncio
import base64
import time
from datetime import UTC, datetime

import httpx
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from pulse_testkit.receiver import Answer, WebhookReceiver, closed_port

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()


async def post(url: str, **options: object) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.post(url, timeout=5, **options)  # pyright: ignore[reportArgumentType] - options of httpx


async def test_a_request_is_answered_and_recorded(receiver: WebhookReceiver) -> None:
    response = await post(receiver.url("/hook"), content=b'{"a":1}', headers={"X-Thing": "1"})

    [request] = await receiver.wait_for(1)
    assert response.status_code == 200
    assert (request.path, request.json(), request.headers["x-thing"]) == ("/hook", {"a": 1}, "1")
    assert 0 <= time.monotonic() - request.at < 5


async def test_answers_follow_the_script_and_the_last_one_stays(receiver: WebhookReceiver) -> None:
    receiver.answer("/a", Answer(status=503, headers={"retry-after": "7"}), Answer(status=204, body=b""))

    responses = [await post(receiver.url("/a")) for _ in range(3)]

    assert [response.status_code for response in responses] == [503, 204, 204]
    assert responses[0].headers["retry-after"] == "7"
    assert (await post(receiver.url("/b"))).status_code == 200


async def test_a_slow_answer_takes_its_time(receiver: WebhookReceiver) -> None:
    receiver.answer("/", Answer(delay_s=0.1))
    started = time.monotonic()

    await post(receiver.url())

    assert time.monotonic() - started >= 0.1


async def test_a_dripping_answer_comes_whole_in_the_end(receiver: WebhookReceiver) -> None:
    receiver.answer("/", Answer(body=b"abcdef", drip_s=0.01))

    assert (await post(receiver.url())).content == b"abcdef"


async def test_a_hanging_answer_is_recorded_and_counted_until_the_sender_gives_up(receiver: WebhookReceiver) -> None:
    receiver.answer("/", Answer(hang=True))
    sending = [asyncio.create_task(post(receiver.url())) for _ in range(3)]

    await receiver.wait_for(3)
    assert receiver.in_flight["/"] == 3
    for task in sending:
        task.cancel()
    await asyncio.wait(sending)
    await receiver.wait_for(lambda _: receiver.in_flight["/"] == 0)

    assert receiver.most_in_flight["/"] == 3


async def test_a_dropped_request_gets_no_answer(receiver: WebhookReceiver) -> None:
    receiver.answer("/", Answer(drop=True))

    with pytest.raises(httpx.TransportError):
        await post(receiver.url())

    assert len(receiver.requests) == 1


async def test_a_signature_is_verified_as_a_customer_would(receiver: WebhookReceiver) -> None:
    now = datetime.now(UTC)
    headers = {
        "webhook-id": "m1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(SECRET).sign("m1", now, '{"a":1}'),
    }
    await post(receiver.url(), content=b'{"a":1}', headers=headers)
    await post(receiver.url(), content=b'{"a":2}', headers=headers)

    genuine, forged = await receiver.wait_for(2)
    genuine.verify(SECRET)
    with pytest.raises(WebhookVerificationError):
        forged.verify(SECRET)


async def test_waiting_ends_when_a_predicate_holds(receiver: WebhookReceiver) -> None:
    waiting = asyncio.create_task(receiver.wait_for(lambda found: any(one.body == b"3" for one in found), path="/x"))

    for body in (b"1", b"2", b"3"):
        await post(receiver.url("/x"), content=body)

    assert [request.body for request in await waiting] == [b"1", b"2", b"3"]


async def test_waiting_in_vain_says_what_came(receiver: WebhookReceiver) -> None:
    await post(receiver.url("/other"))

    with pytest.raises(TimeoutError, match="0 requests came"):
        await receiver.wait_for(1, path="/x", timeout_s=0.01)


async def test_a_receiver_that_ends_lets_hanging_requests_go() -> None:
    async with WebhookReceiver() as receiver:
        receiver.answer("/", Answer(hang=True))
        sending = asyncio.create_task(post(receiver.url()))
        await receiver.wait_for(1)

    await asyncio.wait({sending}, timeout=5)
    assert sending.done()
    sending.exception()


async def test_a_closed_port_refuses() -> None:
    with closed_port() as port, pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
