"""The router, put together: what it is made of, and the order in which it starts and stops."""

from pulse_bus.ages import OldestAges, Owed
from pulse_bus.consumer import PullConsumer
from pulse_bus.hops import bridge_hops
from pulse_bus.publisher import Publisher
from pulse_bus.service import open_bus
from pulse_contracts.topology import ATTEMPT, DELIVERY, JUDGEMENT_WRITER, ROUTER, TELEMETRY
from pulse_router.adapters.judgements import Judgements
from pulse_router.adapters.route_table_feed import RouteTableFeed
from pulse_router.adapters.routing import Routing
from pulse_router.settings import RouterSettings
from pulse_router.writers.judgements import judgement_writer
from pulse_runtime.frame import Frame
from pulse_runtime.lifecycle import Lifecycle
from pulse_runtime.metrics import BusMetrics, RouterMetrics
from pulse_runtime.settings import load_settings
from pulse_storage.judgements import prune
from pulse_storage.pool import open_pool
from pulse_storage.upkeep import keep_up

_PREFETCH = 2_000
_UNHURRIED_S = 0.1
_FLUSH_S = 2.0


async def start(lifecycle: Lifecycle) -> None:
    """Start the router; returns when it routes."""
    settings = load_settings(RouterSettings)
    frame = await Frame.open("router", settings, lifecycle)
    clock, health = frame.clock, frame.health
    metrics, bus_metrics = RouterMetrics(frame.registry), BusMetrics(frame.registry)

    bus = await open_bus(frame, settings)
    dsn = settings.database_url.get_secret_value()
    pool = await frame.enter("pool", open_pool(dsn, service="router"))
    routes = RouteTableFeed(dsn, metrics, clock)
    consumer = PullConsumer(bus, TELEMETRY.name, ROUTER.name, clock=clock, capacity=_PREFETCH)
    publisher = Publisher(bus, DELIVERY.name, clock=clock, metrics=bus_metrics)
    log = Publisher(bus, ATTEMPT.name, clock=clock, metrics=bus_metrics, linger_s=_UNHURRIED_S)
    records = PullConsumer(bus, ATTEMPT.name, JUDGEMENT_WRITER.name, clock=clock, capacity=_PREFETCH)
    judgements = Judgements(log, metrics=metrics, clock=clock)
    routing = Routing(consumer, publisher, lambda: routes.table, judgements=judgements, metrics=metrics, clock=clock)
    metrics.table_age_seconds.set_function(lambda: routes.feed.age_s)
    health.register("routes", lambda: None if routes.feed.loaded.is_set() else "no routes read yet")
    health.register("consumers", lambda: consumer.trouble or records.trouble)
    health.register("delivery", lambda: routing.trouble)

    def show_owed(_cause: str, owed: Owed) -> None:
        metrics.oldest_unrouted_age_seconds.set(owed.oldest_age_s)
        metrics.unrouted_messages.set(owed.messages)

    ages = OldestAges(bus, {"route": (ROUTER,)}, show_owed, clock=clock)
    await frame.run_until_stopped("ages", ages.run)
    retention = settings.judgement_retention_days
    await frame.run_until_stopped("pull[judgement-writer]", records.run)
    await frame.run_until_stopped("write[judgements]", judgement_writer(records, pool, metrics, clock).run)
    await frame.run_until_stopped(
        "housekeeping", lambda: keep_up(lambda: prune(pool, older_than_days=retention), clock)
    )
    await frame.run_until_stopped("commit[ATTEMPT]", log.run)
    lifecycle.on_stop("judgements", judgements.flush, _FLUSH_S)
    await frame.run_until_stopped("judgements", judgements.run)
    await frame.run_until_stopped("routes", routes.feed.run)
    await frame.run_until_stopped("commit[DELIVERY]", publisher.run)
    # Without the routes every message would count as unmatched: rather wait, TELEMETRY keeps them.
    await routes.feed.loaded.wait()
    await frame.run_until_stopped("pull[router]", consumer.run)
    await frame.run_until_stopped("route", routing.run)
    if frame.tracer.is_enabled:
        await bridge_hops(bus)
    frame.started()
