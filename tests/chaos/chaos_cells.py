"""The cells: each breaks one thing, mends it, and says what an operator sees and has to do meanwhile.

The docstring of what a cell strikes with is its entry in docs/operating/faults.md.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from chaos_kills import kill_delivery, kill_ingest, kill_router, random_kills
from chaos_network import link_cut
from chaos_servers import (
    TIMED_OUT,
    disk_full,
    nats_down,
    nats_frozen,
    nats_killed,
    nats_power_cut,
    postgres_down,
    postgres_killed,
)
from chaos_signs import Signs
from chaos_site import Ground, Strike
from support.pulse import SERVICE_NAMES


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One fault."""

    number: int
    name: str
    strike: Callable[[Strike], Awaitable[None]]
    ground: Ground = Ground.PLAIN
    in_ci: bool = False
    signs: Signs = field(default_factory=Signs)
    manual_step: str | None = None
    """What an operator has to do, where nobody else does it."""

    @property
    def story(self) -> str:
        """What happens, and what an operator sees."""
        return self.strike.__doc__ or ""


_GONE: Final = "no answer"
_ALL: Final = SERVICE_NAMES
_CONNECTION_LOST: Final[Mapping[str, str]] = dict.fromkeys(_ALL, "nats_error_reported")
_DEVICES_WAIT: Final = {"ingest": ('pulse_bus_uncommitted_messages{stream="TELEMETRY"}', 1.0)}
_STORE_FAILED: Final = {"ingest": "store_failed"}

CELLS: Final[Sequence[Cell]] = (
    Cell(
        number=1,
        name="kill-ingest",
        strike=kill_ingest,
        in_ci=True,
        signs=Signs(
            says={"ingest": _GONE},
            stays_ready=("router", "delivery"),
            rises={"ingest": "pulse_ingest_store_duplicates_total"},
        ),
    ),
    Cell(
        number=2,
        name="kill-router",
        strike=kill_router,
        in_ci=True,
        signs=Signs(
            says={"router": _GONE},
            stays_ready=("ingest", "delivery"),
            reaches={"router": ("pulse_router_oldest_unrouted_age_seconds", 5)},
        ),
    ),
    Cell(
        number=3,
        name="kill-delivery",
        strike=kill_delivery,
        in_ci=True,
        signs=Signs(
            says={"delivery": _GONE},
            stays_ready=("ingest", "router"),
            reaches={"delivery": ('pulse_delivery_oldest_undelivered_age_seconds{cause="fast_lane"}', 5)},
        ),
    ),
    Cell(number=4, name="random-kills", strike=random_kills),
    Cell(number=5, name="nats-killed", strike=nats_killed, in_ci=True, signs=Signs(logs=_CONNECTION_LOST)),
    Cell(
        number=6,
        name="nats-frozen",
        strike=nats_frozen,
        signs=Signs(is_refused=True, rises={"ingest": TIMED_OUT}, reaches=_DEVICES_WAIT),
    ),
    Cell(
        number=7,
        name="nats-down",
        strike=nats_down,
        signs=Signs(is_refused=True, says=dict.fromkeys(_ALL, "not connected to NATS"), reaches=_DEVICES_WAIT),
    ),
    Cell(
        number=8,
        name="nats-power-cut",
        strike=nats_power_cut,
        ground=Ground.LOOP,
        in_ci=True,
        signs=Signs(logs=_CONNECTION_LOST),
    ),
    Cell(
        number=9,
        name="disk-full",
        strike=disk_full,
        ground=Ground.SMALL,
        in_ci=True,
        signs=Signs(is_refused=True, logs={"ingest": "publish_refused"}),
        manual_step="Restart nats-server once there is room again.",
    ),
    Cell(
        number=10,
        name="postgres-killed",
        strike=postgres_killed,
        signs=Signs(logs=_STORE_FAILED, stays_ready=_ALL),
    ),
    Cell(
        number=11,
        name="postgres-down",
        strike=postgres_down,
        in_ci=True,
        signs=Signs(
            logs=_STORE_FAILED,
            stays_ready=_ALL,
            reaches={"ingest": ("pulse_ingest_oldest_unstored_age_seconds", 2)},
        ),
    ),
    Cell(number=12, name="link-cut", strike=link_cut, signs=Signs(says={"ingest": "not connected to NATS"})),
)
