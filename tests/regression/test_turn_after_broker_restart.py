"""A restart of nats-server takes the siding's consumers, which live in memory; the turns polled on for ever.

Seen: 331 of 400 messages still waited 60 s after the restart, with no consumer to serve them.
"""

from pathlib import Path

import pytest
from support.pulse import running
from support.receiver import open_receiver
from support.waiting import eventually

MESSAGES = 60


@pytest.mark.timeout(120)
async def test_what_waits_in_the_siding_is_delivered_after_nats_server_was_killed(tmp_path: Path) -> None:
    async with open_receiver() as receiver, running(tmp_path / "pulse") as pulse:
        tenant = await pulse.tenant()
        device = await tenant.device()
        await tenant.webhook(receiver.url("/hook"))
        await receiver.close()
        sent = {await device.accepted({"n": number}) for number in range(MESSAGES)}
        await eventually(lambda: pulse.log("delivery", "route_paused"), what="the breaker")

        before = pulse.stack.pid("nats")
        pulse.stack.kill("nats")
        await eventually(lambda: pulse.stack.pid("nats") != before, what="the restart of nats-server")
        await receiver.open()

        await eventually(
            lambda: {request.message_id for request in receiver.of("/hook")} == sent, 45, what="delivery of all"
        )
