"""Injective encoding of any text into one NATS subject token.

``[A-Za-z0-9_-]`` stays as it is, every other byte of the UTF-8 form becomes ``=XX``, the empty text becomes ``=``:

    sensor-1      sensor-1
    AA:BB         AA=3ABB
    a.b           a=2Eb
    (empty)       =

No token can contain a dot, a wildcard, white space or a control byte, and no two texts share a token.
"""

from typing import Final

_EMPTY: Final = "="
_KEPT: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_TABLE: Final = tuple(chr(byte) if byte in _KEPT else f"={byte:02X}" for byte in range(256))


class InvalidToken(ValueError):
    """A subject token that `encode_token` cannot have made."""


def encode_token(text: str) -> str:
    """Encode *text* into one subject token."""
    if not text:
        return _EMPTY
    return "".join(_TABLE[byte] for byte in text.encode())


def decode_token(token: str) -> str:
    """Return the text that `encode_token` made *token* of; raises `InvalidToken` for anything else."""
    if token == _EMPTY:
        return ""
    try:
        head, *escaped = token.split("=")
        raw = head.encode("ascii") + b"".join(bytes.fromhex(part[:2]) + part[2:].encode("ascii") for part in escaped)
        text = raw.decode()
    except ValueError as exc:
        raise InvalidToken(token) from exc
    if encode_token(text) != token:
        raise InvalidToken(token)
    return text
