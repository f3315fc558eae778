import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pulse_cli.embedded.errors import ChildFailed
from pulse_cli.embedded.process import Child, Command, run

AllGone = Callable[[Sequence[int]], bool]

STUBBORN = (
    "import signal, sys\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print('armed', flush=True)\n"
    "signal.sigwait([signal.SIGUSR1])\n"
)


def command(log: Path, *argv: str) -> Command:
    return Command(name="child", argv=argv, log=log, environment={"PATH": "/usr/bin:/bin"})


async def test_output_goes_to_the_log_and_the_status_is_returned(tmp_path: Path) -> None:
    child = Child.spawn(command(tmp_path / "log", "sh", "-c", "echo out; echo err >&2; exit 3"))
    assert await child.wait() == 3
    assert (tmp_path / "log").read_text() == "out\nerr\n"


async def test_a_child_that_ignores_its_stop_signal_is_killed(tmp_path: Path) -> None:
    child = Child.spawn(command(tmp_path / "log", sys.executable, "-c", STUBBORN))
    while "armed" not in (tmp_path / "log").read_text():  # noqa: ASYNC110 - another process tells
        await asyncio.sleep(0)
    assert await child.stop((signal.SIGTERM, 0.1)) == -signal.SIGKILL


async def test_stopping_an_ended_child_returns_its_status(tmp_path: Path) -> None:
    child = Child.spawn(command(tmp_path / "log", "true"))
    await child.wait()
    assert await child.stop((signal.SIGTERM, 1.0)) == 0


async def test_a_child_has_its_own_process_group(tmp_path: Path) -> None:
    child = Child.spawn(command(tmp_path / "log", "sleep", "60"))
    assert os.getpgid(child.pid) == child.pid
    await child.stop()


async def test_only_the_main_thread_may_spawn(tmp_path: Path) -> None:
    async def spawn_elsewhere() -> None:
        Child.spawn(command(tmp_path / "log", "true"))

    with pytest.raises(RuntimeError, match="main thread"):
        await asyncio.to_thread(asyncio.run, spawn_elsewhere())


async def test_a_failed_command_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed, match="no such locale") as failure:
        await run(command(tmp_path / "log", "sh", "-c", "echo no such locale; exit 1"))
    assert failure.value.status == 1


async def test_a_cancelled_command_leaves_no_process_of_its_group(tmp_path: Path, all_gone: AllGone) -> None:
    task = asyncio.create_task(run(command(tmp_path / "log", "sh", "-c", "sleep 60 & echo $!; wait")))
    await asyncio.sleep(0)  # it spawns
    while not (tmp_path / "log").read_text().strip():  # noqa: ASYNC110 - another process tells
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert all_gone([int((tmp_path / "log").read_text())])
