"""Is the process alive, is it ready, and what does it have to say about itself: the operators' HTTP server."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Generator, Mapping
from typing import Final, cast

import uvicorn
from prometheus_client import CollectorRegistry, make_asgi_app  # pyright: ignore[reportUnknownVariableType] -- its result is untyped
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from pulse_runtime.clock import Clock, SystemClock
from pulse_runtime.listening import KEEP_ALIVE_S, listen
from pulse_runtime.refusal import StartRefused

DRAINING_REASON: Final = "the service is shutting down"
_STOP_GRACE_S: Final = 1


def _no_details() -> Mapping[str, object]:
    return {}


class Health:
    """Collects the checks of a service; synchronous and cheap, for probes come often."""

    def __init__(self, *, service: str, version: str, clock: Clock | None = None) -> None:
        self.draining = False
        """Set at the beginning of a stop: not ready, though alive."""
        self.details: Callable[[], Mapping[str, object]] = _no_details
        """Adds fields to `/health`; ingest shows `delivery_queue_depth` there."""
        self._service = service
        self._version = version
        self._clock: Clock = SystemClock() if clock is None else clock
        self._started = self._clock.monotonic()
        self._checks: dict[str, Callable[[], str | None]] = {}

    def register(self, name: str, check: Callable[[], str | None]) -> None:
        """Add a condition of readiness; `check` returns None, or a sentence why the service is not ready.

        It must not block: it looks at what the service already knows.
        """
        if name in self._checks:
            raise ValueError(f"a check named {name} is registered already")
        self._checks[name] = check

    def reasons(self) -> dict[str, str]:
        """Why the service is not ready, by name of the check; empty when it is ready."""
        reasons = {"draining": DRAINING_REASON} if self.draining else {}
        for name, check in self._checks.items():
            reason = _judge(check)
            if reason is not None:
                reasons[name] = reason
        return reasons

    def report(self) -> dict[str, object]:
        """The body of `/health`; a failing hook costs its details, not the answer."""
        return {
            **self._details(),
            "status": "ok",
            "service": self._service,
            "version": self._version,
            "uptime_s": round(self._clock.monotonic() - self._started, 3),
        }

    def _details(self) -> dict[str, object]:
        try:
            return dict(self.details())
        except Exception as exc:  # noqa: BLE001 -- a probe must not restart a process over a field of its report
            return {"details_error": type(exc).__name__}


def _judge(check: Callable[[], str | None]) -> str | None:
    try:
        return check()
    except Exception as exc:  # noqa: BLE001 -- a broken check means not ready, and says so
        return f"the check failed with {type(exc).__name__}"


class AdminAddressUnavailable(StartRefused):
    """The address for operators cannot be bound."""

    def __init__(self, *, host: str, port: int, error: OSError) -> None:
        self.host = host
        self.port = port
        super().__init__(f"cannot serve metrics and health on {host} port {port}: {error.strerror or error}")


class AdminServer:
    """Serves one process's health and metrics from its own event loop, so that a stuck loop shows as no answer."""

    def __init__(self, health: Health, registry: CollectorRegistry, host: str, port: int) -> None:
        self._app = _application(health, registry)
        self._host = host
        self._requested_port = port
        self._socket: socket.socket | None = None
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The bound port; differs from the requested one if that was 0. Only after `start`."""
        if self._socket is None:
            raise RuntimeError("the admin server is not started")
        return int(self._socket.getsockname()[1])

    async def start(self) -> None:
        """Bind and accept; a return means that requests are answered. Raises `AdminAddressUnavailable`."""
        self._socket = _bind(self._host, self._requested_port)
        self._server = _Server(self._app)
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]), name="admin.serve")
        accepting = asyncio.create_task(self._server.accepting.wait(), name="admin.accepting")
        try:
            await asyncio.wait({self._task, accepting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            accepting.cancel()
        if self._task.done():
            await self._task

    async def stop(self) -> None:
        """Close the socket and every connection; afterwards no task is left. May be called twice or without `start`."""
        if self._server is None or self._task is None:
            return
        self._server.end()
        await self._task
        self._server = self._task = self._socket = None


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process has an owner for them."""

    def __init__(self, app: ASGIApp) -> None:
        # log_config=None: uvicorn would otherwise install handlers of its own beside ours.
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                timeout_graceful_shutdown=_STOP_GRACE_S,
                timeout_keep_alive=KEEP_ALIVE_S,
            )
        )
        self.accepting = asyncio.Event()
        self._ending = asyncio.Event()

    def end(self) -> None:
        self.should_exit = True
        self._ending.set()

    async def main_loop(self) -> None:
        # uvicorn looks ten times a second whether it shall end; here the tick only renews the Date header.
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._ending.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.accepting.set()


class _MetricsEndpoint:
    """An object, because starlette takes a plain function for a request handler rather than an application."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._app = cast("ASGIApp", make_asgi_app(registry))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def _application(health: Health, registry: CollectorRegistry) -> Starlette:
    async def report(_request: Request) -> JSONResponse:
        return JSONResponse(health.report())

    async def readiness(_request: Request) -> JSONResponse:
        reasons = health.reasons()
        return JSONResponse({"ready": not reasons, "reasons": reasons}, status_code=503 if reasons else 200)

    return Starlette(
        routes=[
            Route("/metrics", _MetricsEndpoint(registry), methods=["GET"]),
            Route("/health", report, methods=["GET"]),
            Route("/ready", readiness, methods=["GET"]),
        ]
    )


def _bind(host: str, port: int) -> socket.socket:
    # Bound here, since uvicorn answers an occupied port with sys.exit from inside the loop.
    try:
        return listen(host, port)
    except OSError as exc:
        raise AdminAddressUnavailable(host=host, port=port, error=exc) from exc
