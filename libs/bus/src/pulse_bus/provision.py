"""Makes the server's streams and consumers match `pulse_contracts.topology`, and says what it changed."""

from collections.abc import Iterable, Mapping
from typing import Any

from pulse_bus.api import CONSUMER_NOT_FOUND, NANOSECONDS, STREAM_NOT_FOUND, api_request
from pulse_bus.connection import Connection
from pulse_bus.errors import ApiError
from pulse_contracts.topology import STREAMS, ConsumerSpec, StreamSpec, consumers


async def provision(connection: Connection, kinds: Iterable[str], *, replicas: int | None = None) -> list[str]:
    """Create or update every stream and consumer; returns one line a difference, none when all matched.

    Without *replicas* a stream keeps as many copies as it has, and a new one gets one. Raises `ApiError` where the
    server cannot be made to match: a retention policy, for one, cannot be changed.
    """
    changes: list[str] = []
    for stream in STREAMS:
        changes += await _provision_stream(connection, stream_config(stream, replicas))
    for consumer in consumers(kinds):
        changes += await _provision_consumer(connection, consumer.stream, consumer_config(consumer))
    return changes


def stream_config(spec: StreamSpec, replicas: int | None) -> dict[str, Any]:
    """Return the server's form of *spec*."""
    copies = {} if replicas is None else {"num_replicas": replicas}
    return {
        "name": spec.name,
        "subjects": list(spec.subjects),
        "retention": str(spec.retention),
        "storage": "file",
        "discard": spec.discard,
        "max_bytes": spec.max_bytes,
        "max_msgs_per_subject": spec.max_msgs_per_subject,
        "discard_new_per_subject": spec.max_msgs_per_subject > 0,
        "max_consumers": spec.max_consumers,
        "duplicate_window": int(spec.duplicate_window_s * NANOSECONDS),
        "allow_atomic": spec.allow_atomic,
        "allow_direct": spec.allow_direct,
        **copies,
    }


def consumer_config(spec: ConsumerSpec) -> dict[str, Any]:
    """Return the server's form of *spec*: pull, explicit acks, no ``backoff``, no ``max_deliver``."""
    return {
        "durable_name": spec.name,
        "name": spec.name,
        "filter_subject": spec.filter_subject,
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": int(spec.ack_wait_s * NANOSECONDS),
        "max_deliver": -1,
        "max_ack_pending": spec.max_ack_pending,
        "metadata": {"service": spec.service, **spec.metadata},
    }


async def _provision_stream(connection: Connection, wanted: Mapping[str, Any]) -> list[str]:
    name = wanted["name"]
    try:
        info = await api_request(connection, f"STREAM.INFO.{name}")
    except ApiError as exc:
        if exc.err_code != STREAM_NOT_FOUND:
            raise
        await api_request(connection, f"STREAM.CREATE.{name}", wanted)
        return [f"stream {name}: created"]
    changes = _differences(f"stream {name}", info["config"], wanted)
    if changes:
        await api_request(connection, f"STREAM.UPDATE.{name}", {**info["config"], **wanted})
    return changes


async def _provision_consumer(connection: Connection, stream: str, wanted: Mapping[str, Any]) -> list[str]:
    name = wanted["name"]
    operation = f"CONSUMER.CREATE.{stream}.{name}.{wanted['filter_subject']}"
    try:
        info = await api_request(connection, f"CONSUMER.INFO.{stream}.{name}")
    except ApiError as exc:
        if exc.err_code != CONSUMER_NOT_FOUND:
            raise
        await api_request(connection, operation, {"stream_name": stream, "config": wanted, "action": "create"})
        return [f"consumer {stream} > {name}: created"]
    changes = _differences(f"consumer {stream} > {name}", info["config"], wanted)
    if changes:
        config = {**info["config"], **wanted}
        await api_request(connection, operation, {"stream_name": stream, "config": config, "action": "update"})
    return changes


def _differences(what: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Compare only what we set: the server adds metadata (``_nats.*``) and defaults of its own."""
    changes: list[str] = []
    for key, value in wanted.items():
        present = found.get(key)
        if isinstance(value, dict) and isinstance(present, dict):
            present = {name: present.get(name) for name in value}  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType, reportUnknownArgumentType] - JSON
        # The server leaves false and zero out of its answers.
        if (present or None) != (value or None):
            changes.append(f"{what}: {key} {present!r} -> {value!r}")
    return changes
