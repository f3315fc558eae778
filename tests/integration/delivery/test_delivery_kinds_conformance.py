"""What every kind of destination promises delivery: the suite that a new kind must pass."""

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from kinds_rigs import DEADLINE_S, RIGS, Rig, numbered

from pulse_contracts.envelope import Envelope
from pulse_contracts.ids import DeviceId, MessageId, RouteId, TenantId
from pulse_contracts.kinds import installed_kinds
from pulse_contracts.outcome import Delivered, Failed, Rejected
from pulse_contracts.routes import Route, RoutePolicy
from pulse_contracts.subjects import RouteAddress
from pulse_delivery.domain.parcel import Parcel
from pulse_testkit.nats import Bus

ACME = TenantId("acme")
NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
_BACK_WITHIN_S = 15.0
_SLACK_S = 5.0
"""So much less than the deadline that a route has of itself."""
_AGAIN_S = 0.05


def parcel() -> Parcel:
    envelope = Envelope(
        message_id=MessageId("m-1"),
        tenant_id=ACME,
        device_id=DeviceId("d"),
        type="weather",
        topic="tenant/acme/device/d/weather",
        time=NOW,
        received_at=NOW,
        supplied_id=False,
        traceparent=None,
        payload=b'{"t":1.50}',
    )
    address = RouteAddress(kind="any", tenant=ACME, route=RouteId("r-1"))
    return Parcel(address=address, revision=1, routed_at=NOW, attempts=0, answered=0, envelope=envelope)


def route() -> Route:
    return Route(
        route_id=RouteId("r-1"),
        tenant_id=ACME,
        name="r",
        revision=1,
        topic_filter="#",
        payload_filter=None,
        expression=None,
        kind="any",
        config={},
    )


@pytest.fixture(params=list(RIGS))
async def rig(request: pytest.FixtureRequest, bus: Bus) -> AsyncGenerator[Rig]:
    async with RIGS[request.param](bus, route()) as opened:
        await until_delivered(opened, numbered(parcel(), 0))
        yield opened


async def until_delivered(rig: Rig, wanted: Parcel) -> None:
    """Attempt until the destination is there: connecting to it, or to it again, takes a moment."""
    async with asyncio.timeout(_BACK_WITHIN_S):
        while not isinstance(await rig.attempt(wanted), Delivered):  # noqa: ASYNC110 - as the siding would pause
            await asyncio.sleep(_AGAIN_S)


def test_every_kind_that_emits_is_tried_here() -> None:
    assert set(RIGS) == {kind.name for kind in installed_kinds().values() if kind.emits}


async def test_delivered_means_that_the_destination_has_it(rig: Rig) -> None:
    sent = parcel()

    assert isinstance(await rig.attempt(sent), Delivered)
    assert rig.body(sent) in await rig.taken()


async def test_many_at_once_arrive_each_once(rig: Rig) -> None:
    sent = [numbered(parcel(), number) for number in range(1, 41)]
    # A broker that fsyncs each of them may take longer than the deadline of one.
    patient = replace(rig, route=replace(rig.route, policy=RoutePolicy(deadline_s=20)))

    outcomes = await asyncio.gather(*(patient.attempt(each) for each in sent))

    assert all(isinstance(outcome, Delivered) for outcome in outcomes)
    taken = await rig.taken()
    assert [taken.count(rig.body(each)) for each in sent] == [1] * len(sent)


async def test_a_destination_out_of_reach_fails_unanswered_and_is_served_when_it_is_back(rig: Rig) -> None:
    rig.network.cut()
    outcome = await rig.attempt(parcel())
    rig.network.heal()

    assert isinstance(outcome, Failed)
    assert not outcome.answered
    assert outcome.error
    await until_delivered(rig, parcel())
    assert rig.body(parcel()) in await rig.taken()


async def test_a_destination_that_hangs_takes_no_longer_than_the_deadline(rig: Rig) -> None:
    rig.network.blackhole()
    began = time.monotonic()
    outcome = await rig.attempt(parcel())
    took_s = time.monotonic() - began
    rig.network.heal()

    assert isinstance(outcome, Failed)
    assert not outcome.answered
    assert took_s < DEADLINE_S + _SLACK_S
    await until_delivered(rig, numbered(parcel(), 2))


async def test_an_attempt_that_is_cut_off_leaves_the_sender_fit_for_the_next(rig: Rig) -> None:
    rig.network.blackhole()
    attempt = asyncio.create_task(rig.attempt(parcel()), name="test[attempt]")
    await asyncio.wait({attempt}, timeout=DEADLINE_S / 4)
    attempt.cancel()
    await asyncio.wait({attempt})
    rig.network.heal()

    assert attempt.cancelled()
    await until_delivered(rig, numbered(parcel(), 2))


async def test_what_cannot_be_obeyed_is_rejected_for_good(rig: Rig) -> None:
    if rig.unobeyable is None:
        return
    outcome = await rig.sender.attempt(parcel(), replace(rig.route, config=rig.unobeyable), rig.secrets)

    assert isinstance(outcome, Rejected)
    assert outcome.reason
    assert rig.body(parcel()) not in await rig.taken()
