"""What docs/operating/nats-cli.md tells operators to ask, asked with the real program."""

import asyncio
import re
import shlex
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest
from support.cli import Running, pulse, pulse_up
from support.receiver import Receiver
from support.waiting import eventually

PAGE = Path(__file__).parents[2] / "docs" / "operating" / "nats-cli.md"
ROUTE = "01890000-0000-7000-8000-000000000001"
TURN = f"turn-acme-{ROUTE}-5e1f3a"
"""As the page names the route's consumer."""

pytestmark = pytest.mark.skipif(
    shutil.which("nats") is None,
    reason="needs the nats CLI, which no wheel brings: go install github.com/nats-io/natscli/nats@latest",
)


def commands() -> list[str]:
    """Return the page's commands to Pulse, in their order."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("pulse nats ")]


EXPECTED = {
    "sub": '"payload":{"t":1}',
    "stream subjects TELEMETRY": "telemetry.acme.boiler.reading",
    "stream get TELEMETRY": "telemetry.acme.boiler.reading",
    "stream report": "DELIVERY",
    "consumer report TELEMETRY": "router",
    "consumer report DELIVERY": "deliver-webhook",
    "stream subjects SIDING": ROUTE,
    "consumer report SIDING": "turn-acme-",
    "consumer info SIDING": "refused (ECONNREFUSED)",
    "stream get SIDING": "Pulse-Cause: ",
    "stream subjects DEADLETTER": "",
    "consumer report DEADLETTER": "dead-letter-writer",
}
"""What an operator looks for in the answer, by the beginning of the question."""


class Situation:
    """A stack with one tenant, whose only route is in trouble."""

    def __init__(self, running: Running, token: str, route: str) -> None:
        self._running = running
        self._token = token
        self._route = route
        self._turn = TURN

    async def ask(self, command: str) -> str:
        """Run a command of the page; returns what it printed."""
        arguments = shlex.split(command.replace(TURN, self._turn).replace(ROUTE, self._route))[1:]
        said = await pulse(arguments[0], "--data", str(self._running.data), *arguments[1:])
        assert said.code == 0, said.err
        return said.out.replace(self._route, ROUTE)

    async def find_turn(self) -> bool:
        """Learn the name of the route's consumer, as an operator does."""
        found = re.search(rf"turn-acme-{ROUTE}-\w+", await self.ask("pulse nats consumer report SIDING"))
        self._turn = found[0] if found else TURN
        return found is not None

    async def send(self) -> None:
        """Send a message of the device."""
        async with httpx.AsyncClient(base_url=self._running.announced["http"]) as http:
            path = "/ingest/v1/tenant/acme/device/boiler/reading"
            answer = await http.post(path, content=b'{"t":1}', headers={"authorization": f"Bearer {self._token}"})
            assert answer.status_code == 202, answer.text


@pytest.fixture(scope="module")
async def situation(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Situation]:
    closed = Receiver(1)
    async with pulse_up(tmp_path_factory.mktemp("nats-cli") / "pulse") as running:
        await running.pulse("tenant", "create", "acme")
        device = await running.pulse("device", "create", "boiler", "--tenant", "acme", "--json")
        policy = '{"backoff": {"first_s": 600, "cap_s": 600}}'
        # Port 443 of loopback: allowed, and nobody listens there.
        made = await running.pulse(
            *("route", "create", "--tenant", "acme", "--name", "r", "--topic-filter", "#", "--json"),
            *("--webhook", closed.url("/").replace(":1/", ":443/"), "--policy", policy),
        )
        situation = Situation(running, device.json[0]["token"], made.json["route_id"])
        await situation.send()
        await eventually(situation.find_turn, 20, what="the turn")
        await eventually(
            lambda: situation.ask(f"pulse nats consumer info SIDING {TURN}"),
            20,
            until=lambda out: "ECONNREFUSED" in out,
            what="the failed probe",
        )
        yield situation


@pytest.mark.parametrize("command", commands())
async def test_the_page_answers(situation: Situation, command: str) -> None:
    question = command.removeprefix("pulse nats ")
    expected = max((key for key in EXPECTED if question.startswith(key)), key=len)
    asked = asyncio.create_task(situation.ask(command), name="test.nats")
    while question.startswith("sub") and not asked.done():
        await situation.send()
        await asyncio.wait({asked}, timeout=0.5)
    assert EXPECTED[expected] in await asked


def test_the_page_has_every_question() -> None:
    assert len(commands()) >= len(EXPECTED)


async def test_without_a_stack_it_says_so(tmp_path: Path) -> None:
    said = await pulse("nats", "--data", str(tmp_path / "none"), "stream", "report")
    assert (said.code, "no stack runs" in said.err) == (3, True)
