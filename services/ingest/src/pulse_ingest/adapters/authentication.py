"""Authentication: the registry in memory, and a point query for a credential made this moment."""

import asyncio
from typing import Final

from pulse_contracts.ids import DeviceId, TenantId
from pulse_contracts.storing import StorageUnavailable
from pulse_ingest.domain.credentials import Principal, Registry, digest
from pulse_storage import devices
from pulse_storage.pool import Pool

_QUERY_TIMEOUT_S: Final = 2.0
_MAX_QUERIES: Final = 2
"""So many unknown tokens are looked up at once: guessing tokens must not cost the database more than that."""


class AuthenticationUnavailable(Exception):
    """The token is not known here and the database cannot be asked: neither yes nor no."""


class Authenticator:
    """Answers whom a token lets in."""

    def __init__(self, registry: Registry, pool: Pool) -> None:
        self._registry = registry
        self._pool = pool
        self._queries = asyncio.Semaphore(_MAX_QUERIES)

    async def identify(self, token: str | None) -> Principal | None:
        """Return the principal of *token*, None for a wrong one; raises `AuthenticationUnavailable`."""
        if not token:
            return None
        return self._registry.identify(token) or await self._look_up(digest(token))

    async def knows_device(self, tenant: TenantId, device: DeviceId) -> bool:
        """Whether the tenant has such a device that is not revoked; raises `AuthenticationUnavailable`."""
        if self._registry.knows_device(tenant, device):
            return True
        try:
            async with asyncio.timeout(_QUERY_TIMEOUT_S), self._queries:
                return await devices.is_active(self._pool, tenant, device)
        except (StorageUnavailable, TimeoutError) as exc:
            raise AuthenticationUnavailable("a device that is not known here cannot be checked just now") from exc

    def knows_tenant(self, tenant: TenantId) -> bool:
        return self._registry.knows_tenant(tenant)

    async def _look_up(self, sha256: bytes) -> Principal | None:
        try:
            async with asyncio.timeout(_QUERY_TIMEOUT_S), self._queries:
                found = await devices.find_credential(self._pool, sha256)
        except (StorageUnavailable, TimeoutError) as exc:
            raise AuthenticationUnavailable("a token that is not known here cannot be checked just now") from exc
        return Principal(tenant=found.tenant_id, device=found.device_id) if found else None
