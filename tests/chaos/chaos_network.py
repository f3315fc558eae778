"""Links between services and servers that break."""

import asyncio
import time
from typing import Final

from chaos_site import Strike
from support.waiting import eventually

_WITHIN_S: Final = 60.0
_DETECTED_AFTER_S: Final = 25.0
"""Two missed pings, 10 s apart, and a little more."""
_NOT_CONNECTED: Final = "not connected to NATS"
_LATE_S: Final = 0.05
_SLICE_BYTES: Final = 100


async def link_cut(strike: Strike) -> None:
    """The network between a service and a server is cut, is slow and in pieces, says goodbye one way only, or swallows
    everything, and heals.

    `/ready` of a service cut off from nats-server says so, and of no other; cut off from PostgreSQL it stays ready. A
    silent loss is noticed after two missed pings, 20 s. All connect again by themselves.
    """
    for service in ("ingest", "delivery"):
        await _cut_from_nats(strike, service)
    for service in ("router", "ingest"):
        await _cut_from_postgres(strike, service)
    await _slow(strike)
    await _half_closed(strike)
    await _black_hole(strike)


async def _cut_from_nats(strike: Strike, service: str) -> None:
    link, witness, since = strike.site.links.between(service, "nats"), strike.witness, time.monotonic()
    broken, accepted = link.broken, link.accepted
    async with strike.fault(f"{service} cut off from nats"):
        link.cut()
        try:
            await eventually(
                lambda: witness.said(service, _NOT_CONNECTED, since=since), _WITHIN_S, what="/ready's complaint"
            )
        finally:
            link.heal()
        await eventually(lambda: link.accepted > accepted, _WITHIN_S, what="a new connection")
    strike.prove(link.broken > broken, f"{link.broken - broken} connections of {service} to nats were reset")
    for other in {"ingest", "router", "delivery"} - {service}:
        said = witness.complaints(other, since=since)
        strike.prove(not said, f"{other} stayed ready when {service} was cut off{said or ''}")


async def _cut_from_postgres(strike: Strike, service: str) -> None:
    link, since = strike.site.links.between(service, "postgres"), time.monotonic()
    broken, accepted = link.broken, link.accepted
    async with strike.fault(f"{service} cut off from postgres", in_hand=0):
        link.cut()
        try:
            await asyncio.sleep(strike.scale.down_s / 4)
        finally:
            link.heal()
        await eventually(lambda: link.accepted > accepted, _WITHIN_S, what="a new connection")
    strike.prove(link.broken > broken, f"{link.broken - broken} connections of {service} to postgres were reset")
    said = strike.witness.complaints(service, since=since)
    strike.prove(not said, f"{service} stayed ready without postgres{said or ''}")


async def _slow(strike: Strike) -> None:
    link, flood = strike.site.links.between("ingest", "nats"), strike.world.flood
    async with strike.fault("a slow link between ingest and nats, in small pieces"):
        link.latency_s, link.slice_bytes = _LATE_S, _SLICE_BYTES
        passed, acked = link.passed_bytes, flood.acked
        try:
            await asyncio.sleep(strike.scale.down_s / 2)
        finally:
            link.heal()
    strike.prove(link.passed_bytes > passed and flood.acked > acked, "devices were acknowledged over a slow link")


async def _half_closed(strike: Strike) -> None:
    link = strike.site.links.between("delivery", "nats")
    accepted = link.accepted
    async with strike.fault("nats says goodbye to delivery"):
        link.half_close()
        await eventually(lambda: link.accepted > accepted, _WITHIN_S, what="a new connection")
    strike.prove(link.accepted > accepted, "delivery connected again after a goodbye one way")


async def _black_hole(strike: Strike) -> None:
    link, witness, since = strike.site.links.between("router", "nats"), strike.witness, time.monotonic()
    async with strike.fault("a black hole between router and nats"):
        accepted = link.accepted
        link.blackhole()
        passed = link.passed_bytes
        try:
            await asyncio.sleep(strike.scale.hole_s)
            strike.prove(link.passed_bytes == passed, "nothing passed between router and nats")
        finally:
            link.heal()
        if strike.scale.hole_s > _DETECTED_AFTER_S:
            await eventually(lambda: link.accepted > accepted, _WITHIN_S, what="a new connection")
            strike.prove(
                witness.said("router", _NOT_CONNECTED, since=since),
                "the router noticed by itself that nothing came any more, and connected again",
            )
