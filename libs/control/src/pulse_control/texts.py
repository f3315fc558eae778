"""What the database cannot keep, refused before it is asked to."""

from collections.abc import Mapping
from math import isfinite
from typing import cast
from uuid import UUID

from pulse_control.errors import ControlRefused


def check_values(field: str, value: object) -> None:
    """Refuse what PostgreSQL's text and jsonb do not hold: NUL, lone surrogates, and numbers that are none.

    Raises `ControlRefused` with the path of the fault below *field*.
    """
    # Not by recursion: JSON may be nested deeper than Python calls.
    left = [(field, value)]
    while left:
        path, item = left.pop()
        if isinstance(item, Mapping):
            members = cast("Mapping[str, object]", item)
            left += [(f"{path}.{name}", member) for name, member in members.items()]
            left += [(path, name) for name in members]
        elif isinstance(item, list):
            items = cast("list[object]", item)
            left += [(f"{path}[{place}]", member) for place, member in enumerate(items)]
        elif isinstance(item, str) and not _is_storable(item):
            raise ControlRefused(path, "must not contain NUL or half of a surrogate pair")
        elif isinstance(item, float) and not isfinite(item):
            raise ControlRefused(path, "must not be NaN, Infinity or beyond a double")


def check_name(field: str, name: str, most_chars: int) -> None:
    """Refuse a name that cannot be shown on one line; raises `ControlRefused`."""
    if not name.strip() or len(name) > most_chars or not name.isprintable():
        raise ControlRefused(field, f"must be 1 to {most_chars} printable characters")


def is_uuid(text: str) -> bool:
    """Tell whether *text* can be read as an id of a route or a message."""
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _is_storable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text
