"""docs/operating/nats-cli.md as its test reads it, and the tables that the nats CLI draws."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs/operating/nats-cli.md"
_PROGRAM = "pulse nats "


def questions() -> dict[str, list[str]]:
    """Return the questions of the page, each with its commands, without the program's name."""
    found: dict[str, list[str]] = {}
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        if title.endswith("?"):
            blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
            found[title] = [line.removeprefix(_PROGRAM) for block in blocks for line in block.splitlines()]
    return found


def table(drawn: str) -> dict[str, dict[str, str]]:
    """Return the rows of a table by their first cell, each with its cells by column."""
    lines = [line for line in drawn.splitlines() if line.startswith("│")]
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    # The title of the table is a row of a single cell.
    columns, *others = (row for row in rows if len(row) > 1)
    return {row[0]: dict(zip(columns, row, strict=True)) for row in others}


def number(cell: str) -> int:
    """Return the number of a cell such as ``1,024`` or ``1 / 50%``."""
    return int(cell.partition(" ")[0].replace(",", ""))


def owed(row: dict[str, str]) -> int:
    """Return what a consumer owes, of its row in a report."""
    return number(row["Ack Pending"]) + number(row["Unprocessed"])
