"""The lines between the services and their servers, each over a proxy of its own, so that one can be cut."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

from support.pulse import SERVICE_NAMES

from pulse_cli.embedded.folder import Secrets
from pulse_cli.embedded.stack import Addresses, ServiceSpec
from pulse_testkit.proxy import TcpProxy

_VARIABLES: Final = {
    "nats": "PULSE_NATS_URL",
    "mqtt": "PULSE_MQTT_PORT",
    "postgres": "PULSE_DATABASE_URL",
}
"""Where a service is told the address of each server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """A proxy for each service and server. Made by `open_links`."""

    proxies: Mapping[tuple[str, str], TcpProxy]

    def between(self, service: str, server: str) -> TcpProxy:
        return self.proxies[service, server]

    def edit(self, service: ServiceSpec) -> ServiceSpec:
        """Return the service with its addresses replaced by those of the proxies, which are aimed at the real ones."""

        def environment(addresses: Addresses, secrets: Secrets) -> dict[str, str]:
            variables = dict(service.environment(addresses, secrets))
            real = {"nats": addresses.nats, "mqtt": addresses.mqtt, "postgres": addresses.postgres}
            for server, variable in _VARIABLES.items():
                proxy = self.between(service.name, server)
                proxy.aim(real[server].port)
                if variable in variables:
                    variables[variable] = variables[variable].replace(str(real[server].port), str(proxy.port))
            return variables

        return replace(service, environment=environment)


@asynccontextmanager
async def open_links() -> AsyncGenerator[Links, None]:
    """Yield links that pass everything on."""
    async with AsyncExitStack() as stack:
        yield Links(
            proxies={
                (service, server): await stack.enter_async_context(TcpProxy())
                for service in SERVICE_NAMES
                for server in _VARIABLES
            }
        )
