"""Secrets at rest: AES-256-GCM, bound to their tenant and route, with the key's id beside them.

A row moved to another tenant or route does not open. Keys come as ``id:base64`` pairs; the first one seals.
"""

import base64
import json
import os
from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pulse_contracts.ids import RouteId, TenantId
from pulse_storage.routes import SealedSecrets

_NONCE_BYTES: Final = 12
_KEY_BYTES: Final = 32


class KeyRingInvalid(ValueError):
    """The key ring cannot be read. Says which entry, never what stands in it."""


class SecretsUnreadable(Exception):
    """The secrets of a route cannot be opened: the key is missing, or the row was tampered with."""


class KeyRing:
    """The keys of an installation, newest first."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._keys = dict(keys)
        self._sealing_key = next(iter(self._keys))

    @classmethod
    def parse(cls, text: str) -> "KeyRing":
        """Read ``id:base64,id:base64``; raises `KeyRingInvalid`."""
        keys: dict[str, bytes] = {}
        for position, entry in enumerate(text.split(","), start=1):
            key_id, _, encoded = entry.strip().partition(":")
            try:
                key = base64.b64decode(encoded, validate=True)
            except ValueError as exc:
                raise KeyRingInvalid(f"key {position} is not id:base64") from exc
            if not key_id or len(key) != _KEY_BYTES:
                raise KeyRingInvalid(f"key {position} is not an id and {_KEY_BYTES} bytes in base64")
            keys[key_id] = key
        return cls(keys)

    def seal(self, tenant: TenantId, route: RouteId, secrets: Mapping[str, object]) -> SealedSecrets:
        """Encrypt a route's secrets with the newest key."""
        nonce = os.urandom(_NONCE_BYTES)
        plain = json.dumps(secrets).encode()
        sealed = AESGCM(self._keys[self._sealing_key]).encrypt(nonce, plain, _bound_to(tenant, route))
        return SealedSecrets(key_id=self._sealing_key, ciphertext=nonce + sealed)

    def open(self, tenant: TenantId, route: RouteId, sealed: SealedSecrets | None) -> dict[str, object]:
        """Return a route's secrets, none if it has none; raises `SecretsUnreadable`."""
        if sealed is None:
            return {}
        key = self._keys.get(sealed.key_id)
        if key is None:
            raise SecretsUnreadable(f"the key ring has no key {sealed.key_id!r}")
        nonce, ciphertext = sealed.ciphertext[:_NONCE_BYTES], sealed.ciphertext[_NONCE_BYTES:]
        try:
            return json.loads(AESGCM(key).decrypt(nonce, ciphertext, _bound_to(tenant, route)))
        except InvalidTag as exc:
            raise SecretsUnreadable("the secrets do not belong to this tenant and route") from exc


def _bound_to(tenant: TenantId, route: RouteId) -> bytes:
    return f"{tenant}\x1f{route}".encode()
