"""Splits the body of a batch into its items without judging them: one bad item costs one item."""

import json
import re
from typing import Final

from pulse_ingest.domain.strict_json import JsonRefused

MAX_ITEMS: Final = 1000
# Numbers stay text: converting a long one would cost quadratic time, and the item is parsed strictly afterwards.
_SCANNER: Final = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str, strict=False)
_SPACE: Final = re.compile(r"[ \t\n\r]*")


def split_items(body: bytes) -> list[bytes]:
    """Return the items of a JSON array or of NDJSON; raises `JsonRefused` when it is neither, empty, or too long."""
    text = body.strip()
    items = _of_array(text) if text.startswith(b"[") else [line for line in text.splitlines() if line.strip()]
    if not 0 < len(items) <= MAX_ITEMS:
        raise JsonRefused("batch_invalid", f"must hold 1 to {MAX_ITEMS} items")
    return items


def _of_array(body: bytes) -> list[bytes]:
    # What is not UTF-8 comes out of an item as it went in, for the item's own parser to refuse.
    text = body.decode(errors="surrogateescape")
    items: list[bytes] = []
    at = _past_space(text, 1)
    if text[at : at + 1] == "]":
        return items
    while len(items) <= MAX_ITEMS:
        end = _end_of_value(text, at)
        items.append(text[at:end].encode(errors="surrogateescape"))
        at = _past_space(text, end)
        if text[at : at + 1] == "]":
            if at + 1 < len(text):
                raise JsonRefused("batch_invalid", f"more after the array at character {at + 1}")
            return items
        if text[at : at + 1] != ",":
            raise JsonRefused("batch_invalid", f"not JSON: a comma or the end of the array expected at character {at}")
        at = _past_space(text, at + 1)
    return items


def _end_of_value(text: str, at: int) -> int:
    try:
        _, end = _SCANNER.raw_decode(text, at)
    except json.JSONDecodeError as exc:
        raise JsonRefused("batch_invalid", f"not JSON: {exc.msg.lower()} at character {exc.pos}") from exc
    except RecursionError as exc:
        raise JsonRefused("batch_invalid", f"nested too deep at character {at}") from exc
    return end


def _past_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
