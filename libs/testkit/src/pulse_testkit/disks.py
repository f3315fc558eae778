"""Disks that fail on command: one that is full, one that loses what was not fsynced. Both need root."""

import errno
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from pulse_testkit.faults import CommandFailed, require_root, run

MIB: Final = 1024 * 1024
_BALLAST: Final = "ballast"


class SmallDisk:
    """A tmpfs. Made by `small_disk`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self) -> int:
        """Take all the room there is, as a neighbour on the same disk would; returns the bytes that were free."""
        taken = 0
        with (self.folder / _BALLAST).open("ab", buffering=0) as ballast:
            for size in (MIB, 4096, 1):
                try:
                    while True:
                        taken += ballast.write(bytes(size))
                except OSError as exc:
                    if exc.errno != errno.ENOSPC:
                        raise
        return taken

    def free(self) -> None:
        """Give the room back, if it was taken."""
        (self.folder / _BALLAST).unlink(missing_ok=True)


@asynccontextmanager
async def small_disk(folder: Path, *, size_mib: int) -> AsyncGenerator[SmallDisk, None]:
    """Mount a tmpfs on *folder*, which exists; raises `FaultUnavailable` where that is forbidden."""
    require_root("mounting a tmpfs")
    await run("mount", "-t", "tmpfs", "-o", f"size={size_mib}m,mode=0700", "tmpfs", str(folder))
    try:
        yield SmallDisk(folder)
    finally:
        await _unmount(folder)


class LoopDisk:
    """An ext4 file system in a file. Made by `loop_disk`."""

    def __init__(self, folder: Path, images: Path) -> None:
        self.folder = folder
        self._images = images
        self._number = 0
        self._is_mounted = False

    @property
    def _image(self) -> Path:
        return self._images / f"disk-{self._number}.img"

    async def make(self, size_mib: int) -> None:
        with self._image.open("wb") as file:
            file.truncate(size_mib * MIB)
        await run("mkfs.ext4", "-q", "-F", str(self._image))
        await self._mount()

    async def write_back(self) -> None:
        """Write everything to the disk, as the kernel does by itself with what is older than some 30 s."""
        await run("sync", "--file-system", str(self.folder))

    async def snapshot(self) -> Path:
        """Copy what has reached the disk by now; whoever writes to it should be stopped, so that it is one moment.

        What is only in the kernel's memory, written and not fsynced, is not in the copy: the power is cut here. Dirty
        pages are written back after some 30 s, so what a test wants to lose must be younger.
        """
        taken = self._images / f"disk-{self._number + 1}.img"
        await run("cp", "--sparse=always", str(self._image), str(taken))
        return taken

    async def boot_from(self, taken: Path) -> None:
        """Mount a snapshot in the place of the disk, as after the power came back; nobody may have files open."""
        await _unmount(self.folder)
        self._is_mounted = False
        self._image.unlink()
        self._number += 1
        if self._image != taken:
            raise ValueError(f"{taken} is not the latest snapshot")
        await self._mount()

    async def discard(self) -> None:
        """Unmount it and remove its images."""
        if self._is_mounted:
            await _unmount(self.folder)
        _remove_images(self._images)

    async def _mount(self) -> None:
        # The journal commits every 5 s by default, which would save more than a power cut does at its worst.
        await run("mount", "-o", "loop,commit=300", str(self._image), str(self.folder))
        self._is_mounted = True


@asynccontextmanager
async def loop_disk(folder: Path, images: Path, *, size_mib: int) -> AsyncGenerator[LoopDisk, None]:
    """Mount a new ext4 on *folder*; images are kept in *images*. Both exist.

    Raises `FaultUnavailable` where that is forbidden.
    """
    require_root("mounting a loop image")
    disk = LoopDisk(folder, images)
    try:
        await disk.make(size_mib)
        yield disk
    finally:
        await disk.discard()


def _remove_images(folder: Path) -> None:
    for image in folder.glob("disk-*.img"):
        image.unlink()


async def _unmount(folder: Path) -> None:
    try:
        await run("umount", str(folder))
    except CommandFailed:
        # Somebody still has files open there: the mount goes when he ends.
        with suppress(CommandFailed):
            await run("umount", "--lazy", str(folder))
