import asyncio
from collections.abc import Callable, Sequence
from operator import attrgetter
from pathlib import Path

import pytest
from embedded_program import service, stack

from pulse_cli.embedded.errors import ChildFailed
from pulse_cli.embedded.folder import DataFolder, Secrets
from pulse_cli.embedded.ports import Endpoint
from pulse_cli.embedded.stack import Addresses, EmbeddedStack, ServiceSpec

Below = Callable[[Path], list[int]]
AllGone = Callable[[Sequence[int]], bool]


async def enter(path: Path, entered: asyncio.Event, *services: ServiceSpec) -> None:
    async def prepare(addresses: Addresses, secrets: Secrets) -> None:
        entered.set()

    async with DataFolder(path) as folder, stack(folder, *services, prepare=prepare):
        await asyncio.Event().wait()


def no_variables(addresses: Addresses, secrets: Secrets) -> dict[str, str]:
    return {}


async def cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_preparation_sees_running_servers_and_services_start_after_it(closed_folder: Path) -> None:
    order: list[str] = []

    async def prepare(addresses: Addresses, secrets: Secrets) -> None:
        _, writer = await asyncio.open_connection(addresses.nats.host, addresses.nats.port)
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(addresses.admin["probe"].host, addresses.admin["probe"].port)
        order.append(f"prepared with {sorted(secrets.nats)}")

    async with DataFolder(closed_folder) as folder, stack(folder, service(), prepare=prepare) as running:
        assert running.pid("probe")
        order.append("up")
    assert order == ["prepared with ['admin', 'sys']", "up"]


async def test_it_is_announced_with_its_supervisor_while_it_is_up(closed_folder: Path) -> None:
    async with DataFolder(closed_folder) as folder:
        async with stack(folder, service()) as running:
            announced = folder.announced()
            assert announced is not None
            assert running.addresses.as_announcement().items() <= announced.items()
            assert {"http", "mqtt", "nats", "postgres", "metrics", "nats_monitor", "supervisor_pid"} == set(announced)
        assert folder.announced() is None


async def test_two_run_side_by_side(tmp_path: Path) -> None:
    async def ports(path: Path, both: asyncio.Barrier) -> set[int]:
        async with DataFolder(path) as folder, stack(folder, service()) as running:
            await both.wait()
            there = running.addresses
            endpoints = (there.http, there.mqtt, there.nats, there.nats_monitor, there.postgres, *there.admin.values())
            return {endpoint.port for endpoint in endpoints}

    both = asyncio.Barrier(2)
    first, second = await asyncio.gather(ports(tmp_path / "1", both), ports(tmp_path / "2", both))
    assert len(first | second) == 12


async def test_addresses_stay_across_restarts_of_the_stack(closed_folder: Path) -> None:
    seen: list[Addresses] = []
    for _ in range(2):
        async with DataFolder(closed_folder) as folder, stack(folder, service()) as running:
            seen.append(running.addresses)
    assert seen[0] == seen[1]


@pytest.mark.parametrize("name", ["postgres", "nats", "probe"])
async def test_a_killed_child_comes_back_on_the_same_port(closed_folder: Path, name: str) -> None:
    async with DataFolder(closed_folder) as folder, stack(folder, service()) as running:
        before = running.addresses
        killed = running.kill(name)
        await running.until_ready(name)
        assert running.pid(name) != killed
        assert before == running.addresses


@pytest.mark.parametrize("name", ["postgres", "nats", "probe"])
async def test_a_child_can_be_restarted_in_an_orderly_way(closed_folder: Path, name: str) -> None:
    async with DataFolder(closed_folder) as folder, stack(folder, service()) as running:
        before = running.pid(name)
        await running.restart(name)
        assert running.pid(name) != before


def admin(addresses: Addresses) -> Endpoint:
    return addresses.admin["probe"]


@pytest.mark.parametrize("pick", [attrgetter("postgres"), attrgetter("nats"), attrgetter("mqtt"), admin])
async def test_a_port_that_a_stranger_takes_at_the_last_moment_is_replaced(
    closed_folder: Path, pick: Callable[[Addresses], Endpoint]
) -> None:
    async with DataFolder(closed_folder) as folder:
        starting = stack(folder, service())
        taken = pick(starting.addresses).port

        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", taken), starting:
            assert pick(starting.addresses).port != taken


async def test_a_service_that_dies_at_once_fails_the_start_with_its_log(
    closed_folder: Path, processes_below: Below
) -> None:
    broken = ServiceSpec(name="broken", module="no_such_module", environment=no_variables)
    async with DataFolder(closed_folder) as folder:
        with pytest.raises(ChildFailed, match="No module named no_such_module"):
            await stack(folder, service(), broken).__aenter__()
    assert processes_below(closed_folder) == []


async def test_a_failed_preparation_leaves_no_process(closed_folder: Path, processes_below: Below) -> None:
    async def prepare(addresses: Addresses, secrets: Secrets) -> None:
        raise LookupError("no schema")

    async with DataFolder(closed_folder) as folder:
        with pytest.raises(LookupError, match="no schema"):
            await stack(folder, service(), prepare=prepare).__aenter__()
    assert processes_below(closed_folder) == []


async def test_a_start_cancelled_during_initdb_leaves_no_process(
    closed_folder: Path, processes_below: Below, all_gone: AllGone
) -> None:
    task = asyncio.create_task(enter(closed_folder, asyncio.Event()))
    while not (closed_folder / "postgres" / "data.unfinished" / "base").exists():  # noqa: ASYNC110 - another process tells
        await asyncio.sleep(0)
    await cancelled(task)
    assert all_gone(processes_below(closed_folder))  # the group was killed; a kill takes its moment


async def test_a_start_cancelled_while_a_service_is_not_ready_leaves_no_process(
    closed_folder: Path, processes_below: Below
) -> None:
    task = asyncio.create_task(enter(closed_folder, asyncio.Event(), service(NEVER_READY="1", OF=str(closed_folder))))
    log = closed_folder / "logs" / "probe.log"
    while not log.exists() or "listening" not in log.read_text():  # noqa: ASYNC110 - another process tells
        await asyncio.sleep(0)
    assert len(processes_below(closed_folder)) > 2
    await cancelled(task)
    assert processes_below(closed_folder) == []


async def test_a_second_cancellation_does_not_shorten_the_stop(closed_folder: Path, processes_below: Below) -> None:
    entered = asyncio.Event()
    task = asyncio.create_task(enter(closed_folder, entered))
    await entered.wait()
    task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await cancelled(task)
    assert processes_below(closed_folder) == []


async def test_the_folder_must_be_claimed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="not claimed"):
        await EmbeddedStack(DataFolder(tmp_path), (), nats_users=(), prepare=_unreached).__aenter__()


async def _unreached(addresses: Addresses, secrets: Secrets) -> None:
    raise AssertionError("nothing is up")
