import asyncio
import gzip
from contextlib import suppress

import pytest
from egress_receivers import OK, Peer, answering, loopback_engine, post, receiving

from pulse_egress.engine import HttpLimits
from pulse_egress.errors import ConnectFailed, ConnectFailure, HeaderRefused


async def test_a_request_goes_out_exactly_as_given() -> None:
    async with receiving() as receiver, loopback_engine() as engine:
        headers = {"Content-Type": "application/json", "webhook-id": "msg_1"}
        answer = await post(engine, receiver.url("/a/../%7Eb?sig=%2F+%20"), body=b'{"a":1}', headers=headers)
    assert (answer.status, answer.body, answer.is_truncated, answer.retry_after) == (200, b"ok", False, None)
    head, body = receiver.requests[0].split(b"\r\n\r\n")
    line, *fields = head.split(b"\r\n")
    assert line == b"POST /a/../%7Eb?sig=%2F+%20 HTTP/1.1"
    assert sorted(fields) == [
        b"Accept-Encoding: identity",
        b"Accept: */*",
        b"Content-Length: 7",
        b"Content-Type: application/json",
        f"Host: 127.0.0.1:{receiver.port}".encode(),
        b"User-Agent: Pulse-Webhooks/1",
        b"webhook-id: msg_1",
    ]
    assert body == b'{"a":1}'


async def test_a_name_is_resolved_and_stands_in_the_host_header() -> None:
    async with receiving() as receiver, loopback_engine() as engine:
        await post(engine, receiver.url(host="hooks.example.com"))
    assert f"\r\nHost: hooks.example.com:{receiver.port}\r\n".encode() in receiver.requests[0]


@pytest.mark.parametrize("status", [201, 204, 400, 410, 429, 500, 503, 999])
async def test_any_status_is_an_answer(status: int) -> None:
    script = answering(f"HTTP/1.1 {status} X\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n".encode())
    async with receiving(script) as receiver, loopback_engine() as engine:
        answer = await post(engine, receiver.url())
    assert (answer.status, answer.retry_after) == (status, "120")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_and_is_not_followed(status: int) -> None:
    async with receiving() as canary:
        location = f"Location: {canary.url()}\r\nRefresh: 0;url={canary.url()}\r\n"
        script = answering(f"HTTP/1.1 {status} X\r\n{location}Content-Length: 0\r\n\r\n".encode())
        async with receiving(script) as receiver, loopback_engine() as engine:
            answer = await post(engine, receiver.url())
    assert answer.status == status
    assert canary.contacts == 0


async def test_a_compressed_answer_is_not_decoded() -> None:
    bomb = gzip.compress(bytes(10_000_000))
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n".encode()
    async with receiving(answering(head + bomb)) as receiver, loopback_engine() as engine:
        answer = await post(engine, receiver.url())
    assert answer.body == bomb[:16384]


@pytest.mark.parametrize(("size", "is_truncated"), [(0, False), (16383, False), (16384, False), (16385, True)])
async def test_the_body_is_kept_up_to_its_limit(size: int, is_truncated: bool) -> None:  # noqa: FBT001 # a parameter
    script = answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size, bytes(size))
    async with receiving(script) as receiver, loopback_engine() as engine:
        answer = await post(engine, receiver.url())
    assert (len(answer.body), answer.is_truncated) == (min(size, 16384), is_truncated)


async def test_a_connection_is_used_again() -> None:
    async with receiving() as receiver, loopback_engine() as engine:
        for _ in range(3):
            await post(engine, receiver.url())
    assert (receiver.contacts, len(receiver.requests)) == (1, 3)


async def test_a_connection_past_its_age_is_not_used_again() -> None:
    async with receiving() as receiver, loopback_engine(limits=HttpLimits(max_age_s=0)) as engine:
        for _ in range(3):
            await post(engine, receiver.url())
    assert (receiver.contacts, len(receiver.requests)) == (3, 3)


async def test_posts_to_one_origin_run_side_by_side() -> None:
    everyone_is_here = asyncio.Barrier(150)

    async def script(peer: Peer) -> None:
        await peer.request()
        await everyone_is_here.wait()
        await peer.send(OK)

    async with receiving(script) as receiver, loopback_engine() as engine:
        answers = await asyncio.gather(*(post(engine, receiver.url()) for _ in range(150)))
    assert {answer.status for answer in answers} == {200}


async def test_a_request_is_sent_again_if_a_kept_connection_closes_under_it() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        if peer.receiver.contacts == 1:
            await peer.request()
            return
        await peer.until_closed()

    async with receiving(script) as receiver, loopback_engine() as engine:
        await post(engine, receiver.url(), body=b"1")
        answer = await post(engine, receiver.url(), body=b"2")
    assert answer.status == 200
    assert (receiver.contacts, [request[-1:] for request in receiver.requests]) == (2, [b"1", b"2", b"2"])


@pytest.mark.parametrize("is_abrupt", [False, True])
async def test_a_new_connection_that_closes_without_an_answer_is_a_failure(is_abrupt: bool) -> None:  # noqa: FBT001 # a parameter
    async def script(peer: Peer) -> None:
        await peer.request()
        if is_abrupt:
            peer.reset()

    async with receiving(script) as receiver, loopback_engine() as engine:
        with pytest.raises(ConnectFailed) as caught:
            await post(engine, receiver.url())
    assert caught.value.reason is ConnectFailure.RESET
    assert receiver.contacts == 1


async def test_a_closed_port_is_a_refused_connection() -> None:
    async with receiving() as receiver:
        pass
    async with loopback_engine() as engine:
        with pytest.raises(ConnectFailed) as caught:
            await post(engine, receiver.url())
    assert caught.value.reason is ConnectFailure.REFUSED
    assert caught.value.detail == "ECONNREFUSED"


async def test_cookies_are_not_kept() -> None:
    script_answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n"

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(script_answer)

    async with receiving(script) as receiver, loopback_engine() as engine:
        for _ in range(2):
            await post(engine, receiver.url(host="hooks.example.com"))
    assert b"cookie" not in receiver.requests[1].lower()


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as canary, receiving() as receiver:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, canary.url(""))
        async with loopback_engine() as engine:
            answer = await post(engine, receiver.url(host="hooks.example.com"))
    assert (answer.status, canary.contacts) == (200, 0)


@pytest.mark.parametrize("header", [("X-A", "b\r\nX-Injected: 1"), ("X-A\r\nX-Injected", "1"), ("Host", "other")])
async def test_no_header_reaches_the_wire_that_would_change_the_request(header: tuple[str, str]) -> None:
    async with receiving() as receiver, loopback_engine() as engine:
        with pytest.raises(HeaderRefused):
            await post(engine, receiver.url(), headers=dict([header]))
    assert receiver.contacts == 0


async def test_an_idle_connection_is_closed_as_its_time_comes_not_with_all_others() -> None:
    idle_s, clock = 2.0, asyncio.get_running_loop().time
    idled: list[float] = []

    async def script(peer: Peer) -> None:
        answered = clock()
        with suppress(asyncio.IncompleteReadError):
            while True:
                await peer.request()
                await peer.send(OK)
                answered = clock()
        idled.append(clock() - answered)
        closed.release()

    closed, limits = asyncio.Semaphore(0), HttpLimits(idle_s=idle_s)
    async with receiving(script) as one, receiving(script) as other, loopback_engine(limits=limits) as engine:
        await post(engine, one.url())
        for _ in range(50):
            await post(engine, other.url())
        async with asyncio.timeout(10):
            await closed.acquire()
            await closed.acquire()

    # By itself the connector looks once in that time, and so closes the second after twice as long.
    assert max(idled) < 1.6 * idle_s
