"""A test skips for what the system forbids, and for nothing else."""

import pytest

from pulse_testkit.faults import CommandFailed, FaultUnavailable, program, require_root, run


async def test_a_command_that_fails_is_no_reason_to_skip() -> None:
    with pytest.raises(CommandFailed, match="no such place"):
        await run("ls", "/no such place")


async def test_a_command_that_is_forbidden_is_unavailable() -> None:
    with pytest.raises(FaultUnavailable, match="not permitted"):
        await run("sh", "-c", "echo mount: Operation not permitted; exit 32")


def test_a_program_that_is_not_installed_is_unavailable() -> None:
    with pytest.raises(FaultUnavailable, match="no-such-program"):
        program("no-such-program")


def test_who_is_not_root_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(FaultUnavailable, match="mounting needs root"):
        require_root("mounting")
