"""The oracle is tested: twelve bugs, each switched on in a test build, each found; and without them nothing is found.

The bug in each scenario is the only difference to the run without it. `discard_old` is planted in a stream's
configuration and `default_fsync` in nats-server's; the others are patches of a service, see chaos_planted.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
from chaos_cells import CELLS
from chaos_plays import (
    Play,
    cut_the_power,
    flood_past_a_stopped_router,
    garbage_is_acknowledged,
    hang_before_all_else,
    just_send,
    kill_delivery,
    kill_ingest,
    kill_ingest_before_its_acks,
    move_behind_its_back,
    redirect,
    shunt_some,
    stop_nats,
    until_swept_twice,
)
from chaos_site import Ground, Site, open_site
from chaos_world import open_world

from pulse_cli.ledger.facts import Books
from pulse_cli.ledger.invariants import examine
from pulse_testkit.faults import FaultUnavailable

pytestmark = [pytest.mark.alone, pytest.mark.timeout(240)]

_SETTLE_S: Final = 30.0
_IMPATIENT: Final[Mapping[str, object]] = {"backoff": {"first_s": 8, "factor": 1, "cap_s": 8}, "max_age_s": 1}
"""Messages grow too old during a pause, so that the sweep finds them and not the next try."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Circumstances under which a bug does harm."""

    bug: str
    broken: frozenset[str]
    """Invariants, one of which at least must be found broken."""
    play: Callable[[Play], Awaitable[None]]
    """What happens while the devices send."""
    first: Callable[[Play], Awaitable[None]] | None = None
    """What happens before they send."""
    hangs_s: float = 2.0
    """How long an attempt at the hanging destination lasts."""
    over_mqtt: bool = False
    """Whether a broker takes part: then a finding may pass, and what is found is what is left at the end."""
    more: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    """Further webhooks."""
    circumstances: tuple[str, ...] = ()
    """Switches of the test build that are no bugs: they are on in the run without the bug as well."""


SCENARIOS: Final = (
    Scenario(
        bug="acknowledged_before_commit",
        play=kill_ingest,
        broken=frozenset({"acknowledged_is_kept"}),
    ),
    Scenario(
        bug="lost_pub_ack_swallowed",
        play=stop_nats,
        broken=frozenset({"acknowledged_is_kept"}),
    ),
    Scenario(
        bug="no_on_conflict", play=kill_ingest_before_its_acks, broken=frozenset({"kept_in_one_place", "stored_once"})
    ),
    Scenario(bug="tenant_filter_dropped", play=just_send, broken=frozenset({"tenants_are_apart"})),
    Scenario(
        bug="redirect_followed",
        play=redirect,
        more={"redirecting": {}},
        broken=frozenset({"addresses_are_current"}),
    ),
    Scenario(
        bug="siding_swept_twice",
        play=until_swept_twice,
        circumstances=("two_sweeps",),
        more={"expiring": {"config": {"url": "http://127.0.0.1:9/"}, "policy": _IMPATIENT}},
        broken=frozenset({"every_match_has_a_fate"}),
    ),
    Scenario(
        bug="dead_letter_after_ack",
        play=kill_delivery,
        broken=frozenset({"every_match_has_a_fate"}),
    ),
    Scenario(
        bug="route_revision_ignored",
        play=move_behind_its_back,
        broken=frozenset({"addresses_are_current"}),
    ),
    Scenario(
        bug="shunt_without_publish",
        first=hang_before_all_else,
        play=shunt_some,
        hangs_s=8.0,
        broken=frozenset({"every_match_has_a_fate"}),
    ),
    Scenario(
        bug="quarantine_dropped",
        play=garbage_is_acknowledged,
        over_mqtt=True,
        broken=frozenset({"acknowledged_is_kept"}),
    ),
    Scenario(
        bug="discard_old",
        play=flood_past_a_stopped_router,
        broken=frozenset({"every_match_has_a_fate"}),
    ),
)


CONTROLS: Final[Mapping[str, str]] = {
    "acknowledged_before_commit": "kill-ingest",
    "lost_pub_ack_swallowed": "nats-down",
    "no_on_conflict": "kill-ingest",
    "tenant_filter_dropped": "kill-router",
    "dead_letter_after_ack": "kill-delivery",
    "shunt_without_publish": "kill-delivery",
    "quarantine_dropped": "kill-ingest",
    "default_fsync": "nats-power-cut",
}
"""Cells that have the circumstances of a bug and not the bug, and in which nothing may be found. The circumstances of
the other bugs no cell has: their scenarios are played without the bug here."""
DEFAULT_FSYNC: Final = Scenario(bug="default_fsync", play=cut_the_power, broken=frozenset({"every_match_has_a_fate"}))


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Site]:
    async with open_site(tmp_path_factory.mktemp("chaos"), Ground.PLAIN, planted=True) as opened:
        yield opened


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.bug)
async def test_a_planted_bug_is_found(site: Site, scenario: Scenario) -> None:
    with _switched_on(site, scenario.bug, *scenario.circumstances):
        assert await _findings(site, scenario, is_planted=True) & scenario.broken


@pytest.mark.parametrize(
    "scenario", [each for each in SCENARIOS if each.bug not in CONTROLS], ids=lambda scenario: scenario.bug
)
async def test_without_its_bug_nothing_is_found(site: Site, scenario: Scenario) -> None:
    with _switched_on(site, *scenario.circumstances):
        assert await _findings(site, scenario, is_planted=False) == set()


@pytest.fixture
async def loop_site(tmp_path: Path) -> AsyncGenerator[Site]:
    try:
        async with open_site(tmp_path, Ground.LOOP, durable=False) as opened:
            yield opened
    except FaultUnavailable as exc:
        pytest.skip(str(exc))


async def test_a_server_that_does_not_fsync_is_found(loop_site: Site) -> None:
    """Where no loop image can be mounted this is skipped, not found."""
    assert await _findings(loop_site, DEFAULT_FSYNC, is_planted=True) & DEFAULT_FSYNC.broken


def test_there_are_twelve_bugs() -> None:
    assert len({scenario.bug for scenario in (*SCENARIOS, DEFAULT_FSYNC)}) == 12


def test_the_controls_are_cells() -> None:
    assert set(CONTROLS.values()) <= {cell.name for cell in CELLS}


async def _findings(site: Site, scenario: Scenario, *, is_planted: bool) -> set[str]:
    """Play the scenario in a world of its own and return the invariants that are found broken."""

    def enough(books: Books) -> bool:
        # With the bug "nothing is wrong" is never enough: only patience ends a run in which it is not found.
        if is_planted:
            return not scenario.over_mqtt and bool(scenario.broken & _broken(books))
        return not examine(books)

    random = Random(scenario.bug)  # noqa: S311 - replayable, not secret
    name = scenario.bug.replace("_", "-")
    async with open_world(
        site.pulse, name, random, over_mqtt=scenario.over_mqtt, hangs_s=scenario.hangs_s, more=scenario.more
    ) as world:
        play = Play(site=site, world=world, is_planted=is_planted)
        if scenario.first:
            await scenario.first(play)
        async with world.flood.running():
            await scenario.play(play)
        settled = await world.settle(_SETTLE_S, enough=enough)
    return _broken(settled.books)


def _broken(books: Books) -> set[str]:
    return {finding.invariant for finding in examine(books)}


@contextmanager
def _switched_on(site: Site, *names: str) -> Generator[None, None, None]:
    """Have the test build do so within the block."""
    switches = [site.switches / name for name in names]
    for switch in switches:
        switch.touch()
    try:
        yield
    finally:
        for switch in switches:
            switch.unlink()
