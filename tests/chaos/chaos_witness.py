"""What an operator sees while something is broken, and the most that the services ever took of anything."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from support.pulse import SERVICE_NAMES, Pulse

from pulse_cli.embedded import probe
from pulse_cli.ledger.facts import Peak
from pulse_delivery.domain.limits import LaneLimits
from pulse_testkit.processes import open_sockets, resident_mib

_LOOK_S: Final = 0.25
_LIMITS: Final = LaneLimits()
_GAUGES: Final = {
    "pulse_delivery_held_messages": float(_LIMITS.held_messages),
    "pulse_delivery_slots_in_use": float(_LIMITS.slots),
}
"""Their caps."""
_MEMORY_MIB: Final = 300.0
_SOCKETS: Final = 150.0
"""A world has some thirty destinations at once, with at most 16 attempts in flight each; most answer at once."""
_UNREACHABLE: Final = "no answer"


@dataclass(slots=True)
class Witness:
    """Looks at each service several times a second."""

    pulse: Pulse
    reasons: dict[str, set[str]] = field(default_factory=lambda: {name: set() for name in SERVICE_NAMES})
    """What `/ready` said, by service; without port numbers, which differ from run to run."""
    seen: dict[str, float] = field(default_factory=dict[str, float])

    def peaks(self) -> list[Peak]:
        """Return the most that was seen of everything with a cap."""
        return [Peak(name=name, seen=seen, cap=_cap(name)) for name, seen in sorted(self.seen.items())]

    def said(self, service: str, words: str) -> bool:
        """Whether `/ready` of a service ever gave a reason with these words."""
        return any(words in reason for reason in self.reasons[service])

    def reasons_since_now(self) -> None:
        """Forget what `/ready` said before: it had nothing to do with the fault."""
        for reasons in self.reasons.values():
            reasons.clear()

    async def look(self) -> None:
        await asyncio.gather(*(self._look_at(service) for service in SERVICE_NAMES))

    async def _look_at(self, service: str) -> None:
        endpoint = self.pulse.stack.addresses.admin[service]
        status, body = await probe.http_get(endpoint, "/ready")
        self.reasons[service] |= set(_reasons(body)) if status else {_UNREACHABLE}
        pid = self.pulse.stack.pid(service)
        self._note(f"{service}: memory in MiB", resident_mib(pid))
        self._note(f"{service}: sockets", open_sockets(pid))
        if service == "delivery":
            _, metrics = await probe.http_get(endpoint, "/metrics")
            for line in metrics.decode(errors="replace").splitlines():
                name, _, value = line.partition(" ")
                if name in _GAUGES:
                    self._note(name, float(value))

    def _note(self, name: str, value: float) -> None:
        self.seen[name] = max(value, self.seen.get(name, 0.0))


def _reasons(body: bytes) -> list[str]:
    try:
        reasons: dict[str, str] = json.loads(body)["reasons"]
    except ValueError:  # cut off in the middle by its end
        return []
    return [f"{name}: {reason}" for name, reason in reasons.items()]


def _cap(name: str) -> float:
    return _GAUGES.get(name, _MEMORY_MIB if "memory" in name else _SOCKETS)


@asynccontextmanager
async def watching(pulse: Pulse) -> AsyncGenerator[Witness, None]:
    """Yield a witness that looks until the end of the block."""
    witness = Witness(pulse)

    async def watch() -> None:
        while True:
            await witness.look()
            await asyncio.sleep(_LOOK_S)

    task = asyncio.create_task(watch(), name="chaos.witness")
    try:
        yield witness
    finally:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled() and (failure := task.exception()):
            raise failure
