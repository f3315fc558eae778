import base64
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pulse_cli.embedded.errors import DataFolderInUse
from pulse_cli.embedded.folder import DataFolder


def is_running(pid: int) -> bool:
    """Not gone, and no zombie that somebody forgot to reap."""
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and " Z " not in state.read_text()


async def test_the_folder_and_its_secrets_are_readable_by_the_owner_only(tmp_path: Path) -> None:
    async with DataFolder(tmp_path / "data") as folder:
        folder.secrets(nats=["ingest"])
        assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder.path / "secrets.json").stat().st_mode) == 0o600


async def test_a_second_owner_is_told_the_pid_of_the_first(tmp_path: Path) -> None:
    async with DataFolder(tmp_path / "data"):
        with pytest.raises(DataFolderInUse, match=f"in use by process {os.getpid()}") as refusal:
            await DataFolder(tmp_path / "data").__aenter__()
    assert refusal.value.pid == os.getpid()


async def test_a_released_folder_can_be_claimed_again(tmp_path: Path) -> None:
    for _ in range(2):
        async with DataFolder(tmp_path / "data") as folder:
            assert folder.announced() is None


async def test_the_claim_waits_for_the_children_of_a_dead_owner(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    owner = (
        "import fcntl, os, subprocess, sys\n"
        "lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "os.write(lock, str(os.getpid()).encode())\n"
        "child = subprocess.Popen(['sleep', '0.5'], pass_fds=(lock,))\n"
        "print(child.pid)\n"
    )
    argv = [sys.executable, "-W", "ignore", "-c", owner, str(tmp_path / "data" / "lock")]
    child = int(subprocess.run(argv, check=True, capture_output=True).stdout)
    async with DataFolder(tmp_path / "data"):
        assert not is_running(child)


async def test_secrets_are_made_once_and_grow_by_name(tmp_path: Path) -> None:
    async with DataFolder(tmp_path / "data") as folder:
        first = folder.secrets(nats=["ingest"], postgres=["reader"])
        second = folder.secrets(nats=["ingest", "router"])
    assert first.nats["ingest"] == second.nats["ingest"]
    assert first.postgres == second.postgres
    assert first.encryption_key == second.encryption_key
    assert len(base64.b64decode(first.encryption_key)) == 32
    assert {"ingest", "router"} == set(second.nats)


async def test_kept_secrets_are_readable_without_the_claim_but_new_ones_are_not_made(tmp_path: Path) -> None:
    async with DataFolder(tmp_path / "data") as folder:
        made = folder.secrets(nats=["ingest"])
        other = DataFolder(tmp_path / "data")
        assert made == other.secrets(nats=["ingest"])
        with pytest.raises(RuntimeError, match="not claimed"):
            other.secrets(nats=["router"])


async def test_secrets_do_not_appear_in_their_representation(tmp_path: Path) -> None:
    async with DataFolder(tmp_path / "data") as folder:
        made = folder.secrets(nats=["ingest"])
    assert made.nats["ingest"] not in repr(made)
    assert made.encryption_key not in repr(made)


async def test_an_announcement_counts_only_while_its_supervisor_lives(tmp_path: Path) -> None:
    async with DataFolder(tmp_path / "data") as folder:
        folder.announce({"http": "http://127.0.0.1:1"})
        assert {"http": "http://127.0.0.1:1", "supervisor_pid": os.getpid()} == folder.announced()
        dead = subprocess.run(["sh", "-c", "echo $$"], check=True, capture_output=True)  # noqa: S607 - a pid that is gone
        (folder.path / "stack.json").write_text(json.dumps({"supervisor_pid": int(dead.stdout)}))
        assert folder.announced() is None
    assert not (folder.path / "stack.json").exists()
