"""What can go wrong between an empty folder and a running stack."""

from pathlib import Path


class EmbeddedError(Exception):
    """The embedded stack cannot do what was asked; the message says what a user can do about it."""


class DataFolderInUse(EmbeddedError):
    """Another stack, or a process left by one, holds the data folder."""

    def __init__(self, path: Path, pid: int | None) -> None:
        self.path = path
        self.pid = pid
        super().__init__(f"data folder {path} is in use by process {pid if pid is not None else 'unknown'}")


class DataFolderUnusable(EmbeddedError):
    """The data folder cannot be made, or not be written to."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path} cannot be a data folder: {reason}")


class CannotDropPrivileges(EmbeddedError):
    """PostgreSQL refuses to run as root, and this root cannot become somebody else."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"cannot run postgresql as root: {reason}; run as an ordinary user instead")


class ChildFailed(EmbeddedError):
    """A child process ended before it was ready, or a one-off command failed."""

    def __init__(self, name: str, *, status: int, log_tail: str) -> None:
        self.name = name
        self.status = status
        self.log_tail = log_tail
        super().__init__(f"{name} ended with status {status}; its log ends with:\n{log_tail}")


class ChildNotReady(EmbeddedError):
    """A child process runs, but did not become ready in time."""

    def __init__(self, name: str, *, timeout_s: float, log_tail: str) -> None:
        self.name = name
        self.timeout_s = timeout_s
        self.log_tail = log_tail
        super().__init__(f"{name} was not ready after {timeout_s:g} s; its log ends with:\n{log_tail}")


class ReloadNotConfirmed(EmbeddedError):
    """nats-server was told to reload but did not report a newer configuration in time."""

    def __init__(self, pid: int, *, timeout_s: float) -> None:
        self.pid = pid
        self.timeout_s = timeout_s
        super().__init__(f"nats-server {pid} did not confirm its reload within {timeout_s:g} s")
