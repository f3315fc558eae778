"""What docs/operating/nats-cli.md tells operators to ask, asked with the real program, and the answers judged."""

import asyncio
import json
import re
import shlex
import shutil
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.cli import Said, pulse
from support.operator_page import number, owed, questions, table
from support.pulse import Pulse, running
from support.receiver import always, open_receiver
from support.tenant import ACTOR, Device, Route, Tenant
from support.waiting import eventually

from pulse_control import tenants
from pulse_testkit.otlp import open_collector
from pulse_testkit.processes import frozen

TROUBLED, GONE = "01890000-0000-7000-8000-000000000001", "01890000-0000-7000-8000-000000000002"
TURN = f"turn-acme-{TROUBLED}-5e1f3a"
"""As the page names the consumer of the troubled route."""
READING = {"t": 1}

pytestmark = pytest.mark.skipif(
    shutil.which("nats") is None,
    reason="needs the nats CLI, which no wheel brings: go install github.com/nats-io/natscli/nats@v0.5.1",
)


class Situation:
    """What the page says: a route in trouble, a dead letter that cannot be stored, a router that stands still."""

    def __init__(self, pulse: Pulse, device: Device, troubled: Route, gone: Route) -> None:
        self.judged: list[str] = []
        """Messages of before the router stood still: in the siding of one route, and dead letters of the other."""
        self.unrouted: list[str] = []
        self._pulse = pulse
        self._device = device
        self._names = {TROUBLED: troubled.route_id, GONE: gone.route_id}

    async def ask(self, question: str) -> Said:
        """Ask as the page does, with the names that things have here; the answer has those of the page again."""
        asked = question
        for on_page, here in self._names.items():
            asked = asked.replace(on_page, here)
        said = await pulse("nats", "--data", str(self._pulse.folder.path), *shlex.split(asked))
        out = said.out
        for on_page, here in self._names.items():
            out = out.replace(here, on_page)
        return Said(code=said.code, out=out, err=said.err)

    async def answer(self, question: str) -> str:
        """Ask what has to be answered. What waits for a message of the device gets some."""
        asking = asyncio.create_task(self.ask(question), name="test.nats")
        while question.startswith("sub ") and not asking.done():
            await self.send()
            await asyncio.wait({asking}, timeout=0.5)
        said = await asking
        assert said.code == 0, said.err
        return said.out

    async def send(self) -> None:
        self.unrouted.append(await self._device.accepted(READING, "reading"))

    async def begin(self) -> None:
        """Bring it about, as far as a router is needed for it."""
        self.judged = [await self._device.accepted(READING, "reading") for _ in range(2)]
        await eventually(self._has_turn, 20, what="the turn")
        await eventually(lambda: self.answer(f"consumer info SIDING {TURN}"), 20, until=is_paused_for_a_reason)
        await eventually(lambda: self.answer("stream subjects DEADLETTER"), 20, until=lambda out: GONE in out)

    async def _has_turn(self) -> bool:
        """Learn the name of the route's consumer, as an operator does."""
        found = re.search(rf"turn-acme-{TROUBLED}-(\w+)", await self.answer("consumer report SIDING"))
        if found:
            # Before the route itself: its id is part of this name.
            self._names = {TURN.removeprefix(f"turn-acme-{TROUBLED}-"): found[1], **self._names}
        return found is not None


@pytest.fixture(scope="module")
async def situation(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Situation]:
    path = tmp_path_factory.mktemp("nats-cli")
    async with open_receiver() as receiver, open_collector() as collector:
        receiver.behaviour["/gone"] = always(410)
        traced = {"PULSE_TRACE_RATIO": "1", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}
        async with running(path, only={"ingest": traced}) as stack, stack.locked("dead_letter_messages"):
            made = await tenants.create_tenant(stack.control, "acme", None, ACTOR)
            tenant = Tenant(pulse=stack, tenant_id=made.tenant_id, key=made.ingest_key)
            device = await tenant.device("boiler")
            # Port 443 of loopback: allowed, and nobody listens there.
            troubled = await tenant.webhook(
                "http://127.0.0.1:443/", name="down", policy={"backoff": {"first_s": 600, "cap_s": 600}}
            )
            gone = await tenant.webhook(receiver.url("/gone"), name="gone")
            situation = Situation(stack, device, troubled, gone)
            await situation.begin()
            async with frozen(stack.stack.pid("router")):
                for _ in range(3):
                    await situation.send()
                yield situation


def is_paused_for_a_reason(out: str) -> bool:
    until = re.search(r"Paused Until: (\S+ \S+) \(", out)
    is_future = bool(until) and datetime.fromisoformat(until[1]).astimezone(UTC) > datetime.now(UTC)
    return is_future and "refused (ECONNREFUSED)" in out and re.search(r"failures: [1-9]", out) is not None


def is_stored_but_not_judged(out: str, it: Situation) -> bool:
    floors = {name: number(row["Ack Floor"]) for name, row in table(out).items()}
    return (floors["store"], floors["router"]) == (len(it.judged + it.unrouted), len(it.judged))


def is_whole_path(out: str, it: Situation) -> bool:
    event = json.loads(next(line for line in out.splitlines() if line.startswith("{")))
    came, stored = ([hop for hop in event["events"] if hop["type"] == kind] for kind in ("in", "js"))
    return (
        event["request"]["header"]["Nats-Msg-Id"][0] in it.unrouted
        and came[0]["subj"] == "telemetry.acme.boiler.reading"
        and stored[0]["stream"] == "TELEMETRY"
    )


Judge = Callable[[str, Situation], bool]
LAST = f"delivery.webhook.acme.{TROUBLED}"
RIGHT: dict[str, dict[str, Judge]] = {
    "What is flowing for a tenant?": {
        "sub 'telemetry.acme.>' --count 1": lambda out, it: any(f'"{sent}"' in out for sent in it.unrouted),
        "stream subjects TELEMETRY 'telemetry.acme.>'": lambda out, it: (
            number(table(out)["telemetry.acme.boiler.reading"]["Count"]) == len(it.judged + it.unrouted)
        ),
        "stream get TELEMETRY --last-for 'telemetry.acme.boiler.reading'": lambda out, _: '"payload":{"t": 1}' in out,
    },
    "Where is the backlog?": {
        "stream report": lambda out, it: number(table(out)["SIDING"]["Messages"]) == len(it.judged),
        "consumer report TELEMETRY": lambda out, it: (
            {name: owed(row) for name, row in table(out).items()} == {"store": 0, "router": len(it.unrouted)}
        ),
        "consumer report DELIVERY": lambda out, _: owed(table(out)["deliver-webhook"]) == 0,
    },
    "Which routes are troubled, and until when?": {
        "stream subjects SIDING": lambda out, it: (
            {subject: number(row["Count"]) for subject, row in table(out).items()}
            == {f"siding.webhook.acme.{TROUBLED}": len(it.judged)}
        ),
        "consumer report SIDING": lambda out, it: owed(table(out)[TURN]) == len(it.judged),
        f"consumer info SIDING {TURN}": lambda out, _: is_paused_for_a_reason(out),
    },
    "What did the broker do with this message?": {
        "stream get TELEMETRY --last-for 'telemetry.acme.boiler.reading'": lambda out, it: (
            f"Nats-Msg-Id: {it.unrouted[-1]}\n" in out and f"Item: TELEMETRY#{len(it.judged + it.unrouted)} " in out
        ),
        "consumer report TELEMETRY": is_stored_but_not_judged,
        f"stream get DELIVERY --last-for '{LAST}'": lambda out, it: any(
            f"Nats-Msg-Id: {message_id}:{TROUBLED}\n" in out for message_id in it.judged
        ),
        # Two matches a message, all settled.
        "consumer report DELIVERY": lambda out, it: (
            number(table(out)["deliver-webhook"]["Ack Floor"]) == 2 * len(it.judged)
        ),
        f"stream get SIDING --last-for 'siding.webhook.acme.{TROUBLED}'": lambda out, _: (
            re.search(r"Pulse-Cause: (attempt_failed|route_troubled)\n", out) is not None
        ),
        "sub hops --count 1": is_whole_path,
    },
    "What is in the dead-letter stream?": {
        "stream subjects DEADLETTER": lambda out, it: (
            {subject: number(row["Count"]) for subject, row in table(out).items()}
            == {f"deadletter.acme.{GONE}": len(it.judged)}
        ),
        "consumer report DEADLETTER": lambda out, it: owed(table(out)["dead-letter-writer"]) == len(it.judged),
        f"stream get DEADLETTER --last-for 'deadletter.acme.{GONE}'": lambda out, _: (
            '"reason":"status_410","error":"status_410: answered 410"' in out
        ),
    },
}
"""What makes an answer right, by question and command."""


def test_the_page_asks_the_five_questions_and_nothing_that_is_not_judged() -> None:
    assert {question: set(commands) for question, commands in questions().items()} == {
        question: set(judges) for question, judges in RIGHT.items()
    }


@pytest.mark.parametrize(
    ("question", "command"), [(question, command) for question, judges in RIGHT.items() for command in judges]
)
async def test_the_page_answers(situation: Situation, question: str, command: str) -> None:
    judge = RIGHT[question][command]
    await eventually(lambda: situation.answer(command), until=lambda out: judge(out, situation), what="the answer")


async def test_the_operator_may_trace_nothing_because_that_would_be_publishing(situation: Situation) -> None:
    said = await situation.ask("trace --timeout 1s telemetry.acme.boiler.reading forged")
    assert (said.code, "permissions violation" in said.err.lower()) == (1, True)
    await eventually(
        lambda: situation.answer("consumer report TELEMETRY"),
        until=lambda out: is_stored_but_not_judged(out, situation),
        what="a stream without it",
    )


async def test_without_a_stack_it_says_so(tmp_path: Path) -> None:
    said = await pulse("nats", "--data", str(tmp_path / "none"), "stream", "report")
    assert (said.code, "no stack runs" in said.err) == (3, True)
