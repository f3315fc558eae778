import re

from pulse_runtime import events

NAMES = {name: value for name, value in vars(events).items() if name.isupper()}


def test_the_predecessors_events_keep_their_names() -> None:
    assert {
        "route_delivered",
        "route_delivery_failed_dlq",
        "dlq_write_failed",
        "delivery_queue_full",
        "route_match_error",
        "route_fanout_error",
        "delivery_workers_stopped",
    } <= set(NAMES.values())


def test_each_constant_is_named_as_its_event() -> None:
    assert {name: name.lower() for name in NAMES} == NAMES
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)+", event) for event in NAMES.values())
