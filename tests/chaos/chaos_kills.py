"""Processes that are killed: where in their work, which, and how it is proven."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from random import Random
from typing import Final

from chaos_deaths import KILLED
from chaos_site import Strike
from support.pulse import SERVICE_NAMES
from support.waiting import eventually

from pulse_cli.embedded.errors import ChildFailed
from pulse_cli.ledger.facts import NEVER
from pulse_delivery.domain.limits import LaneLimits
from pulse_runtime.events import FAILPOINTS_ARMED

BACK_WITHIN_S: Final = 60.0
_KILLED_WITHIN_S: Final = 60.0
_KILLABLE: Final = ("ingest", "router", "delivery", "nats", "postgres")


async def kill_ingest(strike: Strike) -> None:
    """`kill -9` of ingest before a message is committed, after that but before it is acknowledged, between the row and
    its ack, and around the record of a body that nothing can be made of.

    Devices get no answer and send again: over HTTP with the same id, over MQTT the broker keeps what was not
    acknowledged. `/ready` of ingest does not answer until whoever supervises it has started it again; the router and
    delivery stay ready. The writer's messages of that process come back after 12 s;
    `pulse_ingest_store_duplicates_total` counts those that were stored already.
    """
    await _kill_at(
        strike,
        "ingest",
        "ingest.before_commit",
        "ingest.after_commit",
        "ingest.after_store",
        "ingest.before_quarantine",
        "ingest.after_quarantine",
    )


async def kill_router(strike: Strike) -> None:
    """`kill -9` of the router before and after it publishes what a message matches.

    Nobody outside notices, except that what the process held is delivered 12 s late:
    `pulse_router_oldest_unrouted_age_seconds` shows it. What it had published already is recognised by its ids. Ingest
    and delivery stay ready.
    """
    await _kill_at(strike, "router", "router.before_publish", "router.after_publish")


async def kill_delivery(strike: Strike) -> None:
    """`kill -9` of delivery after an attempt, between its record and its ack, around a shunt and around a dead letter.

    What was attempted and not acknowledged is attempted again after 12 s, with the same `webhook-id`: these are the
    duplicates that at-least-once speaks of. An attempt is acknowledged when its record is durable, so they are what
    that process delivered in its last moments, and at most what it held.
    `pulse_delivery_oldest_undelivered_age_seconds` rises to 12 s and falls. Ingest and the router stay ready.
    """
    await _kill_at(
        strike,
        "delivery",
        "delivery.after_post",
        "delivery.after_record",
        "delivery.before_shunt",
        "delivery.after_shunt",
        "delivery.before_dead_letter",
        "delivery.after_dead_letter",
        "delivery.after_dead_letter_store",
    )


async def random_kills(strike: Strike) -> None:
    """`kill -9` of any process, again and again: services, nats-server and PostgreSQL.

    When ingest or nats-server is among them, devices see connections that break and send again; over HTTP they see 503
    only if nats-server stays away for 8 s. `/ready` of a service that is killed does not answer, that of the others
    comes and goes with what they need.
    """
    until = time.monotonic() + strike.scale.kills_s
    killed: list[str] = []
    for name, pause_s in victims(strike.random):
        await kill(strike, name)
        killed.append(name)
        if time.monotonic() > until:
            break
        await asyncio.sleep(pause_s)
    strike.prove(len(killed) >= 2, f"{len(killed)} processes were killed")
    for name in SERVICE_NAMES:
        if name in killed:
            strike.prove(strike.witness.said(name, "no answer"), f"/ready of {name} did not answer")
    if {"ingest", "nats"} & {*killed}:
        strike.prove(strike.refusals().total() > 0, f"devices were told {dict(strike.refusals())}")


def victims(random: Random) -> Iterator[tuple[str, float]]:
    """Yield for ever what is killed next, and how long there is peace after it."""
    while True:
        yield random.choice(_KILLABLE), random.uniform(0.2, 2.0)


def hits(random: Random, points: tuple[str, ...]) -> list[str]:
    """Return how each point is armed: at a hit that the seed chooses."""
    return [f"{point}=kill:{random.randint(2, 6)}" for point in points]


async def kill(strike: Strike, name: str) -> None:
    """Kill a child of the stack; returns when its successor is ready."""
    stack = strike.pulse.stack
    await asyncio.wait_for(stack.until_ready(name), BACK_WITHIN_S)
    async with _kills(strike, name):
        pid = stack.kill(name)
        await asyncio.wait_for(stack.until_ready(name), BACK_WITHIN_S)
    status = strike.site.deaths.status(pid)
    strike.prove(status == KILLED, f"{name} {pid} ended with status {status}, and {stack.pid(name)} took its place")


async def _kill_at(strike: Strike, service: str, *points: str) -> None:
    """Have a service killed at each point in turn.

    Each start is ours, so that the supervisor's pauses between restarts, which grow, are not waited for.
    """
    async with _kills(strike, service):
        for armed in hits(strike.random, points):
            status = await _start_and_die(strike, service, armed)
            strike.prove(
                status == KILLED and strike.logged(service, FAILPOINTS_ARMED, failpoints=armed),
                f"{service} with {armed} ended with status {status}",
            )
        async with strike.pulse.stack.down(service):
            pass


async def _start_and_die(strike: Strike, service: str, armed: str) -> int | None:
    """Kill a service and start it with a failpoint armed; returns the status with which that one ended."""
    stack, deaths = strike.pulse.stack, strike.site.deaths
    try:
        async with stack.down(service):
            # While it is down: the supervisor may be about to start the one before again, which would take it.
            strike.site.magazines[service].failpoints.append(armed)
    except ChildFailed as failure:  # it was hit before it was ready, which the supervisor does not log
        deaths.note(service, stack.pid(service), failure.status)
        return failure.status
    pid = stack.pid(service)
    await eventually(lambda: deaths.status(pid) is not None, _KILLED_WITHIN_S, what=f"the end of {service} {pid}")
    return deaths.status(pid)


def _kills(strike: Strike, name: str) -> AbstractAsyncContextManager[None]:
    """Note the kills of a child, and what each can leave unacknowledged.

    Of delivery that is what it held, and what its turns had in flight. What nats-server had in hand is not known. Who
    else dies leaves no delivery in hand: what they publish again is recognised by its id.
    """
    in_hand = {"delivery": _held_at_most(strike), "nats": NEVER}.get(name, 0)
    return strike.kills(name, in_hand=in_hand, of_its_own=name == "delivery")


def _held_at_most(strike: Strike) -> float:
    limits = LaneLimits()
    return limits.held_messages + limits.lane_in_flight * len(strike.world.destinations)
