import asyncio
import tracemalloc

import pytest
from egress_receivers import OK, Peer, Script, answering, loopback_engine, post, receiving

from pulse_egress.errors import EgressError, EgressTimeout, Phase, ProtocolViolation

HEAD = b"HTTP/1.1 200 OK\r\n"
SECRET = b"canary-secret"


async def never_answers(peer: Peer) -> None:
    await peer.until_closed()


async def drips_headers(peer: Peer) -> None:
    await peer.request()
    await peer.drip(HEAD + b"X: y\r\n" * 100)


async def drips_body(peer: Peer) -> None:
    await peer.request()
    await peer.send(HEAD + b"Content-Length: 1000\r\n\r\n")
    await peer.drip(bytes(1000))


async def drips_chunks(peer: Peer) -> None:
    await peer.request()
    await peer.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    await peer.drip(b"1\r\na\r\n" * 200)


async def repeats_continue(peer: Peer) -> None:
    await peer.request()
    await peer.pour(b"HTTP/1.1 100 Continue\r\n\r\n")


async def floods_early_hints(peer: Peer) -> None:
    await peer.request()
    await peer.pour(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 50)


async def extends_a_chunk_for_ever(peer: Peer) -> None:
    await peer.request()
    await peer.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;")
    await peer.pour(b"x" * 65536)


async def keeps_a_small_body_open(peer: Peer) -> None:
    await peer.request()
    await peer.send(HEAD + b"\r\nhello")
    await peer.until_closed()


@pytest.mark.parametrize(
    ("script", "phase"),
    [
        (never_answers, Phase.ANSWER),
        (drips_headers, Phase.ANSWER),
        (repeats_continue, Phase.ANSWER),
        (floods_early_hints, Phase.ANSWER),
        (drips_body, Phase.BODY),
        (drips_chunks, Phase.BODY),
        (extends_a_chunk_for_ever, Phase.BODY),
        (keeps_a_small_body_open, Phase.BODY),
    ],
)
async def test_a_receiver_that_holds_on_is_dropped_at_the_deadline(script: Script, phase: Phase) -> None:
    clock = asyncio.get_running_loop().time
    async with receiving(script) as receiver, loopback_engine() as engine:
        started = clock()
        with pytest.raises(EgressTimeout) as caught:
            await post(engine, receiver.url(), deadline_s=0.5)
        assert clock() - started < 4, "by itself it would have waited for 5 s"
    assert caught.value.phase is phase


async def pours_a_header_line(peer: Peer) -> None:
    await peer.request()
    await peer.send(HEAD + b"X-Long: ")
    await peer.pour(SECRET * 1000)


async def pours_a_header_name(peer: Peer) -> None:
    await peer.request()
    await peer.send(HEAD)
    await peer.pour(b"x" * 65536)


async def pours_headers(peer: Peer) -> None:
    await peer.request()
    await peer.send(HEAD)
    await peer.pour(b"X-Name: value\r\n" * 1000)


async def pours_a_reason(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 ")
    await peer.pour(b"x" * 65536)


async def pours_trailers(peer: Peer) -> None:
    await peer.request()
    await peer.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n")
    await peer.pour(b"X-Name: value\r\n" * 1000)


@pytest.mark.parametrize(
    "script",
    [
        pours_a_header_line,
        pours_a_header_name,
        pours_headers,
        pours_a_reason,
        pours_trailers,
        answering(HEAD + b"".join(b"X-%d: %s\r\n" % (n, b"v" * 8000) for n in range(9)) + b"Content-Length: 0\r\n\r\n"),
        answering(b"<html>" + SECRET + b"</html>\r\n\r\n"),
        answering(b"HTTP/9.9 200 OK\r\n\r\n"),
        answering(b"HTTP/1.1 OK " + SECRET + b"\r\n\r\n"),
        answering(b"SSH-2.0-" + SECRET + b"\r\n"),
        answering(HEAD + b"Content-Length: -1\r\n\r\n"),
        answering(HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
        answering(HEAD + b"X-Nul: a\x00b\r\nContent-Length: 0\r\n\r\n"),
        answering(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + SECRET + b"\r\n"),
        answering(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
    ],
)
async def test_what_is_not_http_is_a_violation_whose_text_quotes_nothing(script: Script) -> None:
    async with receiving(script) as receiver, loopback_engine() as engine:
        with pytest.raises(ProtocolViolation) as caught:
            await post(engine, receiver.url("/canary-secret"), headers={"X-Key": "canary-secret"})
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    "data", [HEAD + b"Content-Length: 100\r\n\r\nshort", HEAD + b"Transfer-Encoding: chunked\r\n\r\n64\r\nshort"]
)
async def test_a_body_that_breaks_off_is_a_violation(data: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(data)

    async with receiving(script) as receiver, loopback_engine() as engine:
        with pytest.raises(ProtocolViolation):
            await post(engine, receiver.url())


async def test_an_endless_body_is_cut_and_the_connection_dropped() -> None:
    dropped = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + b"\r\n")
        try:
            await peer.pour(bytes(65536))
        finally:
            dropped.set()

    async with receiving(script) as receiver, loopback_engine() as engine:
        tracemalloc.start()
        answer = await post(engine, receiver.url())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        async with asyncio.timeout(5):
            await dropped.wait()
    assert (answer.status, len(answer.body), answer.is_truncated) == (200, 16384, True)
    assert peak < 4 << 20


@pytest.mark.filterwarnings("ignore:Sending a large body")
@pytest.mark.parametrize("answers_early", [False, True])
async def test_a_receiver_that_never_reads_does_not_hold_the_body(answers_early: bool) -> None:  # noqa: FBT001 # a parameter
    body = bytes(64 << 20)
    is_over, received = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def script(peer: Peer) -> None:
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined] # a transport of a socket reads
        if answers_early:
            await peer.send(HEAD + b"\r\n" + bytes(65536))
        await is_over.wait()
        peer.writer.transport.resume_reading()  # type: ignore[attr-defined] # a transport of a socket reads
        received.set_result(await peer.until_closed())

    async with receiving(script) as receiver, loopback_engine() as engine:
        if answers_early:
            assert (await post(engine, receiver.url(), body=body)).is_truncated
        else:
            with pytest.raises(EgressTimeout):
                await post(engine, receiver.url(), body=body, deadline_s=0.2)
        is_over.set()
        async with asyncio.timeout(5):
            assert await received < len(body)


@pytest.mark.parametrize("extra", [OK, b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"], ids=["answer", "forged"])
async def test_what_follows_an_answer_is_not_taken_for_the_next_one(extra: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 204 No Content\r\n\r\n" + extra)
        await peer.until_closed()

    async with receiving(script) as receiver, loopback_engine() as engine:
        statuses = [(await post(engine, receiver.url())).status for _ in range(3)]
    assert (statuses, receiver.contacts) == ([204, 204, 204], 3)


async def test_a_204_with_a_body_is_a_violation_and_leaves_nothing_behind() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(
            b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\njunk" if peer.receiver.contacts == 1 else OK
        )
        await peer.until_closed()

    async with receiving(script) as receiver, loopback_engine() as engine:
        with pytest.raises(ProtocolViolation):
            await post(engine, receiver.url())
        assert (await post(engine, receiver.url())).body == b"ok"


async def test_an_answer_sent_while_nobody_asked_is_not_taken_for_the_next_one() -> None:
    speak, spoken = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        if peer.receiver.contacts == 1:
            await speak.wait()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
            spoken.set()
        await peer.until_closed()

    async with receiving(script) as receiver, loopback_engine() as engine:
        await post(engine, receiver.url())
        speak.set()
        await spoken.wait()
        await post(engine, receiver.url(host="other.example.com"))  # lets the loop read what came
        answer = await post(engine, receiver.url())
    assert answer.body == b"ok"


async def test_cancelling_a_post_drops_its_connection() -> None:
    asked, dropped = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await peer.until_closed()
        dropped.set()

    async with receiving(script) as receiver, loopback_engine() as engine:
        task = asyncio.create_task(post(engine, receiver.url()), name="post")
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(5):
            await dropped.wait()


async def test_a_hostile_receiver_does_not_slow_its_neighbour() -> None:
    async with receiving(floods_early_hints) as hostile, receiving() as healthy, loopback_engine() as engine:

        async def suffer() -> None:
            with pytest.raises(EgressError):
                await post(engine, hostile.url(), deadline_s=2)

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(suffer())
            for _ in range(20):
                assert (await post(engine, healthy.url(), deadline_s=1.5)).status == 200
