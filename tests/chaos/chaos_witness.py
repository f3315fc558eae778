"""What an operator sees while something is broken, and the most that was ever taken of anything with a cap."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from chaos_series import Series
from support.pulse import SERVICE_NAMES, Pulse

from pulse_bus.publisher import MAX_PENDING
from pulse_cli.embedded import probe
from pulse_cli.ledger.facts import Peak
from pulse_contracts.kinds import installed_kinds
from pulse_contracts.topology import STREAMS, consumers
from pulse_delivery.domain.limits import LaneLimits
from pulse_testkit.processes import open_sockets, resident_mib

_LOOK_S: Final = 0.25
_LIMITS: Final = LaneLimits()
_UNCOMMITTED: Final = "pulse_bus_uncommitted_messages"
_GAUGES: Final[Mapping[str, Mapping[str, float]]] = {
    "ingest": {_UNCOMMITTED: MAX_PENDING},
    "router": {_UNCOMMITTED: MAX_PENDING},
    "delivery": {
        _UNCOMMITTED: MAX_PENDING,
        "pulse_delivery_held_messages": _LIMITS.held_messages,
        "pulse_delivery_held_bytes": _LIMITS.held_bytes,
        "pulse_delivery_slots_in_use": _LIMITS.slots,
    },
}
"""By service, with what they come to at most."""
_MEMORY_MIB: Final = 300.0
_NATS_MEMORY_MIB: Final = 500.0
_SOCKETS: Final = 150.0
"""A world has some thirty destinations at once, with at most 16 attempts in flight each; most answer at once."""
_UNREACHABLE: Final = "no answer"
_STREAMS_PATH: Final = "/jsz?accounts=1&streams=1&consumers=1"


def _caps() -> dict[str, float]:
    caps: dict[str, float] = {}
    for service in SERVICE_NAMES:
        caps |= {f"{service}: {gauge}": cap for gauge, cap in _GAUGES[service].items()}
        caps |= {f"{service}: memory in MiB": _MEMORY_MIB, f"{service}: sockets": _SOCKETS}
    caps["nats: memory in MiB"] = _NATS_MEMORY_MIB
    caps |= {f"{stream.name}: bytes": float(stream.max_bytes) for stream in STREAMS}
    emitting = [kind.name for kind in installed_kinds().values() if kind.emits]
    return caps | {f"{spec.name}: unacknowledged": float(spec.max_ack_pending) for spec in consumers(emitting)}


CAPS: Final[Mapping[str, float]] = _caps()


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """A reason that `/ready` gave for not being ready."""

    at: float
    service: str
    reason: str


@dataclass(slots=True)
class Witness:
    """Looks at each service several times a second."""

    pulse: Pulse
    complaining: list[Complaint] = field(default_factory=list[Complaint])
    seen: dict[str, float] = field(default_factory=dict[str, float])
    owed: dict[str, int] = field(default_factory=dict[str, int])
    """What each durable consumer has not acknowledged, pending included, as it was at the latest look."""
    series: Series = field(default_factory=Series)

    def begin(self) -> None:
        """Forget what was said before: it had nothing to do with the fault."""
        self.complaining.clear()
        self.series.begin()

    def peaks(self) -> list[Peak]:
        """Return the most that was seen of everything with a cap."""
        return [Peak(name=name, seen=seen, cap=CAPS[name]) for name, seen in sorted(self.seen.items())]

    def unseen(self) -> list[str]:
        """Return what has a cap and was never looked at."""
        return sorted(CAPS.keys() - self.seen.keys())

    def said(self, service: str, words: str, *, since: float = 0.0) -> bool:
        """Whether `/ready` of a service gave a reason with these words."""
        return any(words in reason for reason in self.complaints(service, since=since))

    def complaints(self, service: str, *, since: float = 0.0) -> list[str]:
        """Return the reasons that `/ready` of a service gave."""
        return sorted({each.reason for each in self.complaining if each.service == service and each.at >= since})

    async def nats_health(self) -> int:
        """Return the status of nats-server's `/healthz`; 0 if it does not answer."""
        status, _ = await probe.http_get(self.pulse.stack.addresses.nats_monitor, "/healthz")
        return status

    async def look(self) -> None:
        await asyncio.gather(*(self._look_at(service) for service in SERVICE_NAMES), self._look_at_nats())

    async def _look_at(self, service: str) -> None:
        endpoint = self.pulse.stack.addresses.admin[service]
        status, body = await probe.http_get(endpoint, "/ready")
        if not status:  # once is what a busy machine does
            status, body = await probe.http_get(endpoint, "/ready")
        now = time.monotonic()
        reasons = _reasons(body) if status else [_UNREACHABLE]
        self.complaining += [Complaint(at=now, service=service, reason=reason) for reason in reasons]
        pid = self.pulse.stack.pid(service)
        self._note(f"{service}: memory in MiB", resident_mib(pid))
        self._note(f"{service}: sockets", open_sockets(pid))
        status, page = await probe.http_get(endpoint, "/metrics")
        if status:
            text = page.decode(errors="replace")
            self.series.note(service, text)
            for gauge in _GAUGES[service]:
                if gauge in text:
                    self._note(f"{service}: {gauge}", self.series.most(service, gauge))

    async def _look_at_nats(self) -> None:
        self._note("nats: memory in MiB", resident_mib(self.pulse.stack.pid("nats")))
        status, body = await probe.http_get(self.pulse.stack.addresses.nats_monitor, _STREAMS_PATH)
        for stream in _streams(body) if status else []:
            self._note(f"{stream['name']}: bytes", stream["state"]["bytes"])
            details: list[dict[str, Any]] = stream.get("consumer_detail") or []
            for consumer in details:
                self._note(f"{consumer['name']}: unacknowledged", consumer["num_ack_pending"])
                self.owed[consumer["name"]] = consumer["num_pending"] + consumer["num_ack_pending"]

    def _note(self, name: str, value: float) -> None:
        if name in CAPS:
            self.seen[name] = max(value, self.seen.get(name, 0.0))


def _reasons(body: bytes) -> list[str]:
    try:
        reasons: dict[str, str] = json.loads(body)["reasons"]
    except ValueError:  # cut off in the middle by its end
        return []
    return [f"{name}: {reason}" for name, reason in reasons.items()]


def _streams(body: bytes) -> list[dict[str, Any]]:
    try:
        accounts: list[dict[str, Any]] = json.loads(body).get("account_details") or []
    except ValueError:
        return []
    found: list[dict[str, Any]] = []
    for account in accounts:
        found += account.get("stream_detail") or []
    return found


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
