"""Tokens: random, shown once, kept as hashes."""

import hashlib
import secrets
from typing import Final

import bcrypt

_BYTES: Final = 32
_BCRYPT_ROUNDS: Final = 4
"""The least that bcrypt knows: a slow hash protects weak passwords, and these are 32 random bytes."""


def new_token(prefix: str) -> str:
    """Return a token that says what it is: ``dev_…``, ``key_…``."""
    return f"{prefix}_{secrets.token_urlsafe(_BYTES)}"


def sha256_of(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def bcrypt_of(token: str) -> str:
    """Return what nats-server and Mosquitto plugins compare with."""
    return bcrypt.hashpw(token.encode(), bcrypt.gensalt(_BCRYPT_ROUNDS)).decode()
