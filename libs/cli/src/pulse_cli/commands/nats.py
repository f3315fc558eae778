"""``pulse nats``: the nats CLI, pointed at this Pulse as its operator."""

import os
import shutil
from typing import Annotated

import typer

from pulse_cli.lazy import command_app
from pulse_cli.options import Data
from pulse_cli.running import REFUSED, UNREACHABLE, fail
from pulse_cli.target import NoTarget, find_target

app = command_app()


# Everything after the command is the nats CLI's.
@app.command("nats", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def nats(
    arguments: Annotated[list[str] | None, typer.Argument(help="What to ask, as in `stream report`.")] = None,
    data: Data = None,
) -> None:
    """Run the nats CLI against this Pulse, logged in as the operator: pulse nats consumer report SIDING.

    It is not part of Pulse: see docs/operating/nats-cli.md for where to get it and what to ask.
    """
    program = shutil.which("nats")
    if program is None:
        fail("the nats CLI is not installed: see docs/operating/nats-cli.md", REFUSED)
    try:
        bus = find_target(data).bus
    except NoTarget as exc:
        fail(exc, UNREACHABLE)
    # The password goes by the environment: arguments are seen by everybody on the machine.
    environment = {**os.environ, "NATS_URL": bus.url, "NATS_USER": bus.user, "NATS_PASSWORD": bus.password}
    os.execve(program, ["nats", f"--inbox-prefix=_INBOX_{bus.service}", *(arguments or [])], environment)  # noqa: S606 - the program that was asked for, no shell
