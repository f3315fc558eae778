"""Servers that are killed, frozen, down, full or without power."""

import asyncio
import time
from typing import Final

from chaos_kills import kill
from chaos_signs import REFUSED
from chaos_site import Site, Strike
from support.waiting import eventually

from pulse_testkit.faults import FaultUnavailable
from pulse_testkit.processes import frozen, injected, is_frozen

TIMED_OUT: Final = 'pulse_bus_published_total{result="timeout"}'
_SEEN_WITHIN_S: Final = 60.0
_SLOW_FSYNC: Final = "fsync:delay_enter=200000"
_SLOW_S: Final = 3.0


async def nats_killed(strike: Strike) -> None:
    """`kill -9` of nats-server, restarted at once.

    All services say so in their log (`nats_error_reported`) and reconnect by themselves. The server forgets the acks of
    about its last second; what it delivers again is recognised by the stores, by the streams and by the memory of
    delivery, except by an MQTT subscriber.
    """
    await kill(strike, "nats")


async def nats_frozen(strike: Strike) -> None:
    """nats-server first has a slow disk, on which each fsync takes 0.2 s, and then stands still with its connections
    open (SIGSTOP).

    A slow disk only delays acknowledgements. While it stands still HTTP devices get 503 with Retry-After after 8 s;
    until then `pulse_bus_uncommitted_messages{stream="TELEMETRY"}` counts them, and
    `pulse_bus_published_total{result="timeout"}` rises. `/ready` may go on saying ready for up to 20 s, until the
    connection's own pings are missed.
    """
    pid = strike.pulse.stack.pid("nats")
    await _slow_disk(strike, pid)
    async with strike.fault("nats frozen"), frozen(pid):
        strike.prove(is_frozen(pid), f"the kernel said that nats-server {pid} was stopped")
        acked = strike.world.flood.acked
        await asyncio.sleep(strike.scale.frozen_s)
        await eventually(strike.refusals, _SEEN_WITHIN_S, what=REFUSED, until=lambda told: told[REFUSED])
        # The first who are refused are under way, and are not counted before their commit has given up as well.
        risen = strike.witness.series.risen
        await eventually(lambda: risen("ingest", TIMED_OUT), _SEEN_WITHIN_S, what=TIMED_OUT)
        # What was on its way at the first moment may still have been answered.
        strike.prove(strike.world.flood.acked - acked < strike.scale.before, "hardly anything was acknowledged")


async def _slow_disk(strike: Strike, pid: int) -> None:
    log = strike.pulse.folder.logs / "nats.strace"
    try:
        async with strike.fault("slow fsync"), injected(pid, _SLOW_FSYNC, log=log) as injection:
            acked = strike.world.flood.acked
            await asyncio.sleep(_SLOW_S)
            strike.prove(injection.count, f"{injection.count} fsyncs of nats-server were slow")
            strike.prove(strike.world.flood.acked > acked, "devices were acknowledged all the same")
    except FaultUnavailable as exc:
        strike.proofs.append(f"without a slow disk: {exc}")


async def nats_down(strike: Strike) -> None:
    """nats-server is down for a minute.

    HTTP devices get 503 with Retry-After after 8 s, in which it may have come back; until then
    `pulse_bus_uncommitted_messages{stream="TELEMETRY"}` counts them. MQTT devices of the embedded broker cannot
    connect. `/ready` of all services says "not connected to NATS". Nothing has to be restarted but nats-server: all
    reconnect by themselves.
    """
    async with strike.fault("nats down"), strike.pulse.stack.down("nats") as pid:
        await asyncio.sleep(strike.scale.down_s / 2)
        acked = strike.world.flood.acked  # what was on its way at the first moment was answered by now
        await asyncio.sleep(strike.scale.down_s / 2)
        await eventually(strike.refusals, _SEEN_WITHIN_S, what=REFUSED, until=lambda told: told[REFUSED])
        strike.prove(strike.world.flood.acked == acked, f"nothing was acknowledged after nats-server {pid} died")


async def nats_power_cut(strike: Strike) -> None:
    """The power fails under nats-server: what it had not fsynced is gone. Then it starts again from the disk.

    As for a kill. With `sync_interval: always` nothing that was acknowledged is lost; without it the streams
    themselves would be.
    """
    assert strike.site.loop
    pid = strike.pulse.stack.pid("nats")
    canary = strike.site.loop.folder / "canary"
    canary.write_text("written and not fsynced")
    async with strike.fault("power cut"):
        await cut_power(strike.site)
    strike.prove(
        strike.pulse.stack.pid("nats") != pid, f"nats-server {pid} was replaced, on the disk as it was at the cut"
    )
    strike.prove(not canary.exists() or not canary.read_text(), "what was not fsynced is gone from the disk")


async def cut_power(site: Site) -> None:
    """Cut the power under nats-server and start it again from what is on the disk."""
    assert site.loop
    stack = site.pulse.stack
    # Killed while it is frozen: what it acknowledged after the snapshot would be no loss of its own.
    async with frozen(stack.pid("nats")):
        taken = await site.loop.snapshot()
        async with stack.down("nats"):
            await site.loop.boot_from(taken)


async def disk_full(strike: Strike) -> None:
    """The disk under nats-server is full, and has room again later.

    HTTP devices get 503 with Retry-After, after 8 s if nats-server says nothing, MQTT devices no
    acknowledgement: full means refuse, and ingest's log says `publish_refused`. nats-server's log says "no space left
    on device" or "insufficient storage", its `/healthz` answers 503, and it goes on refusing after there is room again:
    it has to be restarted.
    """
    assert strike.site.small
    async with strike.fault("disk full"):
        log_bytes = len(strike.pulse.log_text("nats"))
        taken = strike.site.small.fill()
        try:
            await eventually(
                strike.refusals, _SEEN_WITHIN_S, what=f"answers of {REFUSED}", until=lambda told: told[REFUSED]
            )
            seen = await eventually(
                lambda: _out_of_room(strike, log_bytes), _SEEN_WITHIN_S, what="nats-server's trouble"
            )
        finally:
            strike.site.small.free()
        await strike.pulse.stack.restart("nats")
    strike.prove(taken > 0, f"{taken} bytes were taken, devices were refused, and nats-server said {seen}")


async def _out_of_room(strike: Strike, log_bytes: int) -> str:
    log = strike.pulse.log_text("nats")[log_bytes:].lower()
    words = [words for words in ("no space left on device", "insufficient storage") if words in log]
    return ", ".join([*words, *([] if await strike.witness.nats_health() == 200 else ["unhealthy"])]) if words else ""


async def postgres_killed(strike: Strike) -> None:
    """`kill -9` of PostgreSQL, restarted at once.

    Ingest keeps accepting, and all services stay ready, for they can. Ingest's log says `store_failed` until the
    database has recovered.
    """
    await kill(strike, "postgres")


async def postgres_down(strike: Strike) -> None:
    """PostgreSQL is down for ten minutes, and restarted in an orderly way when it is back.

    All services stay ready: ingest keeps accepting, the router and delivery go on with the routes they know. What is
    not stored waits in TELEMETRY: `pulse_ingest_oldest_unstored_age_seconds` shows for how long, and the log says
    `store_failed`. Dead letters wait in DEADLETTER.
    """
    flood, witness = strike.world.flood, strike.witness
    async with strike.fault("postgres down", in_hand=0), strike.pulse.stack.down("postgres") as pid:
        acked, since = flood.acked, time.monotonic()
        await asyncio.sleep(strike.scale.backlog_s)
        enough = acked + strike.scale.backlog
        await eventually(lambda: flood.acked >= enough, _SEEN_WITHIN_S, what="a backlog")
        gathered = await eventually(
            lambda: witness.owed.get("store", 0),
            _SEEN_WITHIN_S,
            what="unstored messages",
            until=lambda n: n > enough - acked,
        )
        seconds = time.monotonic() - since
        strike.prove(gathered, f"{gathered} messages gathered unstored within {seconds:.0f} s of the end of {pid}")
    back = strike.pulse.stack.pid("postgres")
    async with strike.fault("postgres restarted", in_hand=0):
        await strike.pulse.stack.restart("postgres")
    strike.prove(strike.pulse.stack.pid("postgres") != back, f"PostgreSQL {back} was replaced in an orderly way")
