"""Further processes of a service beside the stack's own one, which tests kill and freeze."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.pulse import Pulse
from support.waiting import eventually

from pulse_cli.embedded import probe
from pulse_cli.embedded.plan import services
from pulse_cli.embedded.ports import Endpoint, Ports
from pulse_cli.embedded.process import Child, Command
from pulse_runtime.events import SERVICE_STARTED

_READY_S = 30.0
_STOP_S = 15.0
_STATE = 2
"""The field of ``/proc/{pid}/stat`` that says what a process does."""


@dataclass(slots=True, kw_only=True)
class Replica:
    """One more process of a service, with a log, an admin port and, of ingest, an HTTP port of its own."""

    pulse: Pulse = field(repr=False)
    name: str
    """Of its log."""
    child: Child
    admin: Endpoint
    http: Endpoint

    @property
    def owner(self) -> str:
        """How it names itself in the consumers that it makes."""
        return self.pulse.log(self.name, SERVICE_STARTED)[-1]["instance"]

    @property
    def is_frozen(self) -> bool:
        """Whether it stands still: by `freeze`, or by a failpoint of its own."""
        stat = Path(f"/proc/{self.child.pid}/stat").read_text(encoding="ascii")
        return stat.rpartition(")")[2].split()[_STATE - 2] == "T"

    def log(self, event: str, **fields: object) -> list[dict[str, Any]]:
        return self.pulse.log(self.name, event, **fields)

    async def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels."""
        _, body = await probe.http_get(self.admin, "/metrics")
        lines = (line for line in body.decode().splitlines() if line.startswith((f"{name} ", f"{name}{{")))
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    async def kill(self) -> float:
        """Kill it as a crash would; returns the moment, by the monotonic clock."""
        at = time.monotonic()
        self.child.send(signal.SIGKILL)
        await asyncio.wait_for(self.child.wait(), _STOP_S)
        return at

    async def freeze(self) -> float:
        """Have it stand still, with all its connections; returns the moment, by the monotonic clock."""
        at = time.monotonic()
        self.child.send(signal.SIGSTOP)
        await eventually(lambda: self.is_frozen, what=f"{self.name} standing still")
        return at

    def thaw(self) -> None:
        self.child.send(signal.SIGCONT)


@asynccontextmanager
async def replica(pulse: Pulse, name: str, **variables: str) -> AsyncGenerator[Replica, None]:
    """Yield one more process, ready; *name* is its service and what tells it apart, as in ``delivery-2``.

    It has the settings of the stack's own process, *variables* on top, and a client id of its own at the MQTT broker.
    It has ended after the block; nobody restarts it if it ends before.
    """
    service = name.partition("-")[0]
    with Ports() as ports:
        admin, http = ports.hold("admin"), ports.hold("http")
        environment = {
            **_environment(pulse, service),
            "PULSE_ADMIN_PORT": str(admin.port),
            **variables,
        }
        if service == "ingest":
            environment["PULSE_HTTP_PORT"] = str(http.port)
        if "PULSE_MQTT_HOST" in environment:
            environment["PULSE_MQTT_CLIENT_ID"] = f"{environment.get('PULSE_MQTT_CLIENT_ID', 'pulse')}-{name}"
        command = Command(
            name=name,
            argv=(sys.executable, "-m", f"pulse_{service}"),
            log=pulse.folder.logs / f"{name}.log",
            environment=environment,
        )
        made = Replica(pulse=pulse, name=name, child=Child.spawn(command), admin=admin, http=http)
        try:
            await eventually(lambda: _is_ready(made), _READY_S, what=f"readiness of {name}")
            yield made
        finally:
            made.thaw()
            await made.child.stop((signal.SIGTERM, _STOP_S))


async def _is_ready(replica: Replica) -> bool:
    assert replica.child.status is None, f"{replica.name} ended: {replica.pulse.log_text(replica.name)[-2000:]}"
    return await probe.is_http_ok(replica.admin, "/ready")


def _environment(pulse: Pulse, service: str) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PULSE_")}
    [spec] = [spec for spec in services(pulse.variables) if spec.name == service]
    return {**ours, **spec.environment(pulse.stack.addresses, pulse.secrets)}
