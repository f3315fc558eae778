"""Who may send what: credentials known by their digests, kept in memory so that ingest outlives the database."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from pulse_contracts.ids import DeviceId, TenantId


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Whom a credential lets in: one device, or with no device a whole tenant (its ingest key)."""

    tenant: TenantId
    device: DeviceId | None

    def may_send_as(self, tenant: TenantId, device: DeviceId) -> bool:
        return self.tenant == tenant and self.device in {None, device}


class Registry:
    """All valid credentials. Looking one up takes the same time whether it exists or not."""

    def __init__(self) -> None:
        self._by_digest: dict[bytes, Principal] = {}
        self._devices: frozenset[tuple[TenantId, DeviceId]] = frozenset()
        self._tenants: frozenset[TenantId] = frozenset()

    def replace(self, credentials: Iterable[tuple[bytes, Principal]]) -> None:
        """Forget the old credentials and take these: revocation is absence."""
        self._by_digest = dict(credentials)
        principals = self._by_digest.values()
        self._devices = frozenset((p.tenant, p.device) for p in principals if p.device is not None)
        self._tenants = frozenset(p.tenant for p in principals)

    def identify(self, token: str) -> Principal | None:
        """Return whom *token* lets in. Tokens are 32 random bytes: a plain digest is enough, and is looked up."""
        return self._by_digest.get(digest(token))

    def knows_device(self, tenant: TenantId, device: DeviceId) -> bool:
        return (tenant, device) in self._devices

    def knows_tenant(self, tenant: TenantId) -> bool:
        return tenant in self._tenants


def digest(token: str) -> bytes:
    """Return what is kept of a token."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
