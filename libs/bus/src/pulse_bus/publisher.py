"""The committer: messages that arrive together are published as one atomic batch (ADR-50) and acknowledged together.

A few go without a batch, one by one.

One committer a stream with one batch in flight: while a batch is being fsynced the next one gathers, so batches
grow with load by themselves, and fsyncs of the same stream never compete (two were measured as worse: ADR 0004).
"""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

from nats.aio.msg import Msg

from pulse_bus.backlog import Backlog, Group
from pulse_bus.connection import Connection
from pulse_bus.errors import BusUnavailable, PublishRefused
from pulse_bus.outgoing import Committed, Outgoing, split_batch
from pulse_bus.spans import Sending
from pulse_contracts import headers
from pulse_contracts.topology import MAX_BATCH
from pulse_runtime.clock import Clock
from pulse_runtime.events import MESSAGES_COMMITTED
from pulse_runtime.logging import get_logger
from pulse_runtime.metrics import BusMetrics
from pulse_runtime.tracing import trace_id_of

_log = get_logger(__name__)
_STORE_FAILED: Final = 10077
_TOO_LARGE: Final = 10054
_PASSING: Final = frozenset({10176, 10008, 10074, 10118, 10009})
"""An abandoned batch, or no leader or quorum just now: the same messages go again in a new batch.

Too many open batches (10210) is not among them: messages that are published singly need no place, and the places
may stay taken for 10 s.
"""
_COMMIT_TIMEOUT_S: Final = 5.0
_RETRY_PAUSE_S: Final = 0.1
_RECENT_IDS: Final = 20_000
MAX_PENDING: Final = 20_000
"""So many messages wait for their commit at most: what comes beyond them is refused at once."""
_FEW: Final = 8
"""So many messages go one by one, all under way at once: an fsync each, where a batch costs four and makes files.

Two took 3 ms instead of 18, eight 14 instead of 21, twelve the same (ADR 0020).
"""


@dataclass(slots=True)
class _Verdicts:
    """What became of each message of a batch, by its id."""

    committed: dict[str, Committed] = field(default_factory=dict[str, Committed])
    failed: dict[str, Exception] = field(default_factory=dict[str, Exception])

    def take(self, message_id: str) -> Committed | Exception:
        """Return the verdict; of one id twice at once the first was stored, and what comes after is a duplicate."""
        if error := self.failed.get(message_id):
            return error
        committed, self.committed[message_id] = self.committed[message_id], Committed(duplicate=True)
        return committed


class _Rejected(Exception):
    """The server rejected a batch as a whole."""

    def __init__(self, err_code: int, description: str) -> None:
        self.err_code = err_code
        self.description = description
        super().__init__(description)


class Publisher:
    """Commits messages to one stream.

    `publish` returns when the stream has the messages fsynced (``sync_interval: always``), and not before. It raises
    `PublishRefused` when the stream refuses, `BusUnavailable` when the outcome is unknown *give_up_s* after the call,
    however many commits were before it; in both cases some messages of the call may be stored, and a retry with the
    same ids is safe within the duplicate window.
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        *,
        clock: Clock,
        metrics: BusMetrics,
        linger_s: float = 0.002,
        give_up_s: float = 8.0,
        max_pending: int = MAX_PENDING,
        log_batches: bool = False,
    ) -> None:
        """With *log_batches* each batch is a line of the log: for where messages come in."""
        self._connection = connection
        self._stream = stream
        self._clock = clock
        self._metrics = metrics
        self._linger_s = linger_s
        self._give_up_s = give_up_s
        self._max_pending = max_pending
        self._log_batches = log_batches
        self._backlog = Backlog(stream, give_up_s, lambda messages: self._count("timeout", messages))
        metrics.uncommitted_messages.labels(stream=stream).set_function(lambda: self._backlog.messages)
        self._recent: OrderedDict[str, None] = OrderedDict()
        self._has_stopped = False

    async def publish(self, *messages: Outgoing) -> list[Committed]:
        """Commit *messages* (at most 1,000) in one batch; the answers are in their order."""
        if len(messages) > MAX_BATCH:
            raise ValueError(f"{len(messages)} messages do not fit one batch of {MAX_BATCH}")
        if self._has_stopped:
            raise BusUnavailable(f"the publisher of {self._stream} has stopped")
        pending = self._backlog.messages
        if pending + len(messages) > self._max_pending:
            raise PublishRefused(self._stream, "backlog", f"{pending} messages already wait to be committed")
        if not self._connection.tracer.is_enabled:
            return await self._backlog.add(messages)
        sending = Sending(self._connection.tracer, self._clock, self._stream, messages)
        try:
            committed = await self._backlog.add(sending.messages, sending)
        except (PublishRefused, BusUnavailable) as exc:
            sending.end(exc)
            raise
        sending.end()
        return committed

    async def run(self) -> None:
        """Commit batch after batch until cancelled. Whoever waits then, or comes later, gets `BusUnavailable`."""
        try:
            while True:
                await self._backlog.arrived.wait()
                if self._linger_s:
                    await self._clock.sleep(self._linger_s)
                if groups := self._backlog.take(MAX_BATCH):
                    await self._settle(groups)
        finally:
            self._has_stopped = True
            self._backlog.abandon()

    async def _settle(self, groups: list[Group]) -> None:
        started = self._clock.monotonic()
        Sending.join([group.sending for group in groups if group.sending])
        verdicts = _Verdicts()
        fresh: dict[str, Outgoing] = {}
        for group in groups:
            for message in group.messages:
                if message.message_id in self._recent:
                    verdicts.committed[message.message_id] = Committed(duplicate=True)
                elif message.size_bytes > self._connection.max_payload:
                    verdicts.failed[message.message_id] = self._too_large(message)
                else:
                    fresh.setdefault(message.message_id, message)
        await self._commit(list(fresh.values()), verdicts)
        if self._log_batches:
            self._log(groups, len(verdicts.failed), self._clock.monotonic() - started)
        self._backlog.end(groups)
        for group in groups:
            _answer(group, verdicts)

    def _log(self, groups: list[Group], failed: int, seconds: float) -> None:
        _log.info(
            MESSAGES_COMMITTED,
            stream=self._stream,
            messages=sum(len(group.messages) for group in groups),
            failed=failed,
            duration_s=round(seconds, 4),
            trace_id=trace_id_of(groups[0].messages[0].headers.get(headers.TRACEPARENT)),
        )

    async def _commit(self, messages: list[Outgoing], verdicts: _Verdicts) -> None:
        """Fill in a verdict for each message. A rejected batch is split until those at fault stand alone."""
        if not messages:
            return
        if 1 < len(messages) <= _FEW:
            await asyncio.gather(*(self._commit([message], verdicts) for message in messages))
            return
        try:
            duplicate = await self._send_until_answered(messages)
        except _Rejected as rejected:
            if len(messages) == 1:
                self._refuse(messages, verdicts, rejected)
                return
            self._metrics.batch_splits_total.labels(stream=self._stream, reason=str(rejected.err_code)).inc()
            if _may_be_one_message(rejected):
                for part in split_batch(messages):
                    await self._commit(part, verdicts)
            else:
                await self._commit_what_fits(messages, verdicts, rejected)
        except BusUnavailable as exc:
            self._count("timeout", messages)
            verdicts.failed.update((message.message_id, exc) for message in messages)
        else:
            self._count("duplicate" if duplicate else "ok", messages)
            for message in messages:
                verdicts.committed[message.message_id] = Committed(duplicate=duplicate)
                self._remember(message.message_id)

    async def _commit_what_fits(self, messages: list[Outgoing], verdicts: _Verdicts, rejected: _Rejected) -> None:
        """Commit as many as there is room for: a batch larger than the stream would be refused for ever."""
        middle = len(messages) // 2
        first, rest = messages[:middle], messages[middle:]
        await self._commit(first, verdicts)
        if first[-1].message_id in verdicts.failed:
            self._refuse(rest, verdicts, rejected)
        else:
            await self._commit(rest, verdicts)

    def _refuse(self, messages: list[Outgoing], verdicts: _Verdicts, rejected: _Rejected) -> None:
        error = self._refusal(rejected)
        self._metrics.refused_total.labels(stream=self._stream, reason=error.reason).inc(len(messages))
        self._count("refused", messages)
        verdicts.failed.update((message.message_id, error) for message in messages)

    async def _send_until_answered(self, messages: list[Outgoing]) -> bool:
        """Send until the server says yes or no; returns whether a single message was a duplicate."""
        give_up_at = self._clock.monotonic() + self._give_up_s
        while True:
            try:
                duplicate = await self._send(messages)
            except BusUnavailable as exc:
                self._backlog.trouble = str(exc)
                if self._clock.monotonic() >= give_up_at:
                    raise
            except _Rejected as rejected:
                will_pass = rejected.err_code in _PASSING
                self._backlog.trouble = str(rejected) if will_pass else None
                if not will_pass or self._clock.monotonic() >= give_up_at:
                    raise
            else:
                self._backlog.trouble = None
                return duplicate
            await self._clock.sleep(_RETRY_PAUSE_S)

    async def _send(self, messages: list[Outgoing]) -> bool:
        if not self._connection.is_connected:
            raise BusUnavailable("not connected to NATS")
        batch_id = uuid4().hex
        last = len(messages)
        opening, refused_early = self._connection.expect()
        closing, committed = self._connection.expect()
        started = self._clock.monotonic()
        try:
            for index, message in enumerate(messages, start=1):
                extra = _batch_headers(batch_id, index, last)
                reply = closing if index == last else opening if index == 1 else ""
                await self._connection.publish(
                    message.subject,
                    message.data,
                    reply=reply,
                    headers={**message.headers, headers.MSG_ID: message.message_id, **extra},
                )
            answer = await self._await_commit(refused_early, committed)
        finally:
            self._connection.forget(opening)
            self._connection.forget(closing)
        self._metrics.publish_seconds.labels(stream=self._stream).observe(self._clock.monotonic() - started)
        self._metrics.batch_size.labels(stream=self._stream).observe(last)
        return _read_pub_ack(answer)

    @staticmethod
    async def _await_commit(refused_early: asyncio.Future[Msg], committed: asyncio.Future[Msg]) -> Msg:
        """Wait for the PubAck, or for the error that the first message of the batch met."""
        deadline = asyncio.get_running_loop().time() + _COMMIT_TIMEOUT_S
        waiting = {refused_early, committed}
        while True:
            left = deadline - asyncio.get_running_loop().time()
            done, _ = await asyncio.wait(waiting, timeout=max(left, 0), return_when=asyncio.FIRST_COMPLETED)
            if not done:
                raise BusUnavailable(f"no PubAck within {_COMMIT_TIMEOUT_S:g} s")
            if refused_early in done:
                opened = refused_early.result()
                if opened.data or opened.headers:
                    return opened
            if committed in done:
                return committed.result()
            waiting = {committed}

    def _too_large(self, message: Outgoing) -> PublishRefused:
        # Decided here: the server answers such a message by closing the connection on all others.
        self._metrics.refused_total.labels(stream=self._stream, reason="too_large").inc()
        self._count("refused", [message])
        description = f"a message of {message.size_bytes} bytes, the limit is {self._connection.max_payload}"
        return PublishRefused(self._stream, "too_large", description)

    def _count(self, result: str, messages: Sequence[Outgoing]) -> None:
        self._metrics.published_total.labels(stream=self._stream, result=result).inc(len(messages))

    def _remember(self, message_id: str) -> None:
        self._recent[message_id] = None
        if len(self._recent) > _RECENT_IDS:
            self._recent.popitem(last=False)

    def _refusal(self, rejected: _Rejected) -> PublishRefused:
        reason = "other"
        if rejected.err_code == _STORE_FAILED:
            reason = "subject_full" if "per subject" in rejected.description else "stream_full"
        elif rejected.err_code == _TOO_LARGE:
            reason = "too_large"
        return PublishRefused(self._stream, reason, rejected.description)


def _batch_headers(batch_id: str, index: int, last: int) -> dict[str, str]:
    if last == 1:
        return {}
    fields = {"Nats-Batch-Id": batch_id, "Nats-Batch-Sequence": str(index)}
    return fields | {"Nats-Batch-Commit": "1"} if index == last else fields


def _read_pub_ack(message: Msg) -> bool:
    """Return whether the ack speaks of a duplicate; raises what the answer means otherwise."""
    if not message.data:
        raise BusUnavailable("no stream listens on the subject, or JetStream is not ready")
    answer = json.loads(message.data)
    if error := answer.get("error"):
        raise _Rejected(error.get("err_code", 0), error.get("description", "unknown"))
    return bool(answer.get("duplicate"))


def _may_be_one_message(rejected: _Rejected) -> bool:
    """Whether some messages of the batch may be acceptable without the others."""
    return rejected.err_code != _STORE_FAILED or "per subject" in rejected.description


def _answer(group: Group, verdicts: _Verdicts) -> None:
    committed: list[Committed] = []
    for message in group.messages:
        match verdicts.take(message.message_id):
            case Committed() as verdict:
                committed.append(verdict)
            case error:
                group.fail(error)
                return
    group.succeed(committed)
