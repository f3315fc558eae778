"""A whole supervising process, ended in every way a process ends."""

import asyncio
import json
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

Start = Callable[..., Any]
Below = Callable[[Path], list[int]]
AllGone = Callable[[Sequence[int]], bool]


def owner(path: Path) -> int:
    return path.stat().st_uid


async def line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(30):
        return (await process.stdout.readline()).decode().strip()


async def until(process: asyncio.subprocess.Process, wanted: Callable[[str], bool]) -> str:
    while not wanted(text := await line(process)):
        assert process.returncode is None
    return text


async def pids(process: asyncio.subprocess.Process) -> dict[str, int]:
    return json.loads(await until(process, lambda text: text.startswith("{")))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_stops_everything(
    closed_folder: Path, program: Start, processes_below: Below, number: signal.Signals
) -> None:
    process = await program(str(closed_folder))
    await pids(process)
    process.send_signal(number)
    assert await process.wait() == 0
    assert processes_below(closed_folder) == []


async def test_a_signal_half_way_through_the_start_leaves_nothing(
    closed_folder: Path, program: Start, processes_below: Below
) -> None:
    process = await program(str(closed_folder), "NEVER_READY")
    await until(process, lambda text: text == "preparing")
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0
    assert processes_below(closed_folder) == []


async def test_a_killed_supervisor_leaves_nothing_and_the_folder_can_be_used_at_once(
    closed_folder: Path, program: Start, processes_below: Below, all_gone: AllGone
) -> None:
    process = await program(str(closed_folder))
    children = [*(await pids(process)).values(), *processes_below(closed_folder)]
    process.kill()
    successor = await program(str(closed_folder))
    await process.wait()
    assert all_gone(children)
    assert not set((await pids(successor)).values()) & set(children)


async def test_a_second_program_is_told_who_has_the_folder(closed_folder: Path, program: Start) -> None:
    first = await program(str(closed_folder))
    await until(first, lambda text: text == "preparing")
    second = await program(str(closed_folder))
    assert await second.wait() == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to lose")
async def test_the_capabilities_of_a_container_suffice(
    closed_folder: Path, program: Start, processes_below: Below
) -> None:
    process = await program(str(closed_folder), prefix=("setpriv", "--bounding-set=-dac_read_search"))
    assert await pids(process)
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0
    assert processes_below(closed_folder) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_an_ordinary_user_needs_no_disguise(tmp_path: Path, program: Start, processes_below: Below) -> None:
    # The capability is for the interpreter and the folder of the test, which may lie below closed folders of root.
    walking = (
        "--securebits=+no_setuid_fixup",
        "--inh-caps=-all,+dac_read_search",
        "--ambient-caps=-all,+dac_read_search",
    )
    prefix = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *walking, "--no-new-privs")
    folder = tmp_path / "of-nobody"
    folder.mkdir(mode=0o700)
    shutil.chown(folder, "nobody", "nogroup")
    process = await program(str(folder), prefix=prefix)
    for pid in (await pids(process)).values():
        assert owner(folder) == owner(Path(f"/proc/{pid}"))
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0
    assert processes_below(folder) == []
