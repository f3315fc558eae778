"""`pulse demo` tells the truth, leaves nothing behind, and minds its own business."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.processes import processes_naming

PULSE = [str(Path(sys.executable).with_name("pulse"))]
KEYS = {
    "accepted", "stored", "quarantined", "matched", "delivered", "waiting", "dead_lettered", "lost", "duplicates",
    "healthy_p50_ms", "healthy_p99_ms", "routes",
}  # fmt: skip
SECONDS = 6

pytestmark = pytest.mark.timeout(150)


async def start_demo(folder: Path, failpoints: str | None = None, seconds: int = SECONDS) -> Process:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PULSE_")}
    if failpoints:
        environment["PULSE_FAILPOINTS"] = failpoints
    folder.mkdir(exist_ok=True)
    return await asyncio.create_subprocess_exec(
        *PULSE, "demo", "--seconds", str(seconds), "--json", cwd=folder, env=environment, stdout=PIPE, stderr=PIPE
    )


async def finish(process: Process) -> tuple[int, dict[str, Any]]:
    out, err = await process.communicate()
    assert out, err.decode()
    assert process.returncode is not None
    return process.returncode, json.loads(out)


def children(pid: int) -> set[int]:
    """All descendants of a process, by /proc."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(entry.parent.name)] = int(fields[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def alive(pids: set[int]) -> set[int]:
    return {pid for pid in pids if Path(f"/proc/{pid}").exists()}


async def until(predicate: Callable[[], bool], timeout_s: float = 30.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not predicate():  # noqa: ASYNC110 - another process's state
            await asyncio.sleep(0.05)


async def test_the_ledger_balances_with_nothing_lost_and_nothing_twice(tmp_path: Path) -> None:
    code, ledger = await finish(await start_demo(tmp_path))
    assert code == 0
    assert set(ledger) == KEYS
    assert (ledger["lost"], ledger["duplicates"], ledger["waiting"]) == (0, 0, 0)
    assert ledger["accepted"] > 40 * SECONDS
    assert 0 < ledger["healthy_p50_ms"] <= ledger["healthy_p99_ms"]
    assert ledger["quarantined"] == 1
    assert ledger["stored"] == ledger["accepted"] - 1
    accounts = {(account["tenant"], account["name"]): account for account in ledger["routes"]}
    for tenant in ("acme", "globex"):
        assert accounts[tenant, "healthy"]["delivered"] == accounts[tenant, "healthy"]["matched"] > 0
        assert accounts[tenant, "slow"]["delivered"] == accounts[tenant, "slow"]["matched"] > 0
        assert accounts[tenant, "dead"]["dead_lettered"] == accounts[tenant, "dead"]["matched"] > 0
        assert 0 < accounts[tenant, "warm"]["matched"] < accounts[tenant, "healthy"]["matched"]
        assert accounts[tenant, "republished"]["delivered"] == accounts[tenant, "healthy"]["matched"]
    assert not list((tmp_path / ".pulse").iterdir())


@pytest.mark.parametrize(
    "bug",
    [
        "ingest.ack_before_commit=on;ingest.before_commit=kill:150",
        "router.swallow_publish_failure=on",
        "delivery.drop_dead_letter=on",
    ],
)
async def test_a_planted_bug_that_loses_messages_ends_the_demo_with_1(tmp_path: Path, bug: str) -> None:
    code, ledger = await finish(await start_demo(tmp_path, bug))
    assert code == 1
    assert ledger["lost"] > 0


async def test_the_crash_alone_that_one_of_these_bugs_needs_loses_nothing(tmp_path: Path) -> None:
    code, ledger = await finish(await start_demo(tmp_path, "ingest.before_commit=kill:150"))
    assert (code, ledger["lost"]) == (0, 0)


async def test_two_demos_side_by_side_do_not_disturb_each_other(tmp_path: Path) -> None:
    pair = [await start_demo(tmp_path / name) for name in ("one", "two")]
    for code, ledger in await asyncio.gather(*(finish(process) for process in pair)):
        assert code == 0
        assert (ledger["lost"], ledger["duplicates"]) == (0, 0)


@pytest.mark.parametrize("started", [1, 2, 5])
async def test_stopped_half_way_through_its_start_it_leaves_no_process(tmp_path: Path, started: int) -> None:
    demo = await start_demo(tmp_path, seconds=60)
    await until(lambda: len(children(demo.pid)) >= started)
    family = children(demo.pid)
    demo.send_signal(signal.SIGTERM)
    await asyncio.wait_for(demo.communicate(), 40)
    await until(lambda: not alive(family))
    assert not processes_naming(tmp_path), "none was born after we looked"


async def test_killed_outright_it_leaves_no_process(tmp_path: Path) -> None:
    demo = await start_demo(tmp_path, seconds=60)
    await until(lambda: len(children(demo.pid)) >= 5)
    family = children(demo.pid)
    demo.kill()
    await demo.communicate()
    await until(lambda: not alive(family))
    await until(lambda: not processes_naming(tmp_path))
