"""Where a run takes place: a stack on ordinary ground, on a small disk, or on one whose power can be cut."""

import json
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import Any, Final

from chaos_deaths import Deaths, noting_deaths
from chaos_links import Links, open_links
from chaos_planted import SERVICE, SWITCHES
from chaos_witness import Witness
from chaos_world import World
from support.pulse import SERVICE_NAMES, Pulse, running

from pulse_cli.embedded.folder import Secrets
from pulse_cli.embedded.stack import Addresses, ServiceSpec
from pulse_cli.ledger.facts import NEVER, Fault
from pulse_runtime.failpoints import VARIABLE as FAILPOINTS
from pulse_testkit.disks import LoopDisk, SmallDisk, loop_disk, small_disk

_LOOP_MIB: Final = 256
_SMALL_MIB: Final = 64
_PATIENT_DEVICE_S: Final = 30.0
"""Ingest gives a silent nats-server up two commits of 5 s, and what came meanwhile waits behind them."""
_HERE: Final = Path(__file__).parent


class Ground(StrEnum):
    """On what nats-server keeps its streams."""

    PLAIN = "plain"
    LOOP = "loop"
    SMALL = "small"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How long things last: short for every commit, long as in the name of the cell."""

    name: str
    before: int
    """Acknowledgements before the fault, at least."""
    after: int
    """Acknowledgements after it, at least."""
    kills_s: float
    down_s: float
    frozen_s: float
    backlog_s: float
    """How long PostgreSQL is down."""
    backlog: int
    """Messages that gather meanwhile, at least."""
    hole_s: float
    """How long a link swallows everything."""
    calm: int
    """Acknowledgements after which a healthy destination must be found as quick as before; 0 does not look."""
    settle_s: float
    """T: how long it may take to settle once everything is healed."""


SHORT: Final = Scale(
    name="short",
    before=40,
    after=40,
    kills_s=8,
    down_s=3,
    frozen_s=7,
    backlog_s=4,
    backlog=40,
    hole_s=2,
    calm=0,
    settle_s=90,
)
LONG: Final = Scale(
    name="long",
    before=1000,
    after=200,
    kills_s=60,
    down_s=60,
    frozen_s=20,
    backlog_s=600,
    backlog=6000,
    hole_s=35,
    calm=1000,
    settle_s=300,
)


@dataclass(slots=True)
class Magazine:
    """Failpoints for the coming starts of a service, one a start: a process that one kills is not armed so again."""

    failpoints: deque[str] = field(default_factory=deque[str])
    starts: int = 0

    def environment(self) -> dict[str, str]:
        """Return what the next process gets."""
        self.starts += 1
        return {FAILPOINTS: self.failpoints.popleft()} if self.failpoints else {}


@dataclass(slots=True, kw_only=True)
class Site:
    """A running stack with everything that can be broken about it. Made by `open_site`."""

    pulse: Pulse
    links: Links
    loop: LoopDisk | None
    small: SmallDisk | None
    magazines: Mapping[str, Magazine]
    """By service."""
    deaths: Deaths
    switches: Path
    """A planted bug of the test build is on while a file of its name is in here."""


@dataclass(slots=True, kw_only=True)
class Strike:
    """One fault being made in one world: what the cells work with."""

    site: Site
    world: World
    witness: Witness
    random: Random
    scale: Scale
    proofs: list[str] = field(default_factory=list[str])
    """What shows that the fault happened."""
    _log_bytes: dict[str, int] = field(default_factory=dict[str, int])
    """How long each service's log was when it began."""
    _refused_before: Counter[str] = field(default_factory=Counter[str])

    @property
    def pulse(self) -> Pulse:
        return self.site.pulse

    def begin(self) -> None:
        """Look from now on for the signs of the fault."""
        self.witness.begin()
        self._refused_before = self.world.flood.refusals.copy()
        self._log_bytes = {name: len(self.pulse.log_text(name).encode()) for name in SERVICE_NAMES}

    def logged(self, service: str, event: str, **fields: object) -> list[dict[str, Any]]:
        """Return a service's events since the beginning that have these fields."""
        text = self.pulse.log_text(service).encode()[self._log_bytes[service] :].decode(errors="replace")
        entries = (json.loads(line) for line in text.splitlines() if line.startswith("{") and f'"{event}"' in line)
        return [
            entry
            for entry in entries
            if entry.get("event") == event and all(entry.get(name) == value for name, value in fields.items())
        ]

    def refusals(self) -> Counter[str]:
        """Return what devices were told since the beginning instead of an acknowledgement."""
        return self.world.flood.refusals - self._refused_before

    @asynccontextmanager
    async def fault(self, name: str, *, in_hand: float = NEVER) -> AsyncGenerator[None, None]:
        """Note what is broken within the block, and that it is healed at its end; *in_hand* as in `Fault`."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.world.healed_at = time.monotonic()
            self.world.faults.append(Fault(name=name, began=began, ended=self.world.healed_at, in_hand=in_hand))

    @asynccontextmanager
    async def kills(self, name: str, *, in_hand: float, of_its_own: bool) -> AsyncGenerator[None, None]:
        """Note each kill of a child within the block, and that all is healed at its end.

        *of_its_own*: whether what it has in hand is what it delivered itself.
        """
        began = time.monotonic()
        try:
            yield
        finally:
            ended = self.world.healed_at = time.monotonic()
            self.world.faults += [
                Fault(
                    name=f"kill of {name} {death.pid}",
                    began=death.at,
                    ended=ended,
                    in_hand=in_hand,
                    killed=death.pid if of_its_own else None,
                )
                for death in self.site.deaths.killed(name, began)
            ]

    def prove(self, holds: object, what: str) -> None:
        """Note a proof; fails if it is none."""
        assert holds, f"the fault did not happen: {what}"
        self.proofs.append(what)


@asynccontextmanager
async def open_site(
    path: Path, ground: Ground, *, planted: bool = False, durable: bool = True
) -> AsyncGenerator[Site, None]:
    """Yield a stack below *path*; with *planted* the services are the test build, whose bugs can be switched on.

    Raises `FaultUnavailable` where the ground cannot be had.
    """
    store = path / "stack" / "nats" / "jetstream"
    store.mkdir(parents=True)
    async with AsyncExitStack() as stack:
        loop = small = None
        if ground is Ground.LOOP:
            images = path / "images"
            images.mkdir()
            loop = await stack.enter_async_context(loop_disk(store, images, size_mib=_LOOP_MIB))
        elif ground is Ground.SMALL:
            small = await stack.enter_async_context(small_disk(store, size_mib=_SMALL_MIB))
        deaths = stack.enter_context(noting_deaths())
        links = await stack.enter_async_context(open_links())
        magazines = {name: Magazine() for name in SERVICE_NAMES}
        switches = path / "planted"
        switches.mkdir()

        def edit(service: ServiceSpec) -> ServiceSpec:
            edited = _armed(links.edit(service), magazines[service.name])
            return _test_build(edited, switches) if planted else edited

        only = {"router": {"PULSE_LOG_LEVEL": "debug"}}
        pulse = await stack.enter_async_context(running(path / "stack", only=only, edit=edit, durable=durable))
        pulse.http.timeout = _PATIENT_DEVICE_S
        yield Site(
            pulse=pulse,
            links=links,
            loop=loop,
            small=small,
            magazines=magazines,
            deaths=deaths,
            switches=switches,
        )


def _armed(service: ServiceSpec, magazine: Magazine) -> ServiceSpec:
    def environment(addresses: Addresses, secrets: Secrets) -> dict[str, str]:
        return {**service.environment(addresses, secrets), **magazine.environment()}

    return replace(service, environment=environment)


def _test_build(service: ServiceSpec, switches: Path) -> ServiceSpec:
    def environment(addresses: Addresses, secrets: Secrets) -> dict[str, str]:
        found = service.environment(addresses, secrets)
        return {**found, "PYTHONPATH": str(_HERE), SERVICE: service.module, SWITCHES: str(switches)}

    return replace(service, module="chaos_planted", environment=environment)
