"""Ingest, put together: what it is made of, and the order in which it starts and stops.

Stopping runs backwards: first the edges close, then what they handed over is committed, then the writers end.
"""

from functools import partial

from pulse_bus.ages import OldestAges
from pulse_bus.consumer import PullConsumer
from pulse_bus.publisher import Publisher
from pulse_bus.reaper import Reaper
from pulse_bus.service import open_bus
from pulse_contracts.topology import QUARANTINE, QUARANTINE_WRITER, ROUTER, STORE, TELEMETRY
from pulse_ingest.adapters.arrivals import Arrivals
from pulse_ingest.adapters.authentication import Authenticator
from pulse_ingest.adapters.credential_feed import credential_feed
from pulse_ingest.adapters.logs import JetStreamQuarantineLog, JetStreamTelemetryLog
from pulse_ingest.adapters.queue_depth import QueueDepth
from pulse_ingest.adapters.stats import report_stats
from pulse_ingest.domain.credentials import Registry
from pulse_ingest.domain.intake import Intake
from pulse_ingest.http.listener import DRAIN_S, serve
from pulse_ingest.http.server import build_application
from pulse_ingest.mqtt.edge import MqttEdge
from pulse_ingest.settings import IngestSettings
from pulse_ingest.writers.housekeeping import keep_house
from pulse_ingest.writers.quarantine import quarantine_writer
from pulse_ingest.writers.telemetry import TelemetryWriter
from pulse_runtime.frame import Frame
from pulse_runtime.lifecycle import Lifecycle
from pulse_runtime.metrics import BusMetrics, IngestMetrics
from pulse_runtime.settings import load_settings
from pulse_storage.pool import open_pool
from pulse_storage.upkeep import keep_up, keep_up_once

_PREFETCH = 2_000


async def start(lifecycle: Lifecycle) -> None:
    """Start ingest; returns when it serves."""
    settings = load_settings(IngestSettings)
    frame = await Frame.open("ingest", settings, lifecycle)
    clock, health = frame.clock, frame.health
    metrics, bus_metrics = IngestMetrics(frame.registry), BusMetrics(frame.registry)

    bus = await open_bus(frame, settings)
    dsn = settings.database_url.get_secret_value()
    pool = await frame.enter("pool", open_pool(dsn, service="ingest"))

    store = PullConsumer(bus, TELEMETRY.name, STORE.name, clock=clock, capacity=_PREFETCH)
    records = PullConsumer(bus, QUARANTINE.name, QUARANTINE_WRITER.name, clock=clock, capacity=_PREFETCH)
    telemetry = Publisher(bus, TELEMETRY.name, clock=clock, metrics=bus_metrics, log_batches=True)
    quarantine = Publisher(bus, QUARANTINE.name, clock=clock, metrics=bus_metrics)
    reaper = Reaper(bus, (STORE, ROUTER), clock=clock)
    depth = QueueDepth(bus, metrics, clock)
    ages = OldestAges(
        bus,
        {"store": (STORE,)},
        lambda _, owed: metrics.oldest_unstored_age_seconds.set(owed.oldest_age_s),
        clock=clock,
    )
    registry = Registry()
    feed = credential_feed(dsn, registry, clock)
    intake = Intake(JetStreamTelemetryLog(telemetry), JetStreamQuarantineLog(quarantine, metrics), clock)
    writer = TelemetryWriter(store, pool, intake, metrics, clock)

    retention = settings.message_id_retention_days
    housekeeping = partial(keep_house, pool, metrics, message_id_retention_days=retention)
    # Before the writer: rows of a day without a partition would go to the default one.
    await keep_up_once(housekeeping)
    await frame.run_until_stopped("pull[store]", store.run)
    await frame.run_until_stopped("pull[quarantine]", records.run)
    await frame.run_until_stopped("commit[QUARANTINE]", quarantine.run)
    await frame.run_until_stopped("write[telemetry]", writer.run)
    await frame.run_until_stopped("write[quarantine]", quarantine_writer(records, pool, clock).run)
    await frame.run_until_stopped("reap[TELEMETRY]", reaper.run)
    await frame.run_until_stopped("queue_depth", depth.run)
    await frame.run_until_stopped("ages", ages.run)
    await frame.run_until_stopped("housekeeping", lambda: keep_up(housekeeping, clock))
    await frame.run_until_stopped("credentials", feed.run)
    await frame.run_until_stopped(
        "stats", lambda: report_stats(depth, interval_s=settings.stats_interval_s, clock=clock)
    )
    await frame.run_until_stopped("commit[TELEMETRY]", telemetry.run)

    health.details = lambda: {"delivery_queue_depth": depth.messages, "storing": writer.trouble or "ok"}
    health.register("consumers", lambda: reaper.trouble or store.trouble or records.trouble)
    health.register("credentials", lambda: None if feed.loaded.is_set() else "no credentials read yet")

    authenticator, arrivals = Authenticator(registry, pool), Arrivals(frame.tracer, clock)
    application = build_application(intake, authenticator, metrics, arrivals)
    serving = serve(application, settings.http_host, settings.http_port)
    listener = await frame.enter("http", serving, work_s=DRAIN_S + 2)
    health.register("http", lambda: listener.trouble)
    if settings.mqtt_host:
        await feed.loaded.wait()
        edge = MqttEdge(
            settings, intake=intake, authenticator=authenticator, metrics=metrics, arrivals=arrivals, clock=clock
        )
        await frame.run_until_stopped("mqtt", edge.run)
        health.register("mqtt", lambda: edge.trouble)
    frame.started()
