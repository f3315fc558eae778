import asyncio
import os
import signal
from pathlib import Path

import pytest

from pulse_cli.embedded.errors import ChildFailed, ChildNotReady
from pulse_cli.embedded.process import Child, Command
from pulse_cli.embedded.supervisor import ChildSpec, Supervisor


async def nothing() -> None:
    pass


async def at_once(_: Child) -> bool:
    return True


async def never(_: Child) -> bool:
    return False


def spec(folder: Path, name: str, script: str, **changes: object) -> ChildSpec:
    command = Command(name=name, argv=("sh", "-c", script), log=folder / "log", environment={"PATH": "/usr/bin:/bin"})
    given: dict[str, object] = {"prepare": nothing, "spawn": lambda: Child.spawn(command), "is_ready": at_once}
    return ChildSpec(name=name, **{**given, **changes})  # pyright: ignore[reportArgumentType] - a builder with defaults


async def test_children_are_stopped_in_reverse_order(tmp_path: Path) -> None:
    script = "trap 'echo $NAME; exit 0' TERM; echo $NAME up; while :; do sleep 0.01; done"

    async def is_armed(child: Child) -> bool:
        return f"{child.name} up\n" in (tmp_path / "log").read_text()

    async with Supervisor() as supervisor:
        for name in ("first", "second", "third"):
            await supervisor.start(spec(tmp_path, name, script.replace("$NAME", name), is_ready=is_armed))
    assert [line for line in (tmp_path / "log").read_text().splitlines() if line in {"first", "second", "third"}] == [
        "third",
        "second",
        "first",
    ]


async def test_a_child_that_is_never_ready_is_stopped_and_reported_with_its_log(tmp_path: Path) -> None:
    async with Supervisor() as supervisor:
        with pytest.raises(ChildNotReady, match=r"not ready after 0\.3 s"):
            await supervisor.start(spec(tmp_path, "slow", "exec sleep 60", is_ready=never, ready_timeout_s=0.3))
        with pytest.raises(KeyError):
            supervisor.pid("slow")


async def test_a_child_that_dies_before_it_is_ready_is_reported_with_its_log(tmp_path: Path) -> None:
    async with Supervisor() as supervisor:
        with pytest.raises(ChildFailed, match="bad option") as failure:
            await supervisor.start(spec(tmp_path, "broken", "echo bad option; exit 2", is_ready=never))
    assert failure.value.status == 2


async def test_a_child_that_fails_to_restart_is_tried_again(tmp_path: Path) -> None:
    attempts = 0

    async def prepare() -> None:
        nonlocal attempts
        attempts += 1
        if attempts in {2, 3}:
            raise OSError("disk full")

    async with Supervisor() as supervisor:
        await supervisor.start(spec(tmp_path, "child", "exec sleep 60", prepare=prepare))
        killed = supervisor.kill("child")
        await supervisor.until_ready("child")
        assert supervisor.pid("child") != killed
    assert attempts == 4


async def test_a_stopped_child_stays_down_until_it_is_restarted(tmp_path: Path) -> None:
    async with Supervisor() as supervisor:
        stopped = await supervisor.start(spec(tmp_path, "child", "exec sleep 60"))
        await supervisor.stop("child")
        assert stopped.status == -signal.SIGTERM
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await supervisor.until_ready("child")
        again = await supervisor.restart("child")
        assert again.pid != stopped.pid
        assert again.status is None


async def test_a_child_that_is_held_down_comes_back_at_the_end_of_the_block(tmp_path: Path) -> None:
    async with Supervisor() as supervisor:
        killed = await supervisor.start(spec(tmp_path, "child", "trap '' TERM; while :; do sleep 0.01; done"))
        async with supervisor.down("child") as pid:
            assert pid == killed.pid
            assert killed.status == -signal.SIGKILL
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await supervisor.until_ready("child")
        await asyncio.wait_for(supervisor.until_ready("child"), 10)
        assert supervisor.pid("child") != killed.pid


async def test_a_stop_while_a_restart_is_under_way_leaves_no_process(tmp_path: Path) -> None:
    spawned: list[int] = []
    restarting = asyncio.Event()

    async def is_ready(child: Child) -> bool:
        spawned.append(child.pid)
        if child.pid != spawned[0]:
            restarting.set()
            await asyncio.Event().wait()
        return True

    async with Supervisor() as supervisor:
        await supervisor.start(spec(tmp_path, "child", "exec sleep 60", is_ready=is_ready))
        supervisor.kill("child")
        await restarting.wait()
    for pid in set(spawned):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_name_is_supervised_once(tmp_path: Path) -> None:
    async with Supervisor() as supervisor:
        await supervisor.start(spec(tmp_path, "child", "exec sleep 60"))
        with pytest.raises(ValueError, match="supervised already"):
            await supervisor.start(spec(tmp_path, "child", "exec sleep 60"))


async def test_a_stubborn_child_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    async with Supervisor() as supervisor:
        stubborn = spec(
            tmp_path, "child", "trap '' TERM; sleep 60", stop_steps=((signal.SIGTERM, 0.1), (signal.SIGTERM, 0.1))
        )
        child = await supervisor.start(stubborn)
    assert child.status is not None
