"""Faults that CI has the time for: the ledger balances after each. `just chaos` plays the others too."""

import re
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from chaos_campaign import play
from chaos_cells import CELLS, Cell
from chaos_site import SHORT, Ground, Site, open_site

from pulse_testkit.faults import FaultUnavailable

pytestmark = [pytest.mark.alone, pytest.mark.timeout(300)]

IN_CI = [cell for cell in CELLS if cell.in_ci]
HERE = Path(__file__).parent
OPERATING = HERE.parents[1] / "docs" / "operating" / "faults.md"
SERVICES = HERE.parents[1] / "services"
SEED = 1
BUDGET_S = 240
TOOK_S: dict[str, float] = {}
"""By cell."""
STARTED_S: dict[str, float] = {}
"""How long the start of a stack took, by ground."""


@pytest.fixture(scope="module", params=list(Ground))
async def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Site]:
    started = time.monotonic()
    try:
        async with open_site(tmp_path_factory.mktemp("chaos"), request.param) as opened:
            STARTED_S[request.param] = time.monotonic() - started
            yield opened
    except FaultUnavailable as exc:
        pytest.skip(str(exc))


def on_their_ground() -> list[object]:
    cases = ((cell.ground, cell) for cell in IN_CI)
    return [pytest.param(ground, cell, id=cell.name) for ground, cell in cases]


@pytest.mark.parametrize(("site", "cell"), on_their_ground(), indirect=["site"], scope="module")
async def test_the_ledger_balances_after(site: Site, cell: Cell) -> None:
    print(f"seed {SEED}")
    report = await play(site, cell, SEED, SHORT)
    TOOK_S[cell.name] = report.took_s
    print(report.line(), *report.proofs, *report.explained, sep="\n")
    assert report.findings == []


def test_the_cells_of_ci_take_no_longer_than_four_minutes() -> None:
    if missing := {cell.name for cell in IN_CI} - TOOK_S.keys():
        pytest.skip(f"not played: {', '.join(sorted(missing))}")
    figures = ", ".join(f"{name} {seconds:.0f}" for name, seconds in TOOK_S.items())
    started = sum(STARTED_S.values())
    print(f"{sum(TOOK_S.values()):.0f} s: {figures}; and {started:.0f} s for the starts of {len(STARTED_S)} stacks")
    assert sum(TOOK_S.values()) < BUDGET_S, figures


def test_there_are_twelve_cells_and_seven_of_them_here() -> None:
    assert [cell.number for cell in CELLS] == list(range(1, 13))
    assert len(IN_CI) == 7


def test_every_kill_point_of_the_services_is_struck() -> None:
    points = {
        name
        for source in SERVICES.rglob("src/**/*.py")
        for name in re.findall(r'failpoints\.hit\("([^"]+)"\)', source.read_text())
    }
    assert points
    cells = (HERE / "chaos_kills.py").read_text()
    assert {point for point in points if f'"{point}"' not in cells} == set()


def test_every_cell_is_explained_to_operators() -> None:
    _, *parts = re.split(r"^## (\d+)\. .*$", OPERATING.read_text(), flags=re.MULTILINE)
    sections = {int(number): " ".join(text.split()) for number, text in zip(parts[::2], parts[1::2], strict=True)}
    for cell in CELLS:
        assert " ".join(cell.story.split()) in sections[cell.number], cell.name
        assert (cell.manual_step or "**Nothing to do.**") in sections[cell.number], cell.name
        assert cell.manual_step is None or "**Nothing to do.**" not in sections[cell.number], cell.name
