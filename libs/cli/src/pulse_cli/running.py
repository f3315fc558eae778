"""Runs a command: one event loop, errors as sentences, exit codes that mean something."""

import asyncio
import json
import sys
from collections.abc import Coroutine, Mapping
from typing import Any, Final, NoReturn

import typer

from pulse_bus.errors import ApiError, BusError
from pulse_cli.embedded.errors import EmbeddedError
from pulse_cli.target import NoTarget
from pulse_contracts.storing import DataRefused, StorageUnavailable
from pulse_control.errors import ControlRefused, NotFound

FAILED: Final = 1
REFUSED: Final = 2
UNREACHABLE: Final = 3
NOT_FOUND: Final = 4
INTERRUPTED: Final = 130

EXIT_CODES: Final[Mapping[int, str]] = {
    0: "Done. Also `pulse up` after it was asked to stop.",
    FAILED: "Something was lost, or went wrong that should not.",
    REFUSED: "Refused: what was asked for cannot be done as asked, or was not understood.",
    UNREACHABLE: "There is no Pulse to talk to, or it cannot be reached.",
    NOT_FOUND: "There is no such thing.",
    INTERRUPTED: "Interrupted, by Ctrl-C or a request to end.",
}
"""What each means; `pulse nats` ends with the nats CLI's own code once that runs."""


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a command to its end; leaves the process with the code of what went wrong, if something did.

    Logs go to stderr: stdout is for what a command prints.
    """
    configure_logs()
    try:
        asyncio.run(work)
    except NotFound as exc:
        fail(exc, NOT_FOUND)
    except ControlRefused as exc:
        fail(exc, REFUSED)
    except ApiError as exc:
        fail(exc, UNREACHABLE if exc.is_outage else REFUSED)
    except (EmbeddedError, DataRefused) as exc:
        fail(exc, REFUSED)
    except (NoTarget, BusError, StorageUnavailable, OSError, TimeoutError) as exc:
        fail(exc, UNREACHABLE)
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(INTERRUPTED) from None


def configure_logs() -> None:
    """Send warnings to stderr, if anything is loaded that logs."""
    if "structlog" in sys.modules:
        from pulse_runtime.logging import configure  # noqa: PLC0415 - it takes longer to load than many commands run

        configure("cli", "warning")


def fail(error: Exception | str, code: int) -> NoReturn:
    """Say what is wrong on stderr and leave."""
    sys.stderr.write(f"pulse: {str(error) or repr(error)}\n")
    raise typer.Exit(code)


def read_json_option(name: str, text: str | None) -> dict[str, Any] | None:
    """Return the object that an option's JSON is; raises `ControlRefused` naming the option."""
    if text is None:
        return None
    try:
        value = json.loads(text, object_pairs_hook=_without_duplicates)
    except ValueError as exc:
        raise ControlRefused(name, f"is not JSON: {exc}") from exc
    except RecursionError as exc:
        raise ControlRefused(name, "is nested too deeply") from exc
    if not isinstance(value, dict):
        raise ControlRefused(name, "must be a JSON object")
    return value  # pyright: ignore[reportUnknownVariableType] - a JSON object


def _without_duplicates(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse what would silently keep only the last of two members with one name."""
    found = dict(members)
    if len(found) < len(members):
        names = [name for name, _ in members]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} stands twice in one object")
    return found
