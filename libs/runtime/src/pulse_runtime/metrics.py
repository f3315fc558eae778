"""The catalogue: every metric of Pulse, by concern. Dashboards, alerts and the reference page are checked against it.

Labels are bounded. Tenants, devices, routes and messages are no labels: they are fields of log events and of traces.
"""

import platform
from dataclasses import dataclass
from typing import Final

from prometheus_client import GC_COLLECTOR, CollectorRegistry, PlatformCollector, ProcessCollector

from pulse_runtime.metric_specs import (
    BATCH_SIZES,
    LONG_SECONDS,
    OPEN,
    CounterSpec,
    GaugeSpec,
    HistogramSpec,
    MetricSet,
    MetricSpec,
    specs_of,
)

_PROTOCOLS: Final = ("mqtt", "http")
_RECEIVED: Final = ("accepted", "duplicate", "quarantined", "rejected", "unavailable")
_ROUTED: Final = ("matched", "unmatched", "error")
_PUBLISHED: Final = ("ok", "duplicate", "refused", "timeout", "error")
_BOUNDS: Final = ("route_messages", "route_bytes", "tenant", "siding")
_RANKS: Final = ("1", "2", "3", "4", "5")
_STREAM: Final = {"stream": OPEN}
_KIND: Final = {"kind": OPEN}


class CommonMetrics(MetricSet):
    """What every process has."""

    # Not `service`: Prometheus calls something else so where its Operator runs it, and would rename ours.
    build_info = GaugeSpec(
        "pulse_build_info", "Always 1; what runs here.", {"pulse_service": OPEN, "version": OPEN, "python": OPEN}
    )
    event_loop_lag_seconds = GaugeSpec(
        "pulse_event_loop_lag_seconds", "Worst lateness of the event loop in the last second."
    )
    nats_connected = GaugeSpec("pulse_nats_connected", "1 while connected to NATS.")

    def show_build(self, *, service: str, version: str) -> None:
        """Publish what runs here."""
        self.build_info.labels(pulse_service=service, version=version, python=platform.python_version()).set(1)


class BusMetrics(MetricSet):
    """Publishing to and pulling from JetStream."""

    published_total = CounterSpec(
        "pulse_bus_published_total", "Messages by the answer of the stream.", {"stream": OPEN, "result": _PUBLISHED}
    )
    publish_seconds = HistogramSpec(
        "pulse_bus_publish_seconds", "From the first byte of a batch to its acknowledgement.", _STREAM
    )
    batch_size = HistogramSpec("pulse_bus_batch_size", "Messages in an atomic batch.", _STREAM, BATCH_SIZES)
    batch_splits_total = CounterSpec(
        "pulse_bus_batch_splits_total",
        "Refused batches that were published in parts.",
        {"stream": OPEN, "reason": OPEN},
    )
    refused_total = CounterSpec(
        "pulse_bus_refused_total",
        "Messages a stream refused, by reason; full means refuse.",
        {"stream": OPEN, "reason": OPEN},
    )
    uncommitted_messages = GaugeSpec(
        "pulse_bus_uncommitted_messages",
        "Messages that wait in the process for their commit, those under way included; more than 20,000 are refused. "
        "Of ingest and TELEMETRY: what devices sent and have no answer to yet.",
        _STREAM,
    )


class IngestMetrics(MetricSet):
    """From devices into TELEMETRY, and from there into PostgreSQL."""

    messages_total = CounterSpec(
        "pulse_ingest_messages_total",
        "Messages by what became of them; a request nobody looked into counts as one.",
        {"protocol": _PROTOCOLS, "result": _RECEIVED},
    )
    mqtt_connected = GaugeSpec("pulse_ingest_mqtt_connected", "1 while subscribed to the broker.", {"broker": OPEN})
    quarantined_total = CounterSpec(
        "pulse_ingest_quarantined_total", "Messages put into quarantine, by reason.", {"reason": OPEN}
    )
    quarantine_overflow_total = CounterSpec(
        "pulse_ingest_quarantine_overflow_total", "Malformed MQTT messages beyond a tenant's budget: counted, not kept."
    )
    stored_total = CounterSpec("pulse_ingest_stored_total", "Messages written to PostgreSQL.")
    store_duplicates_total = CounterSpec(
        "pulse_ingest_store_duplicates_total", "Messages the writer found in PostgreSQL already."
    )
    store_seconds = HistogramSpec("pulse_ingest_store_seconds", "One batch into PostgreSQL, COMMIT included.")
    oldest_unstored_age_seconds = GaugeSpec(
        "pulse_ingest_oldest_unstored_age_seconds", "Age of the oldest accepted message that is not in PostgreSQL yet."
    )
    default_partition_rows = GaugeSpec(
        "pulse_ingest_default_partition_rows", "Rows of days without a partition, counted hourly and up to 100,000."
    )
    delivery_queue_depth = GaugeSpec(
        "pulse_ingest_delivery_queue_depth",
        "Messages of DELIVERY and SIDING not yet delivered; the predecessor's name.",
    )


class RouterMetrics(MetricSet):
    """From TELEMETRY to DELIVERY."""

    messages_total = CounterSpec(
        "pulse_router_messages_total", "Messages judged against their tenant's routes.", {"result": _ROUTED}
    )
    matches_total = CounterSpec("pulse_router_matches_total", "Deliveries that the routes asked for.")
    match_errors_total = CounterSpec(
        "pulse_router_match_errors_total", "Routes that could not judge a message; the others went on."
    )
    judgement_records_lost_total = CounterSpec(
        "pulse_router_judgement_records_lost_total", "Messages of which the log does not say which routes judged them."
    )
    route_seconds = HistogramSpec("pulse_router_route_seconds", "One batch from pulling to its acknowledgement.")
    oldest_unrouted_age_seconds = GaugeSpec(
        "pulse_router_oldest_unrouted_age_seconds", "Age of the oldest message that no route has judged yet."
    )
    unrouted_messages = GaugeSpec(
        "pulse_router_unrouted_messages",
        "Messages that no route has judged yet, over all processes; what the router is scaled on.",
    )
    routes = GaugeSpec("pulse_router_routes", "Routes in the table that can match.")
    routes_invalid = GaugeSpec("pulse_router_routes_invalid", "Routes left out because they do not compile.")
    table_age_seconds = GaugeSpec("pulse_router_table_age_seconds", "Since the table last agreed with the database.")


class DeliveryMetrics(MetricSet):
    """From DELIVERY to the destinations."""

    attempts_total = CounterSpec(
        "pulse_delivery_attempts_total", "Attempts by outcome.", {"kind": OPEN, "outcome": OPEN}
    )
    attempt_seconds = HistogramSpec("pulse_delivery_attempt_seconds", "One attempt, connecting included.", _KIND)
    end_to_end_seconds = HistogramSpec(
        "pulse_delivery_end_to_end_seconds", "From accepting a message to its delivery.", _KIND, LONG_SECONDS
    )
    lanes_busy = GaugeSpec("pulse_delivery_lanes_busy", "Routes with an attempt in flight.")
    slots_in_use = GaugeSpec("pulse_delivery_slots_in_use", "Attempts in flight, out of the slot budget.")
    slots = GaugeSpec("pulse_delivery_slots", "The slot budget of the process.")
    ready_messages = GaugeSpec(
        "pulse_delivery_ready_messages",
        "Messages of the fast lane that are not settled, neither in the siding nor parked, over all processes; what "
        "delivery is scaled on.",
    )
    held_messages = GaugeSpec("pulse_delivery_held_messages", "Attempting, waiting and prefetched.")
    held_bytes = GaugeSpec("pulse_delivery_held_bytes", "Bodies of the held messages.")
    shunts_total = CounterSpec(
        "pulse_delivery_shunts_total", "Messages moved to the siding, by reason.", {"reason": OPEN}
    )
    probes_total = CounterSpec(
        "pulse_delivery_probes_total", "Tries of a paused destination.", {"result": ("ok", "failed")}
    )
    dead_letters_total = CounterSpec(
        "pulse_delivery_dead_letters_total", "Messages given up, by reason.", {"reason": OPEN}
    )
    siding_bytes = GaugeSpec("pulse_delivery_siding_bytes", "Bytes of the siding in use, over all processes.")
    siding_most_bytes = GaugeSpec("pulse_delivery_siding_most_bytes", "Bytes that the siding takes in all.")
    siding_share = GaugeSpec(
        "pulse_delivery_siding_share",
        "Part of the siding, 0 to 1, that the fullest tenants hold, by rank; log events name tenants.",
        {"rank": _RANKS},
    )
    siding_full_total = CounterSpec(
        "pulse_delivery_siding_full_total",
        "Messages that found no room in the siding and became dead letters, by the bound that was met.",
        {"bound": _BOUNDS},
    )
    troubled_routes = GaugeSpec("pulse_delivery_troubled_routes", "Routes with an unparked message in the siding.")
    turns_in_use = GaugeSpec("pulse_delivery_turns_in_use", "Troubled routes that have a consumer on the siding.")
    probes_waiting = GaugeSpec(
        "pulse_delivery_probes_waiting",
        "Routes that failed and are due to be tried again: they yield to everything else, tenants in turn.",
    )
    recovery_seconds = HistogramSpec(
        "pulse_delivery_recovery_seconds",
        "From the first success of a troubled route to its return to the fast lane, its backlog delivered. The healing "
        "itself may be up to a pause earlier.",
        buckets=LONG_SECONDS,
    )
    oldest_undelivered_age_seconds = GaugeSpec(
        "pulse_delivery_oldest_undelivered_age_seconds",
        "Age of the oldest message that is owed to a destination, by why it waits; the main figure. In the siding the "
        "heads of routes are looked at, some each second, those not seen yet first. While it cannot be measured it "
        "grows with the clock: what it may be at most.",
        {"cause": ("fast_lane", "siding", "parked", "dead_letter")},
    )
    outage = GaugeSpec(
        "pulse_delivery_outage", "1 while no destination of the kind can be reached from here, our own trouble.", _KIND
    )
    attempt_records_lost_total = CounterSpec(
        "pulse_delivery_attempt_records_lost_total",
        "Attempts missing from the delivery log because ATTEMPT refused them.",
    )


CATALOGUE: Final[tuple[type[MetricSet], ...]] = (
    CommonMetrics,
    BusMetrics,
    IngestMetrics,
    RouterMetrics,
    DeliveryMetrics,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRow:
    """One metric as the reference page shows it."""

    name: str
    kind: str
    labels: dict[str, tuple[str, ...]]
    """Empty values: known only at run time."""
    help: str
    buckets: tuple[float, ...]


def reference_rows() -> list[MetricRow]:
    """The whole catalogue in order."""
    return [_row(spec) for metric_set in CATALOGUE for _, spec in specs_of(metric_set)]


def new_registry() -> CollectorRegistry:
    """A registry with the usual figures of the process, the platform and the garbage collector."""
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    registry.register(GC_COLLECTOR)
    return registry


def _row(spec: MetricSpec) -> MetricRow:
    buckets = spec.buckets if isinstance(spec, HistogramSpec) else ()
    return MetricRow(name=spec.name, kind=spec.kind, labels=dict(spec.labels), help=spec.help, buckets=buckets)
