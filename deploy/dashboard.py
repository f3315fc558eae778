"""The overview dashboard: what is owed, what flows, who is in trouble, how the processes are.

A query may return nothing only when a service is away: tests/integration/deploy/test_deploy_compose_live.py runs all of
them on a live Pulse.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

_DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH, _HEIGHT, _COLUMNS = 8, 8, 3
_RATE: Final = "[$__rate_interval]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One expression, and how its series are called."""

    expression: str
    legend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One graph."""

    title: str
    unit: str
    queries: tuple[Query, ...]
    help: str = ""


def _rate(metric: str, *by: str) -> str:
    grouped = f" by ({', '.join(by)})" if by else ""
    return f"sum{grouped} (rate({metric}{_RATE}))"


def _quantiles(metric: str, by: str) -> tuple[Query, ...]:
    return tuple(
        Query(
            expression=f"histogram_quantile({quantile}, {_rate(f'{metric}_bucket', 'le', by)})",
            legend=f"{{{{{by}}}}} p{int(quantile * 100)}",
        )
        for quantile in (0.5, 0.99)
    )


def _of_process(metric: str) -> str:
    # The build's figure is always 1 and knows the service.
    return f"sum by (pulse_service) ({metric} * on (job, instance) group_left (pulse_service) pulse_build_info)"


OWED: Final = (
    Panel(
        title="Oldest undelivered message, by why it waits",
        unit="s",
        help="The main figure. fast_lane: delivery is behind. siding: a destination is in trouble. parked: a route is "
        "disabled. dead_letter: PostgreSQL does not take dead letters.",
        queries=(
            Query(
                expression="max by (cause) (pulse_delivery_oldest_undelivered_age_seconds)",
                legend="{{cause}}",
            ),
        ),
    ),
    Panel(
        title="Oldest message not stored, not routed",
        unit="s",
        help="Not stored: PostgreSQL is away or slow. Not routed: the router is behind, or DELIVERY is full.",
        queries=(
            Query(expression="max(pulse_ingest_oldest_unstored_age_seconds)", legend="not stored"),
            Query(expression="max(pulse_router_oldest_unrouted_age_seconds)", legend="not routed"),
        ),
    ),
    Panel(
        title="Messages that wait",
        unit="short",
        help="Not delivered: DELIVERY and SIDING together. Router and delivery are scaled on the other two.",
        queries=(
            Query(expression="max(pulse_ingest_delivery_queue_depth)", legend="not delivered"),
            Query(expression="max(pulse_router_unrouted_messages)", legend="not routed"),
            Query(expression="max(pulse_delivery_ready_messages)", legend="ready on the fast lane"),
        ),
    ),
)
FLOW: Final = (
    Panel(
        title="Messages from devices",
        unit="reqps",
        queries=(
            Query(
                expression=_rate("pulse_ingest_messages_total", "protocol", "result"), legend="{{protocol}} {{result}}"
            ),
        ),
    ),
    Panel(
        title="Stored, matched",
        unit="reqps",
        queries=(
            Query(expression=_rate("pulse_ingest_stored_total"), legend="stored"),
            Query(expression=_rate("pulse_router_messages_total", "result"), legend="judged: {{result}}"),
            Query(expression=_rate("pulse_router_matches_total"), legend="deliveries asked for"),
        ),
    ),
    Panel(
        title="Attempts",
        unit="reqps",
        queries=(
            Query(expression=_rate("pulse_delivery_attempts_total", "kind", "outcome"), legend="{{kind}} {{outcome}}"),
        ),
    ),
    Panel(
        title="From accepting to delivery",
        unit="s",
        queries=_quantiles("pulse_delivery_end_to_end_seconds", "kind"),
    ),
    Panel(
        title="One commit to a stream",
        unit="s",
        help="Includes the fsync: grows first when the disk of NATS is slow.",
        queries=_quantiles("pulse_bus_publish_seconds", "stream"),
    ),
    Panel(
        title="Publishing, by the stream's answer",
        unit="reqps",
        help="refused: the stream is full, see the runbooks. timeout: tried again under the same ids.",
        queries=(
            Query(expression=_rate("pulse_bus_published_total", "stream", "result"), legend="{{stream}} {{result}}"),
        ),
    ),
)
TROUBLE: Final = (
    Panel(
        title="Troubled routes",
        unit="short",
        help="Routes of which the siding holds a message. Those with a turn are being tried.",
        queries=(
            Query(expression="max(pulse_delivery_troubled_routes)", legend="troubled"),
            Query(expression="sum(pulse_delivery_turns_in_use)", legend="with a turn"),
            Query(expression="sum(pulse_delivery_probes_waiting)", legend="due to be tried"),
        ),
    ),
    Panel(
        title="Moved to the siding, and dead letters",
        unit="reqps",
        queries=(
            Query(expression=_rate("pulse_delivery_shunts_total", "reason"), legend="siding: {{reason}}"),
            Query(expression=_rate("pulse_delivery_dead_letters_total", "reason"), legend="dead letter: {{reason}}"),
        ),
    ),
    Panel(
        title="How full the siding is",
        unit="percentunit",
        queries=(
            Query(
                expression="max(pulse_delivery_siding_bytes) / max(pulse_delivery_siding_most_bytes)", legend="in all"
            ),
            Query(expression="max by (rank) (pulse_delivery_siding_share)", legend="tenant, rank {{rank}}"),
        ),
    ),
)
PROCESSES: Final = (
    Panel(
        title="Processes, and whether they reach NATS and the broker",
        unit="short",
        queries=(
            Query(
                expression="count by (pulse_service, version) (pulse_build_info)",
                legend="{{pulse_service}} {{version}}",
            ),
            Query(expression="sum by (job) (pulse_nats_connected)", legend="{{job}} at NATS"),
            Query(expression="sum by (broker) (pulse_ingest_mqtt_connected)", legend="ingest at {{broker}}"),
        ),
    ),
    Panel(
        title="Event loop lag, and slots in use",
        unit="s",
        queries=(
            Query(expression="max by (job) (pulse_event_loop_lag_seconds)", legend="{{job}} lag"),
            Query(
                expression="sum(pulse_delivery_slots_in_use) / sum(pulse_delivery_slots)",
                legend="part of delivery's slots",
            ),
        ),
    ),
    Panel(
        title="Memory",
        unit="bytes",
        queries=(Query(expression=_of_process("process_resident_memory_bytes"), legend="{{pulse_service}}"),),
    ),
)
ROWS: Final = {
    "What is owed": OWED,
    "What flows": FLOW,
    "Who is in trouble": TROUBLE,
    "How the processes are": PROCESSES,
}


def dashboard() -> str:
    """Return the dashboard in Grafana's form."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        panels.append({"type": "row", "title": title, "collapsed": False, "gridPos": _place(top, 0, 24, 1)})
        top += 1
        for index, panel in enumerate(row):
            line, column = divmod(index, _COLUMNS)
            panels.append(_panel(panel, _place(top + line * _HEIGHT, column * _WIDTH, _WIDTH, _HEIGHT)))
        top += -(-len(row) // _COLUMNS) * _HEIGHT
    made = {
        "uid": "pulse-overview",
        "title": "Pulse",
        "tags": ["pulse"],
        "schemaVersion": 41,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}]
        },
        "panels": [{"id": number, **panel} for number, panel in enumerate(panels, 1)],
    }
    return json.dumps(made, indent=2) + "\n"


def _place(y: int, x: int, w: int, h: int) -> dict[str, int]:
    return {"h": h, "w": w, "x": x, "y": y}


def _panel(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.help,
        "gridPos": place,
        "datasource": _DATASOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": _DATASOURCE, "expr": q.expression, "legendFormat": q.legend}
            for index, q in enumerate(panel.queries)
        ],
    }
