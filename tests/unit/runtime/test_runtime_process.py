"""Behaviour that only a process of its own can show: signals, exit codes, stderr."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PRELUDE = """
import asyncio, sys
from pulse_runtime.lifecycle import Lifecycle, run_process
def say(text): print(text, flush=True)
async def stopped(): say("stopped")
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    code: int
    said: list[str]
    events: list[dict[str, Any]]

    def named(self, event: str) -> dict[str, Any]:
        return next(line for line in self.events if line["event"] == event)


def start(body: str, **environ: str) -> subprocess.Popen[str]:
    code = PRELUDE + textwrap.dedent(body) + "\nsys.exit(run_process(main))\n"
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environ},
    )


def wait(process: subprocess.Popen[str]) -> Ended:
    out, err = process.communicate(timeout=20)
    return Ended(
        code=process.returncode,
        said=out.split(),
        events=[json.loads(line) for line in err.splitlines() if line.startswith("{")],
    )


def signalled(body: str, *signals: signal.Signals) -> Ended:
    """Run `body` and send one signal each time it says `ready`."""
    process = start(body)
    assert process.stdout is not None
    for number in signals:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
    return wait(process)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_in_reverse_order_and_exits_cleanly(number: signal.Signals) -> None:
    ended = signalled(
        """
        async def main(lifecycle):
            async def forever():
                try:
                    await asyncio.Event().wait()
                finally:
                    say("task-cancelled")
            lifecycle.spawn("forever", forever())
            async def first(): say("first")
            async def second(): say("second")
            lifecycle.on_stop("first", first, 1.0)
            lifecycle.on_stop("second", second, 1.0)
            asyncio.get_running_loop().call_later(0, say, "ready")
        """,
        number,
    )
    assert (ended.code, ended.said) == (0, ["second", "first", "task-cancelled"])
    assert ended.named("service_stopping")["reason"] == number.name
    assert ended.named("service_stopped")["exit_code"] == 0


def test_a_second_signal_ends_at_once() -> None:
    ended = signalled(
        """
        async def main(lifecycle):
            async def drain():
                say("ready")
                await asyncio.sleep(60)
            lifecycle.on_stop("drain", drain, 60.0)
            asyncio.get_running_loop().call_later(0, say, "ready")
        """,
        signal.SIGTERM,
        signal.SIGTERM,
    )
    assert ended.code == 128 + signal.SIGTERM


def test_a_signal_during_setup_cancels_it_and_undoes_what_was_done() -> None:
    ended = signalled(
        """
        async def main(lifecycle):
            lifecycle.on_stop("connection", stopped, 1.0)
            say("ready")
            await asyncio.sleep(60)
        """,
        signal.SIGTERM,
    )
    assert (ended.code, ended.said) == (0, ["stopped"])


def test_a_failed_task_stops_the_process_with_its_traceback_in_the_log() -> None:
    ended = wait(
        start(
            """
            async def main(lifecycle):
                async def work():
                    raise RuntimeError("broken inside")
                lifecycle.on_stop("connection", stopped, 1.0)
                lifecycle.spawn("router.pull", work())
            """
        )
    )
    assert (ended.code, ended.said) == (1, ["stopped"])
    failed = ended.named("task_failed")
    assert failed["task"] == "router.pull"
    assert "broken inside" in failed["exception"]
    assert "Traceback" in failed["exception"]


def test_a_process_runs_on_uvloop() -> None:
    ended = wait(
        start(
            """
            async def main(lifecycle):
                say(type(asyncio.get_running_loop()).__module__)
                lifecycle.stop("seen enough")
            """
        )
    )
    assert (ended.code, ended.said) == (0, ["uvloop"])


ASK = """
from pulse_runtime import failpoints
async def main(lifecycle):
    say(failpoints.enabled("ingest.ack_before_commit"))
    for n in range(1, 5):
        failpoints.hit("delivery.after_post")
        say(n)
    lifecycle.stop("done")
"""


def test_unarmed_failpoints_are_empty_functions() -> None:
    ended = wait(
        start(
            """
            from pulse_runtime import failpoints
            def empty(_name): pass
            async def main(lifecycle):
                say(failpoints.hit.__code__.co_code == empty.__code__.co_code)
                say(failpoints.enabled("anything"))
                lifecycle.stop("done")
            """,
            PULSE_FAILPOINTS="",
        )
    )
    assert ended.said == ["True", "False"]
    assert all(line["event"] != "failpoints_armed" for line in ended.events)


def test_an_armed_kill_ends_the_process_at_its_nth_hit() -> None:
    ended = wait(start(ASK, PULSE_FAILPOINTS="ingest.ack_before_commit=on; delivery.after_post=kill:3"))
    assert (ended.code, ended.said) == (-signal.SIGKILL, ["True", "1", "2"])
    armed = ended.named("failpoints_armed")
    assert armed["level"] == "warning"
    assert "delivery.after_post=kill:3" in armed["failpoints"]


def test_a_kill_without_a_number_means_the_first_hit() -> None:
    ended = wait(start(ASK, PULSE_FAILPOINTS="delivery.after_post=kill"))
    assert (ended.code, ended.said) == (-signal.SIGKILL, ["False"])


def test_an_armed_stop_freezes_the_process_until_it_is_told_to_go_on() -> None:
    process = start(ASK, PULSE_FAILPOINTS="delivery.after_post=stop:3")
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert (os.WIFSTOPPED(status), os.WSTOPSIG(status)) == (True, signal.SIGSTOP)
    process.send_signal(signal.SIGCONT)
    ended = wait(process)
    assert (ended.code, ended.said) == (0, ["False", "1", "2", "3", "4"])


def test_hits_count_only_while_the_file_is_there(tmp_path: Path) -> None:
    armed = tmp_path / "armed"
    ended = wait(
        start(
            f"""
            from pathlib import Path
            from pulse_runtime import failpoints
            async def main(lifecycle):
                failpoints.hit("delivery.after_post")
                say("unarmed")
                Path("{armed}").touch()
                for n in range(1, 5):
                    failpoints.hit("delivery.after_post")
                    say(n)
            """,
            PULSE_FAILPOINTS="delivery.after_post=kill:2",
            PULSE_FAILPOINTS_FILE=str(armed),
        )
    )
    assert (ended.code, ended.said) == (-signal.SIGKILL, ["unarmed", "1"])


def test_a_misspelt_failpoint_is_refused_by_the_variables_name() -> None:
    ended = wait(
        start(
            """
            import importlib, os
            from pulse_runtime import failpoints
            async def main(lifecycle):
                for text in ["nonsense", "a=maybe", "a=kill:0", "a=kill:x", "=on", "a=kill:", "a=on:1", "a=stop:0"]:
                    os.environ["PULSE_FAILPOINTS"] = text
                    try:
                        importlib.reload(failpoints)
                    except ValueError as refused:
                        say(str(refused).split()[0])
                lifecycle.stop("done")
            """
        )
    )
    assert ended.said == ["PULSE_FAILPOINTS:"] * 8
