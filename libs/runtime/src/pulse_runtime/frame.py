"""What every service process has around its own work: logging, metrics, health, the watchdog, in one order."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from typing import Final, Self, TypeVar

from pulse_runtime.clock import Clock, SystemClock
from pulse_runtime.collection import collect_now_and_then, collect_seldom
from pulse_runtime.events import SERVICE_STARTED
from pulse_runtime.filelimit import raise_file_limit
from pulse_runtime.health import AdminServer, Health
from pulse_runtime.lifecycle import Lifecycle
from pulse_runtime.logging import configure, get_logger
from pulse_runtime.metrics import CommonMetrics, new_registry
from pulse_runtime.settings import ServiceSettings, masked
from pulse_runtime.spans import OFF, Tracer
from pulse_runtime.watchdog import LoopWatchdog

T = TypeVar("T")

_log = get_logger(__name__)
_MIN_OPEN_FILES: Final = 1024


class Frame:
    """The surroundings of one service. Made by `open`, which registers how each part is undone."""

    def __init__(self, service: str, settings: ServiceSettings, lifecycle: Lifecycle) -> None:
        self.service = service
        self.version = version(f"pulse-{service}")
        self.lifecycle = lifecycle
        self.instance = secrets.token_hex(6)
        """Names this process among its replicas."""
        self.clock: Clock = SystemClock()
        self.registry = new_registry()
        self.metrics = CommonMetrics(self.registry)
        self.health = Health(service=service, version=self.version, clock=self.clock)
        self.watchdog = LoopWatchdog(
            clock=self.clock,
            report=self.metrics.event_loop_lag_seconds.set,
            dump_after_s=settings.blocked_loop_dump_s,
        )
        self.tracer = OFF
        self._settings = settings
        self._is_started = False
        self.health.register("starting", lambda: None if self._is_started else "the service is still starting")

    @classmethod
    async def open(cls, service: str, settings: ServiceSettings, lifecycle: Lifecycle) -> Self:
        """Configure the process and serve its health; raises `StartRefused` for a limit or an address in the way."""
        configure(service, settings.log_level, settings.log_format)
        raise_file_limit(_MIN_OPEN_FILES)
        frame = cls(service, settings, lifecycle)
        frame.metrics.show_build(service=service, version=frame.version)
        admin = AdminServer(frame.health, frame.registry, settings.admin_host, settings.admin_port)
        await admin.start()
        lifecycle.on_stop("admin", admin.stop)
        frame._start_tracing(settings.trace_ratio)
        lifecycle.spawn(f"{service}.draining", frame._show_draining(), essential=False)
        lifecycle.spawn(f"{service}.watchdog", frame.watchdog.run())
        lifecycle.spawn(f"{service}.collection", collect_now_and_then(frame.clock))
        return frame

    def _start_tracing(self, ratio: float) -> None:
        if not ratio:
            return
        # Not before it is needed: the SDK takes memory, and most installations do without.
        from pulse_runtime.span_export import OtlpSink  # noqa: PLC0415 - only where traces are exported

        sink = OtlpSink(self.service, self.version, self.instance)
        self.tracer = Tracer(sink, ratio=ratio)
        self.lifecycle.on_stop("spans", lambda: asyncio.to_thread(sink.close))

    async def enter(self, name: str, context: AbstractAsyncContextManager[T], *, work_s: float | None = None) -> T:
        """Enter *context* and leave it when the process stops, within *work_s* if leaving waits for work."""
        value = await context.__aenter__()

        async def leave() -> None:
            await context.__aexit__(None, None, None)

        self.lifecycle.on_stop(name, leave, work_s)
        return value

    async def run_until_stopped(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Spawn an essential task that is cancelled at its place in the order of stopping, not at the end."""
        await self.enter(name, self._running(name, work))

    @asynccontextmanager
    async def _running(self, name: str, work: Callable[[], Awaitable[None]]) -> AsyncGenerator[None, None]:
        async def body() -> None:
            await work()

        task = self.lifecycle.spawn(f"{self.service}.{name}", body())
        yield
        task.cancel()
        # The next step may close what the task uses: wait for its end.
        await asyncio.wait({task})

    async def _show_draining(self) -> None:
        await self.lifecycle.stopping.wait()
        self.health.draining = True

    def started(self) -> None:
        """Say in the log that everything is connected, and with which settings."""
        self._is_started = True
        collect_seldom()
        _log.info(
            SERVICE_STARTED,
            version=self.version,
            instance=self.instance,
            stops_within_s=self.lifecycle.stop_bound_s,
            settings=masked(self._settings),
        )
