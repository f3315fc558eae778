"""One connection to NATS, with replies matched on one inbox and nothing lost silently."""

import asyncio
import itertools
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import cast

import nats.errors
from nats.aio.client import Client, Srv
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.protocol.parser import PERMISSIONS_ERR

from pulse_bus.address import BusAddress
from pulse_bus.errors import BusUnavailable
from pulse_runtime.logging import get_logger
from pulse_runtime.spans import OFF, Tracer

_log = get_logger(__name__)

_RECONNECT_WAIT_S = 0.25
_PING_INTERVAL_S = 10
_CONNECT_TIMEOUT_S = 4
_FLUSH_S = 2


class _PersistentClient(Client):
    """A client that takes every error the server closes a connection for as a reason to reconnect.

    nats-py closes itself for good instead, for instance after "maximum connections exceeded"; and it stops reading when
    a PONG comes for somebody who has given up waiting for it.
    """

    is_ending = False
    """It is being closed, and does not reconnect any more."""

    async def _process_pong(self) -> None:
        pongs = cast("list[asyncio.Future[bool]]", self._pongs)
        if pongs and pongs[0].done():
            pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def _process_err(self, err_msg: str) -> None:
        if PERMISSIONS_ERR in err_msg:
            await super()._process_err(err_msg)
        else:
            await self._process_op_err(nats.errors.Error(f"nats: {err_msg}"))

    async def _process_op_err(self, e: Exception) -> None:
        if not self.is_ending:
            await super()._process_op_err(e)

    async def _connect_to_server(self, s: Srv) -> None:
        # Before Python 3.12 `wait_for` swallows a cancellation that meets an answer, and the loops that call this try
        # for ever: at a start that was given up, and after a `close`.
        if self._is_given_up():
            raise asyncio.CancelledError
        await super()._connect_to_server(s)
        if self._is_given_up():
            if self._transport is not None:
                self._transport.close()
            raise asyncio.CancelledError

    def _is_given_up(self) -> bool:
        task = asyncio.current_task()
        return self.is_ending or (task is not None and task.cancelling() > 0)

    async def stop_reconnecting(self) -> None:
        """Cancel an attempt under way and wait for its end, as `close` does not: it may have let the client back in."""
        self.is_ending = True
        if (attempt := self._reconnection_task) and not attempt.done():
            attempt.cancel()
            await asyncio.wait([attempt])

    def forget_unsent(self) -> None:
        """Let `close` write nothing more: on a broken connection that would raise, and leave its tasks running."""
        self._pending = []
        self._pending_data_size = 0


class Connection:
    """A connection that reconnects for ever and fails what waits for an answer when it breaks."""

    def __init__(self, client: Client, service: str, tracer: Tracer) -> None:
        self._client = client
        # Not the client id of the server: each server of a cluster counts its own, and counts anew after a restart.
        self._prefix = f"_INBOX_{service}.{secrets.token_hex(8)}"
        self._waiting: dict[str, asyncio.Future[Msg]] = {}
        self._tokens = itertools.count()
        self._on_reconnect: list[Callable[[], None]] = []
        self.service = service
        self.tracer = tracer
        self.reconnects = 0

    @property
    def is_connected(self) -> bool:
        return self._client.is_connected

    @property
    def max_payload(self) -> int:
        """The largest message, in bytes, that the server takes."""
        return self._client.max_payload

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Call *callback* after each reconnect: what was asked for before is forgotten by the server."""
        self._on_reconnect.append(callback)

    def off_reconnect(self, callback: Callable[[], None]) -> None:
        """Call *callback* no more."""
        self._on_reconnect.remove(callback)

    def expect(self) -> tuple[str, asyncio.Future[Msg]]:
        """Return a reply subject and the future of the one message that will arrive there.

        The future fails with `BusUnavailable` when the connection breaks. Whoever gives up waiting calls `forget`.
        """
        reply = f"{self._prefix}.{next(self._tokens)}"
        future: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._waiting[reply] = future
        return reply, future

    def forget(self, reply: str) -> None:
        """Stop expecting an answer at *reply*."""
        if future := self._waiting.pop(reply, None):
            future.cancel()

    async def publish(
        self, subject: str, data: bytes = b"", *, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Hand a message to the connection. A return promises nothing: only an answer at *reply* does."""
        try:
            await self._client.publish(subject, data, reply=reply, headers=headers)
        except nats.errors.Error as exc:
            raise BusUnavailable(f"cannot send to {subject}: {exc!r}") from exc

    async def request(
        self, subject: str, data: bytes = b"", *, timeout_s: float, headers: dict[str, str] | None = None
    ) -> Msg:
        """Publish and wait for the answer; raises `BusUnavailable` when there is none in time."""
        reply, future = self.expect()
        try:
            await self.publish(subject, data, reply=reply, headers=headers)
            # Not `wait_for`: before Python 3.12 it swallows a cancellation that meets the answer.
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError as exc:
            raise BusUnavailable(f"no answer to {subject} within {timeout_s:g} s") from exc
        finally:
            self.forget(reply)

    async def subscribe(self, subject: str, callback: Callable[[Msg], None], *, queue: str = "") -> Subscription:
        """Call *callback* for every message on *subject*, or for those that the queue group's others do not get.

        It must not block.
        """

        async def on_message(message: Msg) -> None:
            callback(message)

        return await self._client.subscribe(subject, queue, cb=on_message)  # pyright: ignore[reportUnknownMemberType] - a bare Future in nats-py's signature

    async def abandon(self, subscription: Subscription) -> None:
        """Forget a subscription whose draining was cut off: else it is made anew after each reconnect, for good."""
        subscription._stop_processing()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - only `drain` ends its task, and was cut off
        self._client._remove_sub(subscription._id)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - only `drain` takes it off the list
        if self._client.is_connected:
            # Again: it may have reconnected since, and so subscribed.
            await self._client._send_unsubscribe(subscription._id)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - public `unsubscribe` refuses after `drain`

    def new_inbox(self) -> str:
        """Return a fresh subject prefix that only this connection's user may read."""
        return f"{self._prefix}.c{next(self._tokens)}"

    async def start(self) -> None:
        """Begin to listen for replies."""
        await self.subscribe(f"{self._prefix}.*", self._answer)

    def _answer(self, message: Msg) -> None:
        future = self._waiting.pop(message.subject, None)
        if future and not future.done():
            future.set_result(message)

    def broke(self) -> None:
        """Fail everything that waits for an answer over the connection that broke."""
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(BusUnavailable("the connection broke before the answer"))
                future.exception()  # marked as seen: a forgotten future is no fault

    def restored(self) -> None:
        """Tell those who asked for something before the break to ask again."""
        self.reconnects += 1
        for callback in self._on_reconnect:
            callback()


@asynccontextmanager
async def connect(
    address: BusAddress, *, tracer: Tracer = OFF, timeout_s: float = _CONNECT_TIMEOUT_S
) -> AsyncGenerator[Connection, None]:
    """Connect, keep connected, and flush at the end; raises `BusUnavailable` if no server lets us in at first.

    *tracer* records what is sent and processed over the connection.
    """
    holder: list[Connection] = []
    errors: list[Exception] = []

    async def on_error(exc: Exception) -> None:
        if not holder:
            errors.append(exc)
            return
        # A denied JetStream request looks like a time-out to its caller: the reason comes only here.
        _log.warning("nats_error_reported", error=str(exc) or repr(exc))

    async def on_disconnect() -> None:
        for connection in holder:
            connection.broke()

    async def on_reconnect() -> None:
        for connection in holder:
            connection.restored()

    client = _PersistentClient()
    try:
        # A client that reconnects for ever also tries for ever to connect at first, even with a wrong password.
        async with asyncio.timeout(timeout_s):
            await client.connect(
                [url.strip() for url in address.url.split(",")],
                name=f"pulse-{address.service}",
                user=address.user,
                password=address.password,
                inbox_prefix=f"_INBOX_{address.service}",
                max_reconnect_attempts=-1,
                reconnect_time_wait=_RECONNECT_WAIT_S,  # pyright: ignore[reportArgumentType] - it is slept for
                ping_interval=_PING_INTERVAL_S,
                connect_timeout=_CONNECT_TIMEOUT_S,
                error_cb=on_error,
                disconnected_cb=on_disconnect,
                reconnected_cb=on_reconnect,
            )
    except (nats.errors.Error, OSError) as exc:
        # nats-py asserts that it was once told where to connect to; of an address that means nothing it was not.
        with suppress(AssertionError):
            await client.close()
        reason = errors[-1] if errors else exc
        raise BusUnavailable(f"cannot connect to NATS at {address.url} as {address.user}: {reason!r}") from exc
    connection = Connection(client, address.service, tracer)
    holder.append(connection)
    try:
        await connection.start()
        yield connection
    finally:
        await asyncio.shield(_close(client))


async def _close(client: _PersistentClient) -> None:
    await client.stop_reconnecting()
    if client.is_connected:
        try:
            async with asyncio.timeout(_FLUSH_S):
                await client.flush()
        except (nats.errors.Error, TimeoutError, OSError) as exc:
            _log.warning("nats_flush_failed", error=repr(exc))
            client.forget_unsent()
    if not client.is_connected:
        client.forget_unsent()
    await client.close()
