"""Keeps the registry of credentials in step with PostgreSQL."""

from pulse_ingest.domain.credentials import Principal, Registry
from pulse_runtime.clock import Clock
from pulse_storage import devices
from pulse_storage.feed import Feed
from pulse_storage.pool import Connection


def credential_feed(dsn: str, registry: Registry, clock: Clock) -> Feed:
    """Return a feed that replaces the registry's contents whenever a device or a tenant changes."""

    async def refresh(connection: Connection) -> None:
        found = await devices.credentials(connection)
        registry.replace(
            (credential.sha256, Principal(tenant=credential.tenant_id, device=credential.device_id))
            for credential in found
        )

    return Feed(dsn, devices.CHANNEL, refresh, service="ingest", clock=clock)
