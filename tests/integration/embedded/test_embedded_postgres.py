import os
import stat
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from pulse_cli.embedded.errors import CannotDropPrivileges
from pulse_cli.embedded.ports import Ports
from pulse_cli.embedded.postgres import PostgresServer
from pulse_cli.embedded.privileges import walking_capability
from pulse_cli.embedded.supervisor import Supervisor

SETGID, SETUID, DAC_READ_SEARCH, DAC_OVERRIDE = 1 << 6, 1 << 7, 1 << 2, 1 << 1


def owner(path: Path) -> int:
    return path.stat().st_uid


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@asynccontextmanager
async def running(folder: Path, *, durable: bool = False) -> AsyncGenerator[tuple[PostgresServer, Supervisor]]:
    with Ports(folder / "ports.json") as ports:
        server = PostgresServer(
            folder=folder,
            log=folder / "postgres.log",
            endpoint=ports.hold("postgres"),
            superuser_password="pass'word",
            durable=durable,
        )
        async with Supervisor() as supervisor:
            await supervisor.start(server.child_spec())
            yield server, supervisor


async def ask(server: PostgresServer, query: str, *, password: str | None = None) -> object:
    connection = await asyncpg.connect(
        host=server.endpoint.host,
        port=server.endpoint.port,
        user="postgres",
        database="postgres",
        password=password or server.superuser_password,
        ssl=False,
    )
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_it_runs_below_a_folder_that_only_its_owner_may_enter(closed_folder: Path) -> None:
    async with running(closed_folder) as (server, _):
        assert str(await ask(server, "SHOW server_version")).startswith("18.")
        assert await ask(server, "SHOW server_encoding") == "UTF8"
        assert await ask(server, "SELECT datcollate FROM pg_database WHERE datname = 'postgres'") == "C.UTF-8"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to change")
async def test_as_root_only_the_cluster_changes_hands(closed_folder: Path) -> None:
    async with running(closed_folder) as (server, supervisor):
        assert owner(Path(f"/proc/{supervisor.pid('postgres')}")) != 0
        assert owner(server.data) != 0
    assert owner(closed_folder) == 0
    assert mode(closed_folder) == 0o700


async def test_it_is_durable_by_default(closed_folder: Path) -> None:
    async with running(closed_folder, durable=True) as (server, _):
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert await ask(server, f"SHOW {setting}") == "on"


async def test_a_wrong_password_is_refused(closed_folder: Path) -> None:
    async with running(closed_folder) as (server, _):
        with pytest.raises(asyncpg.InvalidPasswordError):
            await ask(server, "SELECT 1", password="guess")


async def test_committed_rows_survive_a_kill_and_the_port_stays(closed_folder: Path) -> None:
    async with running(closed_folder, durable=True) as (server, supervisor):
        await ask(server, "CREATE TABLE kept AS SELECT 42 AS answer")
        killed = supervisor.kill("postgres")
        await supervisor.until_ready("postgres")
        assert supervisor.pid("postgres") != killed
        assert await ask(server, "SELECT answer FROM kept") == 42


async def test_a_stale_lock_file_with_the_pid_of_another_process_does_not_prevent_a_start(closed_folder: Path) -> None:
    async with running(closed_folder) as (server, _):
        await ask(server, "SELECT 1")
        stale = (server.data / "postmaster.pid").read_text().split("\n", 1)[1]
    (server.data / "postmaster.pid").write_text(f"{os.getppid()}\n{stale}")
    async with running(closed_folder) as (server, _):
        assert await ask(server, "SELECT 1") == 1


async def test_an_interrupted_initdb_does_not_prevent_a_start(closed_folder: Path) -> None:
    (closed_folder / "data.unfinished" / "base").mkdir(parents=True)
    async with running(closed_folder) as (server, _):
        assert await ask(server, "SELECT 1") == 1


async def test_a_stop_leaves_no_process(closed_folder: Path, processes_below: Callable[[Path], list[int]]) -> None:
    async with running(closed_folder):
        assert processes_below(closed_folder)
    assert processes_below(closed_folder) == []


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        (SETGID | SETUID | DAC_READ_SEARCH | DAC_OVERRIDE, "dac_read_search"),
        (SETGID | SETUID | DAC_OVERRIDE, "dac_override"),
    ],
)
def test_the_weakest_capability_that_suffices_is_taken(held: int, expected: str) -> None:
    assert expected == walking_capability(held)


@pytest.mark.parametrize("held", [0, DAC_OVERRIDE, SETGID | SETUID])
def test_a_root_without_the_capabilities_is_told_to_run_as_an_ordinary_user(held: int) -> None:
    with pytest.raises(CannotDropPrivileges, match="run as an ordinary user instead"):
        walking_capability(held)
