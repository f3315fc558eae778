"""Everything together: PostgreSQL and nats-server, then what the caller prepares in them, then the services."""

import asyncio
import os
import resource
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Any, Self

from pulse_cli.embedded import probe
from pulse_cli.embedded.database import SUPERUSER
from pulse_cli.embedded.errors import ChildFailed
from pulse_cli.embedded.folder import DataFolder, Secrets
from pulse_cli.embedded.nats import PID_FILE, NatsServer
from pulse_cli.embedded.nats_config import SYSTEM_USER as NATS_SYSTEM_USER
from pulse_cli.embedded.nats_config import NatsConfig, NatsUser
from pulse_cli.embedded.ports import Endpoint, Ports
from pulse_cli.embedded.postgres import PostgresServer
from pulse_cli.embedded.process import Child, Command
from pulse_cli.embedded.supervisor import ChildSpec, Supervisor

_PORT_ATTEMPTS = 5
_OPEN_FILES = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where everything is; all on loopback."""

    http: Endpoint
    mqtt: Endpoint
    nats: Endpoint
    nats_monitor: Endpoint
    postgres: Endpoint
    admin: Mapping[str, Endpoint]
    """By service."""

    @property
    def metrics(self) -> dict[str, str]:
        """The URL of each service's metrics."""
        return {service: endpoint.url("http", "/metrics") for service, endpoint in self.admin.items()}

    def as_announcement(self) -> dict[str, Any]:
        """What users and tools are told; no secrets."""
        return {
            "http": self.http.url("http"),
            "mqtt": self.mqtt.url("mqtt"),
            "nats": self.nats.url("nats"),
            "postgres": self.postgres.url("postgresql"),
            "metrics": self.metrics,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSpec:
    """One service, run as `python -m module`."""

    name: str
    module: str
    environment: Callable[[Addresses, Secrets], Mapping[str, str]]
    """Added to our own environment, of which the `PULSE_` variables are withheld."""
    listens_http: bool = False
    """Whether it is the one that listens on the `http` address."""
    ready_path: str = "/ready"
    """On its admin port."""
    ready_timeout_s: float = 60.0
    stop_timeout_s: float = 30.0


class EmbeddedStack:
    """Up within its `async with` block; the folder must be claimed around it.

    Entering returns when everything is ready, and only then is the stack announced in the folder: the MQTT listener
    keeps nothing before ingest's session exists. However entering or the block ends, nothing is left running.
    """

    def __init__(
        self,
        folder: DataFolder,
        services: Sequence[ServiceSpec],
        *,
        nats_users: Sequence[NatsUser],
        prepare: Callable[[Addresses, Secrets], Awaitable[None]],
        durable: bool = True,
    ) -> None:
        """`prepare` runs when both servers are up, at every start; `durable=False` turns fsync off for tests.

        The users' passwords come from `folder.secrets(nats=names)`; so do those that `prepare` gives to the roles.
        """
        self._folder = folder
        self._services = tuple(services)
        self._nats_users = tuple(nats_users)
        self._prepare = prepare
        self._durable = durable
        self._supervisor = Supervisor()
        self._ports = Ports(folder.ports_file)
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> Self:
        _raise_open_files_limit()
        async with AsyncExitStack() as undo:
            undo.callback(self._ports.close)
            await undo.enter_async_context(self._supervisor)
            undo.callback(self._folder.withdraw)
            await self._start_everything()
            self._exit = undo.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exit.aclose()

    @property
    def addresses(self) -> Addresses:
        hold = self._ports.hold
        return Addresses(
            http=hold("http"),
            mqtt=hold("mqtt"),
            nats=hold("nats"),
            nats_monitor=hold("nats-monitor"),
            postgres=hold("postgres"),
            admin={service.name: hold(_admin_port(service)) for service in self._services},
        )

    @property
    def secrets(self) -> Secrets:
        """The folder's; they include `sys` for NATS and `postgres` for PostgreSQL."""
        return self._folder.secrets(nats=(NATS_SYSTEM_USER,), postgres=(SUPERUSER,))

    def pid(self, name: str) -> int:
        """Of `postgres`, `nats` or a service."""
        return self._supervisor.pid(name)

    def kill(self, name: str) -> int:
        """Kills it as a crash would; it comes back on the same ports. Returns the pid that died."""
        return self._supervisor.kill(name)

    async def restart(self, name: str) -> None:
        """Stops it in an orderly way and starts it again on the same ports; returns once it is ready."""
        await self._supervisor.restart(name)

    async def stop(self, name: str) -> None:
        """Stops it in an orderly way; it stays down until `restart`."""
        await self._supervisor.stop(name)

    def down(self, name: str) -> AbstractAsyncContextManager[int]:
        """Kills it as a crash would and keeps it down within the block; it is ready again when that ends."""
        return self._supervisor.down(name)

    async def until_ready(self, name: str) -> None:
        await self._supervisor.until_ready(name)

    async def _start_everything(self) -> None:
        await _together(
            self._start(self._postgres, ("postgres",)),
            self._start(self._nats, ("nats", "nats-monitor", "mqtt")),
        )
        await self._prepare(self.addresses, self.secrets)
        await _together(*(self._start_service(service) for service in self._services))
        announcement = self.addresses.as_announcement()
        self._folder.announce({**announcement, "nats_monitor": self.addresses.nats_monitor.url("http")})

    async def _start_service(self, service: ServiceSpec) -> None:
        http = ("http",) if service.listens_http else ()
        await self._start(lambda: self._service(service), (_admin_port(service), *http))

    async def _start(self, spec: Callable[[], ChildSpec], ports: Sequence[str]) -> None:
        """Starts a child; if it fails because a stranger listens on one of its ports, it gets another port."""
        for attempt in range(_PORT_ATTEMPTS):
            try:
                await self._supervisor.start(spec())
            except ChildFailed:
                if not self._replace_taken(ports) or attempt == _PORT_ATTEMPTS - 1:
                    raise
            else:
                return

    def _replace_taken(self, ports: Sequence[str]) -> bool:
        taken = [name for name in ports if self._ports.is_taken(name)]
        for name in taken:
            self._ports.replace(name)
        return bool(taken)

    def _postgres(self) -> ChildSpec:
        server = PostgresServer(
            folder=self._folder.postgres,
            log=self._folder.logs / "postgres.log",
            endpoint=self.addresses.postgres,
            superuser_password=self.secrets.postgres[SUPERUSER],
            inherit=(self._folder.lock_handle,),
            durable=self._durable,
        )
        return server.child_spec()

    def _nats(self) -> ChildSpec:
        config = NatsConfig(
            server_name=f"pulse-{self.secrets.instance}",
            client=self.addresses.nats,
            monitor=self.addresses.nats_monitor,
            mqtt=self.addresses.mqtt,
            store=self._folder.nats / "jetstream",
            pid_file=self._folder.nats / PID_FILE,
            system_password=self.secrets.nats[NATS_SYSTEM_USER],
            sync_always=self._durable,
        )
        server = NatsServer(
            folder=self._folder.nats,
            log=self._folder.logs / "nats.log",
            config=config,
            users=self._nats_users,
            inherit=(self._folder.lock_handle,),
        )
        return server.child_spec()

    def _service(self, service: ServiceSpec) -> ChildSpec:
        admin = self._ports.hold(_admin_port(service))

        async def is_ready(_: Child) -> bool:
            return await probe.is_http_ok(admin, service.ready_path)

        return ChildSpec(
            name=service.name,
            prepare=_nothing,
            spawn=lambda: Child.spawn(self._service_command(service)),
            is_ready=is_ready,
            ready_timeout_s=service.ready_timeout_s,
            stop_steps=((signal.SIGTERM, service.stop_timeout_s),),
        )

    def _service_command(self, service: ServiceSpec) -> Command:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PULSE_")}
        return Command(
            name=service.name,
            argv=(sys.executable, "-m", service.module),
            log=self._folder.logs / f"{service.name}.log",
            environment={**ours, **service.environment(self.addresses, self.secrets)},
        )


async def _nothing() -> None:
    """A service needs no preparation beyond `prepare` of the stack."""


async def _together(*starts: Coroutine[Any, Any, None]) -> None:
    """Awaits all. The first failure cancels the others, waits for them and is raised as itself."""
    try:
        async with asyncio.TaskGroup() as group:
            for start in starts:
                group.create_task(start)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


def _admin_port(service: ServiceSpec) -> str:
    return f"admin-{service.name}"


def _raise_open_files_limit() -> None:
    """Each connection is a descriptor; the soft limit of a login shell is 1,024. The children inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < enough:
        resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))
