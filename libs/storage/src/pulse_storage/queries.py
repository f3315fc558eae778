"""Statements live in ``sql/``, one a file, where they can be read and explained."""

from functools import cache
from importlib.resources import files


@cache
def sql(name: str) -> str:
    """Return the statement in ``sql/{name}.sql``."""
    return (files("pulse_storage") / "sql" / f"{name}.sql").read_text()
