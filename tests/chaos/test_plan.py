"""A seed gives a plan: what is sent, where a process is killed and which one, the same each time."""

from itertools import islice
from random import Random
from typing import cast

import pytest
from chaos_flood import Flood
from chaos_kills import hits, victims
from chaos_series import Series
from support.pulse import Pulse
from support.tenant import Device, Tenant

from pulse_contracts.ids import TenantId

POINTS = tuple(f"service.point_{number}" for number in range(9))


def sent(seed: int) -> list[bytes]:
    """Return the first bodies of two devices."""
    tenant = Tenant(pulse=cast("Pulse", None), tenant_id=TenantId("acme"), key="")
    devices = [Device(tenant=tenant, device_id=name, token="") for name in ("d0", "d1")]
    flood = Flood(devices, [], interval_s=0, random=Random(seed), patience_s=0)  # noqa: S311 - replayable
    return [flood.make(device).body for _ in range(20) for device in devices]


def struck(seed: int) -> list[object]:
    random = Random(seed)  # noqa: S311 - replayable
    return [*hits(random, POINTS), *islice(victims(random), 20)]


@pytest.mark.parametrize("plan", [sent, struck])
def test_a_seed_gives_the_same_plan_and_another_seed_another(plan: object) -> None:
    assert callable(plan)
    assert plan(1) == plan(1)
    assert plan(1) != plan(2)


def test_what_a_counter_grew_by_is_known_across_the_death_of_its_process() -> None:
    series = Series()
    series.note("ingest", 'pulse_x_total{result="ok"} 5\npulse_x_total{result="timeout"} 1')
    series.begin()
    series.note("ingest", 'pulse_x_total{result="ok"} 7\npulse_x_total{result="timeout"} 1')
    series.note("ingest", 'pulse_x_total{result="ok"} 3')
    assert series.risen("ingest", "pulse_x_total") == 2 + 3
    assert series.risen("ingest", 'pulse_x_total{result="timeout"}') == 0
    assert series.risen("router", "pulse_x_total") == 0
    assert series.most("ingest", "pulse_x_total") == 7
