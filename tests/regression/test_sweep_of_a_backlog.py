"""A backlog that is too old became dead letters message by message, in two ways.

While its destination was probed, each message was taken, buried and acknowledged before the next: ten a second.

While it paused, what was too old was deleted message by message, two hundred at once, by each of sixteen sweeps.
Each deletion commits, and everybody's requests to nats-server waited behind thousands of them. Of 4,000 messages, on a
quiet machine, it took 1.8 s, and meanwhile each request 74 ms; by purges of two hundred 0.03 s, and 1 ms.
"""

import json
from pathlib import Path

from support.pulse import Pulse, running
from support.tenant import Tenant
from support.waiting import eventually

from pulse_cli.embedded import probe
from pulse_runtime.events import ROUTE_DELIVERY_FAILED_DLQ

BACKLOG = 1000
MAX_AGE_S = 5
REFUSED = "http://127.0.0.1:1"


async def test_a_backlog_that_is_too_old_is_removed_soon_and_by_few_requests(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as pulse:
        tenant = await pulse.tenant()
        await tenant.device()
        await tenant.webhook(REFUSED, policy={"max_age_s": MAX_AGE_S})

        before = await _requests(pulse)
        await tenant.batch(*(("d1", "data", {"n": n}) for n in range(BACKLOG)))
        await eventually(lambda: _all_are_dead(pulse, tenant), MAX_AGE_S + 20, what="a dead letter of each")

        asked = await _requests(pulse) - before
        # A look, a pull and the like are some twenty requests a second.
        assert asked < BACKLOG
        buried = pulse.log("delivery", ROUTE_DELIVERY_FAILED_DLQ, tenant_id=tenant.tenant_id)
        assert len(buried) == BACKLOG


async def _all_are_dead(pulse: Pulse, tenant: Tenant) -> bool:
    rows = await pulse.rows(
        "SELECT reason, count(*) FROM dead_letter_messages WHERE tenant_id = $1 GROUP BY reason", tenant.tenant_id
    )
    return {row["reason"]: row["count"] for row in rows} == {"max_age": BACKLOG}


async def _requests(pulse: Pulse) -> int:
    """How many requests JetStream has answered, of anybody."""
    _, body = await probe.http_get(pulse.stack.addresses.nats_monitor, "/jsz")
    return int(json.loads(body)["api"]["total"])
