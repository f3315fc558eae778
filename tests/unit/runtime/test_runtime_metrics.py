import re
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition, parser

from pulse_runtime.metrics import (
    CATALOGUE,
    BusMetrics,
    DeliveryMetrics,
    IngestMetrics,
    RouterMetrics,
    new_registry,
    reference_rows,
)

OF_THE_TARGET = {"job", "instance", "namespace", "service", "pod", "container", "endpoint", "node"}
"""Labels that Prometheus, or its Operator, gives to every series; ours of the same name would become `exported_…`."""


def families(registry: CollectorRegistry) -> set[str]:
    exposed: Any = exposition
    parsers: Any = parser
    text = exposed.generate_latest(registry).decode()
    return {family.name for family in parsers.text_string_to_metric_families(text)}


def test_the_names_that_others_rely_on_are_there() -> None:
    names = {row.name for row in reference_rows()}
    assert {
        "pulse_ingest_delivery_queue_depth",
        "pulse_ingest_messages_total",
        "pulse_delivery_end_to_end_seconds",
        "pulse_delivery_oldest_undelivered_age_seconds",
        "pulse_event_loop_lag_seconds",
        "pulse_build_info",
    } <= names


def test_names_follow_the_conventions() -> None:
    rows = reference_rows()
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        assert re.fullmatch(r"pulse(_[a-z]+)+", row.name), row.name
        assert (row.kind == "counter") == row.name.endswith("_total"), row.name
        assert row.help.endswith("."), row.name
        assert not {"tenant", "device", "route", "message", "consumer"} & row.labels.keys(), row.name
        assert not OF_THE_TARGET & row.labels.keys(), row.name
        assert (row.kind == "histogram") == bool(row.buckets), row.name


def test_an_attribute_is_its_metric_without_the_prefix() -> None:
    for metric_set in CATALOGUE:
        for attribute in vars(metric_set(CollectorRegistry())):
            assert getattr(metric_set, attribute).name.endswith(f"_{attribute}")


def test_all_sets_share_one_registry_in_valid_openmetrics() -> None:
    registry = new_registry()
    for metric_set in CATALOGUE:
        metric_set(registry)
    names = families(registry)
    for row in reference_rows():
        assert row.name.removesuffix("_total") in names


def test_counters_of_closed_labels_begin_at_zero() -> None:
    registry = CollectorRegistry()
    IngestMetrics(registry)
    sample = {"protocol": "mqtt", "result": "quarantined"}
    assert registry.get_sample_value("pulse_ingest_messages_total", sample) == 0.0


def test_the_attributes_are_the_metrics() -> None:
    registry = CollectorRegistry()
    delivery, bus, router = DeliveryMetrics(registry), BusMetrics(registry), RouterMetrics(registry)
    delivery.attempts_total.labels(kind="webhook", outcome="ok").inc()
    delivery.end_to_end_seconds.labels(kind="webhook").observe(12.0)
    delivery.slots_in_use.set(4)
    bus.published_total.labels(stream="TELEMETRY", result="ok").inc(500)
    router.matches_total.inc(2)
    assert b'pulse_delivery_attempts_total{kind="webhook",outcome="ok"} 1.0' in generate_latest(registry)
    assert b"pulse_router_matches_total 2.0" in generate_latest(registry)


def test_one_registry_takes_a_set_once() -> None:
    registry = CollectorRegistry()
    RouterMetrics(registry)
    with pytest.raises(ValueError, match="Duplicated"):
        RouterMetrics(registry)
