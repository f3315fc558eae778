"""The disks fail as they say: a full one refuses, and a power cut loses exactly what was not fsynced."""

import errno
import os
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from pulse_testkit.disks import LoopDisk, SmallDisk, loop_disk, small_disk
from pulse_testkit.faults import FaultUnavailable


@pytest.fixture
async def small(tmp_path: Path) -> AsyncGenerator[SmallDisk]:
    try:
        async with small_disk(tmp_path, size_mib=3) as disk:
            yield disk
    except FaultUnavailable as exc:
        pytest.skip(str(exc))


@pytest.fixture
async def loop(tmp_path: Path) -> AsyncGenerator[LoopDisk]:
    folder, images = tmp_path / "disk", tmp_path / "images"
    folder.mkdir()
    images.mkdir()
    try:
        async with loop_disk(folder, images, size_mib=16) as disk:
            yield disk
    except FaultUnavailable as exc:
        pytest.skip(str(exc))


def write(path: Path, text: str, *, synced: bool) -> None:
    with path.open("w") as file:
        file.write(text)
        file.flush()
        if synced:
            os.fsync(file.fileno())


async def test_a_full_disk_refuses_a_byte_until_it_is_freed(small: SmallDisk) -> None:
    assert small.fill() > 2 * 1024 * 1024

    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        write(small.folder / "more", "x" * 5000, synced=True)
    small.free()
    write(small.folder / "more", "x" * 5000, synced=True)


async def test_a_power_cut_loses_what_was_not_fsynced_and_nothing_else(loop: LoopDisk) -> None:
    write(loop.folder / "synced", "kept", synced=True)
    write(loop.folder / "unsynced", "lost", synced=False)

    await loop.boot_from(await loop.snapshot())

    assert (loop.folder / "synced").read_text() == "kept"
    unsynced = loop.folder / "unsynced"
    assert not unsynced.exists() or unsynced.read_text() == ""


async def test_what_was_written_back_before_a_power_cut_is_kept(loop: LoopDisk) -> None:
    write(loop.folder / "unsynced", "kept", synced=False)
    await loop.write_back()

    await loop.boot_from(await loop.snapshot())

    assert (loop.folder / "unsynced").read_text() == "kept"


async def test_a_disk_survives_more_than_one_power_cut(loop: LoopDisk) -> None:
    for turn in ("one", "two"):
        write(loop.folder / turn, turn, synced=True)
        await loop.boot_from(await loop.snapshot())

    assert sorted(path.name for path in loop.folder.iterdir() if path.is_file()) == ["one", "two"]
