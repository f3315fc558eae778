"""Options that many commands share."""

from pathlib import Path
from typing import Annotated

import typer


def data_folder(text: str) -> Path:
    """Read the name of a data folder; an empty one would mean the current folder, which nobody wants filled."""
    if not text:
        raise typer.BadParameter("must name a folder")
    return Path(text)


Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        parser=data_folder,
        metavar="FOLDER",
        help="Data folder of an embedded stack; .pulse, unless PULSE_… settings name another.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Tenant = Annotated[str, typer.Option("--tenant", help="Tenant id.")]
