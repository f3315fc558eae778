"""The isolation that tests rely on, and the end of the servers, seen from a pytest of its own."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from pulse_bus.siding import Siding
from pulse_testkit.nats import TESTER, Bus
from pulse_testkit.postgres import Database

INTERRUPTED = """
import asyncio, os, signal
from pathlib import Path

async def test_servers_are_up(nats_server, postgres_server):
    pids = (nats_server.supervisor.pid("nats"), postgres_server.supervisor.pid("postgres"))
    Path("pids").write_text(" ".join(map(str, pids)))
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.sleep(60)
"""


@pytest.mark.parametrize("turn", [1, 2])
async def test_each_test_has_empty_streams(bus: Bus, turn: int) -> None:
    tester = await bus.connect(TESTER)
    subject = "siding.webhook.acme.r1"

    assert (await Siding(tester).survey()).waiting == {}
    await tester.request(subject, f"of turn {turn}".encode(), timeout_s=5)
    assert (await Siding(tester).survey()).waiting == {subject: 1}


@pytest.mark.parametrize("turn", [1, 2])
async def test_each_test_has_an_empty_database(database: Database, turn: int) -> None:
    owner = await database.owner()

    assert await owner.fetchval("SELECT count(*) FROM admin_log") == 0
    await owner.execute("INSERT INTO admin_log VALUES ($1, gen_random_uuid(), 'a', 'b', 'c')", f"t{turn}")


async def test_every_role_can_log_in(database: Database) -> None:
    for role in ("pulse_ingest", "pulse_router", "pulse_delivery", "pulse_control"):
        pool = await database.pool(role)
        assert await pool.fetchval("SELECT current_user") == role


async def test_what_was_committed_survives_a_crash_of_the_database(database: Database) -> None:
    owner = await database.owner()
    await owner.execute("CREATE TABLE kept (id int); INSERT INTO kept VALUES (1)")

    database.postgres.kill()
    await database.postgres.until_ready()

    assert await (await database.owner()).fetchval("SELECT id FROM kept") == 1


async def test_no_server_outlives_a_session_that_is_interrupted(tmp_path: Path) -> None:
    (tmp_path / "test_interrupted.py").write_text(INTERRUPTED)
    settings = ("[pytest]", "asyncio_mode = auto", "asyncio_default_fixture_loop_scope = session")
    (tmp_path / "pytest.ini").write_text("\n".join(settings))
    session = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "pytest",
        "-q",
        f"--basetemp={tmp_path / 'base'}",
        cwd=tmp_path,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )

    async with asyncio.timeout(60):
        status = await session.wait()

    assert status == pytest.ExitCode.INTERRUPTED
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        await _ended(pid)


async def _ended(pid: int) -> None:
    """Wait for the end of a process that is not our child."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_reader(handle, lambda: ended.done() or ended.set_result(None))
    try:
        await asyncio.wait_for(ended, 20)
    finally:
        asyncio.get_running_loop().remove_reader(handle)
        os.close(handle)
