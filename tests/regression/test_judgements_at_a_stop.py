"""A router stopped while judgements gathered for their commit: they were lost, and not even counted."""

import asyncio
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry

from pulse_bus.api import api_request
from pulse_bus.publisher import Publisher
from pulse_contracts.envelope import Envelope
from pulse_contracts.ids import DeviceId, MessageId, TenantId
from pulse_router.adapters.judgements import Judgements
from pulse_runtime.metrics import BusMetrics, RouterMetrics
from pulse_testkit.clock import ManualClock
from pulse_testkit.nats import Bus

ACME = TenantId("acme")
GATHERED_S, LINGER_S = 0.5, 0.1


async def test_what_gathers_for_its_commit_is_on_record_before_the_router_ends(
    bus: Bus, manual_clock: ManualClock
) -> None:
    registry = CollectorRegistry()
    publisher = Publisher(
        await bus.connect("router"), "ATTEMPT", clock=manual_clock, metrics=BusMetrics(registry), linger_s=LINGER_S
    )
    judgements = Judgements(publisher, metrics=RouterMetrics(registry), clock=manual_clock)
    judgements.note(_message(), 1)
    committing, gathering = asyncio.create_task(publisher.run()), asyncio.create_task(judgements.run())
    await manual_clock.until_sleeping(1)
    await manual_clock.advance(GATHERED_S)
    # The committer, for its linger.
    await manual_clock.until_sleeping(1)

    gathering.cancel()
    await asyncio.wait({gathering})
    flushing = asyncio.create_task(judgements.flush())
    await manual_clock.advance(LINGER_S / 2)
    assert not flushing.done(), "the committer may be stopped now"
    await manual_clock.advance(LINGER_S)
    await flushing
    committing.cancel()
    await asyncio.wait({committing})

    assert (await api_request(bus.control, "STREAM.INFO.ATTEMPT"))["state"]["messages"] == 1


def _message() -> Envelope:
    now = datetime(2026, 1, 5, 12, tzinfo=UTC)
    return Envelope(
        message_id=MessageId("m-0"),
        tenant_id=ACME,
        device_id=DeviceId("d"),
        type="t",
        topic="tenant/acme/device/d/t",
        time=now,
        received_at=now,
        supplied_id=False,
        traceparent=None,
        payload=b"{}",
    )
