"""What commands print: one JSON value, or a table for people."""

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast


def emit(value: object, *, as_json: bool) -> None:
    """Print a value: as one line of JSON, or readably."""
    plain = to_plain(value)
    if as_json:
        sys.stdout.write(json.dumps(plain) + "\n")
        sys.stdout.flush()
    elif isinstance(plain, list):
        _print_table(cast("list[dict[str, Any]]", plain))
    elif isinstance(plain, dict):
        _print_fields(cast("dict[str, Any]", plain))
    else:
        sys.stdout.write(f"{plain}\n")


def to_plain(value: object) -> Any:
    """Return what JSON can say of *value*."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(name): to_plain(member) for name, member in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - JSON
    if isinstance(value, list | tuple | set | frozenset):
        return [to_plain(member) for member in value]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - JSON
    return value


def _print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    from rich.console import Console  # noqa: PLC0415 - only tables need it
    from rich.table import Table  # noqa: PLC0415 - same

    console = Console()
    if not rows:
        console.print("none")
        return
    table = Table(*rows[0].keys())
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    console.print(table)


def _print_fields(fields: Mapping[str, Any]) -> None:
    width = max((len(name) for name in fields), default=0)
    for name, value in fields.items():
        sys.stdout.write(f"{name:<{width}}  {_cell(value)}\n")


def _cell(value: object) -> str:
    if isinstance(value, dict | list):
        return json.dumps(value)
    return "-" if value is None else str(value)
