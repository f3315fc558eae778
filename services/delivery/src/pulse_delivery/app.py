"""Delivery, put together: what it is made of, and the order in which it starts and stops.

Stopping runs backwards: pulling ends, attempts in flight get their time, turns end, then what they handed over is
committed, then the writers end. Whatever is left stays in the streams.
"""

import asyncio
from collections.abc import Collection, Iterable
from contextlib import suppress
from importlib.metadata import entry_points
from random import random
from typing import cast

from pulse_bus.ages import OldestAges, Owed
from pulse_bus.connection import Connection
from pulse_bus.consumer import PullConsumer
from pulse_bus.notices import TurnNotices
from pulse_bus.presence import Presence
from pulse_bus.publisher import Publisher
from pulse_bus.reaper import Reaper
from pulse_bus.service import open_bus
from pulse_bus.siding import PULL_EXPIRES_S, TURN_ACK_WAIT_S, Siding
from pulse_contracts.kinds import installed_kinds
from pulse_contracts.subjects import ALIVE
from pulse_contracts.topology import (
    ATTEMPT,
    DEAD_LETTER_WRITER,
    DEADLETTER,
    DELIVERY,
    DELIVERY_LOG_WRITER,
    SIDING,
    StreamSpec,
    deliver_consumer,
)
from pulse_delivery.adapters.attempt_spans import AttemptSpans
from pulse_delivery.adapters.attempts import Attempts
from pulse_delivery.adapters.route_book import RouteBook
from pulse_delivery.adapters.settler import Settler
from pulse_delivery.adapters.shunts import Shunts
from pulse_delivery.domain.bodies import Bodies
from pulse_delivery.domain.holding import Holding
from pulse_delivery.domain.lanes import Lanes
from pulse_delivery.domain.limits import LaneLimits
from pulse_delivery.domain.memory import DeliveredMemory
from pulse_delivery.domain.ports import Sender
from pulse_delivery.domain.rates import Rates
from pulse_delivery.domain.room import SidingRoom
from pulse_delivery.domain.roster import Roster, RosterLimits
from pulse_delivery.domain.troubles import Troubles
from pulse_delivery.kinds.context import MqttTarget, OpenSender, SenderContext
from pulse_delivery.lanes.fast_lane import FastLane, Held
from pulse_delivery.lanes.outage import Outage
from pulse_delivery.settings import DeliverySettings
from pulse_delivery.siding.gate import FastLaneGate
from pulse_delivery.siding.keeper import TurnKeeper
from pulse_delivery.siding.places import Places
from pulse_delivery.siding.roll_call import RollCall
from pulse_delivery.siding.stocktaking import Stocktaking
from pulse_delivery.siding.sweep import Sweep
from pulse_delivery.siding.sweeping import Sweeping
from pulse_delivery.siding.tools import TurnTools
from pulse_delivery.writers.dead_letters import dead_letter_writer
from pulse_delivery.writers.delivery_log import delivery_log_writer
from pulse_egress.policy import AddressPolicy
from pulse_runtime.clock import Clock
from pulse_runtime.events import DELIVERY_WORKERS_STOPPED
from pulse_runtime.filelimit import raise_file_limit
from pulse_runtime.frame import Frame
from pulse_runtime.lifecycle import Lifecycle
from pulse_runtime.logging import get_logger
from pulse_runtime.metrics import BusMetrics, DeliveryMetrics
from pulse_runtime.refusal import StartRefused
from pulse_runtime.settings import load_settings
from pulse_storage.delivery_log import prune
from pulse_storage.pool import Pool, open_pool
from pulse_storage.sealing import KeyRing, KeyRingInvalid
from pulse_storage.upkeep import keep_up

_log = get_logger(__name__)
_PREFETCH = 2_000
_PULL_EXPIRES_S = 5.0
"""A process that stands still is sent messages no longer than this: each comes to another only after ``ack_wait``."""
_UNHURRIED_S = 0.1
"""Shunts and attempt records gather this long: their fsyncs must not compete with those of hurried work."""
_FEW_SLOTS = 64
_MIB = 1024 * 1024
_OTHER_FILES = 512
"""Descriptors beside one for each slot: servers, logs, name lookups, connections that are kept for the next attempt."""
SENDERS = "pulse.senders"


async def start(lifecycle: Lifecycle) -> None:
    """Start delivery; returns when it delivers."""
    settings = load_settings(DeliverySettings)
    frame = await Frame.open("delivery", settings, lifecycle)
    clock, health = frame.clock, frame.health
    metrics = DeliveryMetrics(frame.registry)
    limits = _limits(settings, metrics)

    bus = await open_bus(frame, settings)
    dsn = settings.database_url.get_secret_value()
    pool = await frame.enter("pool", open_pool(dsn, service="delivery"))
    written = await _start_writers(frame, bus, pool, metrics, settings.delivery_log_retention_days)
    bus_metrics = BusMetrics(frame.registry)
    siding = await _start_publisher(frame, bus, SIDING, bus_metrics)
    dead_letters = await _start_publisher(frame, bus, DEADLETTER, bus_metrics)
    records = await _start_publisher(frame, bus, ATTEMPT, bus_metrics)

    book = RouteBook(dsn, _key_ring(settings), clock)
    await frame.run_until_stopped("routes", book.feed.run)
    health.register("routes", lambda: None if book.feed.loaded.is_set() else "no routes read yet")

    kinds = {name: kind for name, kind in installed_kinds().items() if kind.emits}
    senders = await _open_senders(frame, bus, settings)
    consumers = _consumers(bus, limits, senders, clock)
    rates = Rates(book.rate_of, clock.monotonic, replicas=settings.delivery_replicas)
    troubles, lanes, room = Troubles(), Lanes[Held](limits, rates), SidingRoom(settings.siding_share)
    settler = Settler(
        shunts=Shunts(siding, room, troubles, metrics=metrics, clock=clock),
        dead_letters=dead_letters,
        attempts=records,
        descriptors=kinds,
        secret_fields=book.secret_fields,
        metrics=metrics,
        clock=clock,
    )
    outage = Outage(clock, metrics)
    attempts = Attempts(senders, DeliveredMemory(), clock, outage.note, AttemptSpans(frame.tracer, clock))
    fast_lane = FastLane(
        consumers,
        lanes=lanes,
        limits=limits,
        troubles=troubles,
        book=book,
        attempts=attempts,
        settler=settler,
        outage=outage,
        metrics=metrics,
        clock=clock,
        lag_s=frame.watchdog.total_lag_s,
    )
    owner = frame.instance
    yard, notices = Siding(bus, owner), TurnNotices(bus, owner)
    gate = FastLaneGate(fast_lane, lanes, troubles, notices, clock, places=Places(max(1, limits.slots // 2)))
    tools = TurnTools(
        siding=yard,
        sweep=Sweep(yard, book, attempts, settler, clock),
        book=book,
        troubles=troubles,
        attempts=attempts,
        outage=outage,
        settler=settler,
        gate=gate,
        bodies=Bodies(limits.turn_bytes),
        metrics=metrics,
        clock=clock,
        random=random,
        stopping=asyncio.Event(),
        open_consumer=lambda name: PullConsumer(
            bus, SIDING.name, name, clock=clock, capacity=1, ack_wait_s=TURN_ACK_WAIT_S, expires_s=PULL_EXPIRES_S
        ),
    )
    presence = Presence(bus, owner, clock, lambda: keeper.serves)
    keeper = TurnKeeper(
        yard,
        troubles,
        book,
        tools,
        gate,
        roster=Roster(owner, RosterLimits(consumers=settings.siding_consumers), lives=presence.lives),
        roll_call=RollCall(yard),
        stocktaking=Stocktaking(yard, room, metrics=metrics, random=random),
        metrics=metrics,
        clock=clock,
    )

    await book.feed.loaded.wait()
    await keeper.look_first()
    await _start_presence(frame, presence)
    await _start_reapers(frame, bus, senders, (*consumers.values(), *written))
    await frame.run_until_stopped("ages", _ages(bus, senders, metrics, clock).run)
    for consumer in consumers.values():
        await frame.run_until_stopped(f"pull[{consumer.name}]", consumer.run)
    await frame.run_until_stopped("lanes", fast_lane.run)
    await frame.run_until_stopped("notices", lambda: notices.run(gate.follow))
    await frame.run_until_stopped("turns", keeper.run)
    await frame.run_until_stopped("sweep", Sweeping(troubles.all, keeper.sweep, clock).run)

    async def drain() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(settings.drain_s):
                await asyncio.gather(fast_lane.drain(), keeper.drain())
        await presence.leave()
        _log.info(DELIVERY_WORKERS_STOPPED, left_in_streams=fast_lane.unsettled)

    lifecycle.on_stop("drain", drain, settings.drain_s + 2)
    frame.started()


async def _start_presence(frame: Frame, presence: Presence) -> None:
    await frame.run_until_stopped("presence", presence.run)
    frame.health.register("presence", lambda: f"does not hear itself on {ALIVE}" if presence.is_deaf else None)


async def _start_reapers(frame: Frame, bus: Connection, kinds: Iterable[str], others: Iterable[PullConsumer]) -> None:
    """Start them; each consumer that they or the *others* need is needed to be ready."""
    reapers = {kind: Reaper(bus, (deliver_consumer(kind),), clock=frame.clock) for kind in kinds}
    for kind, reaper in reapers.items():
        await frame.run_until_stopped(f"reap[DELIVERY.{kind}]", reaper.run)
    needed = (*reapers.values(), *others)
    frame.health.register("consumers", lambda: next((one.trouble for one in needed if one.trouble), None))


def _ages(bus: Connection, kinds: Iterable[str], metrics: DeliveryMetrics, clock: Clock) -> OldestAges:
    def show(cause: str, owed: Owed) -> None:
        metrics.oldest_undelivered_age_seconds.labels(cause=cause).set(owed.oldest_age_s)
        if cause == "fast_lane":
            metrics.ready_messages.set(owed.messages)

    consumers = {"fast_lane": [deliver_consumer(kind) for kind in kinds], "dead_letter": (DEAD_LETTER_WRITER,)}
    return OldestAges(bus, consumers, show, clock=clock)


async def _start_publisher(frame: Frame, bus: Connection, stream: StreamSpec, metrics: BusMetrics) -> Publisher:
    publisher = Publisher(bus, stream.name, clock=frame.clock, metrics=metrics, linger_s=_UNHURRIED_S)
    await frame.run_until_stopped(f"commit[{stream.name}]", publisher.run)
    return publisher


async def _start_writers(
    frame: Frame, bus: Connection, pool: Pool, metrics: DeliveryMetrics, retention_days: int
) -> Iterable[PullConsumer]:
    clock = frame.clock
    dead = PullConsumer(bus, DEADLETTER.name, DEAD_LETTER_WRITER.name, clock=clock, capacity=_PREFETCH)
    log = PullConsumer(bus, ATTEMPT.name, DELIVERY_LOG_WRITER.name, clock=clock, capacity=_PREFETCH)
    await frame.run_until_stopped("pull[dead-letter-writer]", dead.run)
    await frame.run_until_stopped("pull[delivery-log-writer]", log.run)
    await frame.run_until_stopped("write[dead_letter_messages]", dead_letter_writer(dead, pool, clock).run)
    await frame.run_until_stopped("write[delivery_log]", delivery_log_writer(log, pool, metrics, clock).run)
    await frame.run_until_stopped(
        "housekeeping", lambda: keep_up(lambda: prune(pool, older_than_days=retention_days), clock)
    )
    return dead, log


def _limits(settings: DeliverySettings, metrics: DeliveryMetrics) -> LaneLimits:
    slots = settings.delivery_worker_count
    if slots < _FEW_SLOTS:
        _log.warning(
            "delivery_worker_count_small",
            slots=slots,
            effect="few attempts at once: hanging destinations send healthy routes to the siding, which delays them",
        )
    raise_file_limit(slots + _OTHER_FILES, instead=f"lower PULSE_DELIVERY_WORKER_COUNT, which is {slots}")
    limits = LaneLimits.of_process(slots=slots, replicas=settings.delivery_replicas)
    if limits.slots < slots:
        replicas = settings.delivery_replicas
        _log.info("delivery_worker_count_bounded", wanted=slots, slots=limits.slots, replicas=replicas)
    metrics.slots.set(limits.slots)
    return limits


def _consumers(bus: Connection, limits: LaneLimits, kinds: Collection[str], clock: Clock) -> dict[str, PullConsumer]:
    refuse_large_payloads(bus.max_payload, Holding(limits, kinds).most_at_once.size_bytes)
    return {
        kind: PullConsumer(
            bus,
            DELIVERY.name,
            deliver_consumer(kind).name,
            clock=clock,
            capacity=limits.prefetch,
            expires_s=_PULL_EXPIRES_S,
        )
        for kind in kinds
    }


def refuse_large_payloads(max_payload: int, most_bytes: int) -> None:
    """Raise `StartRefused` if the server takes messages that are larger than delivery may ask for."""
    if max_payload > most_bytes:
        raise StartRefused(
            f"max_payload of nats-server is {max_payload / _MIB:.3g} MiB, but delivery takes at most "
            f"{most_bytes / _MIB:.3g} MiB at once of each kind of destination: it would take nothing; lower max_payload"
        )


def _key_ring(settings: DeliverySettings) -> KeyRing:
    try:
        return KeyRing.parse(settings.secret_keys.get_secret_value())
    except KeyRingInvalid as exc:
        raise StartRefused(f"PULSE_SECRET_KEYS: {exc}") from exc


async def _open_senders(frame: Frame, bus: Connection, settings: DeliverySettings) -> dict[str, Sender]:
    try:
        egress = AddressPolicy.from_ranges(settings.egress_allow)
    except ValueError as exc:
        raise StartRefused(f"PULSE_EGRESS_ALLOW: {exc}") from exc
    password = settings.mqtt_password.get_secret_value() if settings.mqtt_password else None
    mqtt = None
    if settings.mqtt_host:
        mqtt = MqttTarget(
            host=settings.mqtt_host,
            port=settings.mqtt_port,
            user=settings.mqtt_user,
            password=password,
            client_id=settings.mqtt_client_id,
        )
    context = SenderContext(
        clock=frame.clock, egress=egress, names_kept_s=settings.egress_names_kept_s, bus=bus, mqtt=mqtt
    )
    senders: dict[str, Sender] = {}
    for entry in sorted(entry_points(group=SENDERS), key=lambda entry: entry.name):
        open_sender = cast("OpenSender", entry.load())
        senders[entry.name] = await frame.enter(f"sender[{entry.name}]", open_sender(context))
    return senders
