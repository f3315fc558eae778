"""In an outage, messages that had never been tried kept those from probing that could have found out its end.

Each second one waiting message is picked to be tried. Those that only waited for room in a lane were picked too, and
went back to wait: with hundreds of them an outage was over minutes before anybody noticed. What waited also went to
the destination it had been taken for, although the route was parked or deleted meanwhile.
"""

from collections import defaultdict
from pathlib import Path

import pytest
from support.pulse import Pulse, running
from support.receiver import open_receiver
from support.waiting import eventually

from pulse_testkit.way_out import WayOut

TENANTS, ROUTES_EACH = 2, 4
EACH = 60
"""More than a lane attempts at once: most of them are never tried."""


@pytest.mark.timeout(120)
async def test_the_end_of_an_outage_is_noticed_however_many_were_never_tried(tmp_path: Path) -> None:
    async with (
        open_receiver() as receiver,
        WayOut(receiver.port) as way_out,
        running(tmp_path / "pulse", PULSE_LOG_LEVEL="debug") as pulse,
    ):
        tenants = [await pulse.tenant() for _ in range(TENANTS)]
        names = [f"k{number}" for number in range(ROUTES_EACH)]
        routes = {
            (tenant.tenant_id, name): await tenant.webhook(
                f"http://127.0.0.1:{way_out.port}/{tenant.tenant_id}/{name}",
                name=name,
                topic_filter=f"tenant/+/device/+/{name}",
                policy={"deadline_s": 1},
            )
            for tenant in tenants
            for name in names
        }
        for tenant in tenants:
            await tenant.device()
            await tenant.batch(*(("d1", name, {"n": 0}) for name in names))
        await eventually(lambda: len(receiver.accepted) == len(routes), what="a first message each")

        await way_out.shut()
        sent = defaultdict[tuple[str, str], set[str]](set)
        for tenant in tenants:
            items = names * EACH
            for name, message in zip(
                items, await tenant.batch(*(("d1", name, {"n": 1}) for name in items)), strict=True
            ):
                sent[tenant.tenant_id, name].add(message)
        await eventually(lambda: pulse.log("delivery", "outage_began", kind="webhook"), what="the outage")
        await eventually(lambda: _tried_beside_turns(pulse), until=lambda used: used <= 0, what="no attempts of lanes")
        shunted = await pulse.metric_sum("delivery", "pulse_delivery_shunts_total")
        assert shunted < TENANTS * ROUTES_EACH * EACH / 2, "most of them wait in hand"
        parked, deleted = (tenants[1].tenant_id, "k2"), (tenants[1].tenant_id, "k3")
        await routes[parked].set_enabled(enabled=False)
        await routes[deleted].delete()

        way_out.open()
        await eventually(lambda: pulse.log("delivery", "outage_ended", kind="webhook"), 30, what="the outage's end")
        for address, messages in sent.items():
            if address not in {parked, deleted}:
                path = "/".join(("", *address))
                await eventually(lambda p=path, m=messages: m <= {r.message_id for r in receiver.of(p)}, 30, what=path)
        await eventually(routes[parked].waiting, 20, until=lambda waiting: waiting == EACH, what="the parked messages")
        rows = await eventually(lambda: tenants[1].dead_letters(most=200), 20, until=lambda rows: len(rows) == EACH)
        assert {row.reason for row in rows} == {"route_deleted"}
        assert not sent[parked] & {request.message_id for request in receiver.accepted}
        assert not sent[deleted] & {request.message_id for request in receiver.accepted}


async def _tried_beside_turns(pulse: Pulse) -> float:
    """How many attempts more there are than turns: each of these goes on probing, one at a time, as its pauses end."""
    used = await pulse.metric("delivery", "pulse_delivery_slots_in_use")
    return used - await pulse.metric("delivery", "pulse_delivery_turns_in_use")
