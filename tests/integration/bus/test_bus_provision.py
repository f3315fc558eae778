from typing import Any

import pytest

from pulse_bus.api import api_request
from pulse_bus.errors import ApiError
from pulse_bus.provision import provision
from pulse_contracts.topology import STREAMS, consumers
from pulse_testkit.nats import Bus

KINDS = ("webhook", "nats")


async def delete_all(bus: Bus) -> None:
    for stream in STREAMS:
        await api_request(bus.control, f"STREAM.DELETE.{stream.name}")


async def stream_config(bus: Bus, name: str) -> dict[str, Any]:
    info = await api_request(bus.control, f"STREAM.INFO.{name}")
    return info["config"]


async def test_everything_is_created_and_named(bus: Bus) -> None:
    await delete_all(bus)

    changes = await provision(bus.control, KINDS)

    expected = {f"stream {stream.name}: created" for stream in STREAMS} | {
        f"consumer {spec.stream} > {spec.name}: created" for spec in consumers(KINDS)
    }
    assert set(changes) == expected


async def test_a_second_time_changes_nothing(bus: Bus) -> None:
    await provision(bus.control, KINDS)

    assert await provision(bus.control, KINDS) == []


@pytest.mark.parametrize(
    "drift",
    [
        {"max_bytes": 1_000_000},
        {"discard": "old", "discard_new_per_subject": False},
        {"duplicate_window": 60_000_000_000},
        {"subjects": ["telemetry.only.>"]},
        {"allow_atomic": False},
        {"max_consumers": 7},
    ],
    ids=lambda drift: next(iter(drift)),
)
async def test_a_stream_that_drifted_is_corrected_and_the_difference_told(bus: Bus, drift: dict[str, Any]) -> None:
    wanted = await stream_config(bus, "TELEMETRY")
    await api_request(bus.control, "STREAM.UPDATE.TELEMETRY", wanted | drift)

    changes = await provision(bus.control, KINDS)

    assert any(change.startswith(f"stream TELEMETRY: {next(iter(drift))} ") for change in changes)
    assert await stream_config(bus, "TELEMETRY") == wanted


async def test_a_consumer_that_drifted_is_corrected_and_the_difference_told(bus: Bus) -> None:
    info = await api_request(bus.control, "CONSUMER.INFO.TELEMETRY.store")
    drift = info["config"] | {"ack_wait": 60_000_000_000, "max_ack_pending": 5, "metadata": {}}
    body = {"stream_name": "TELEMETRY", "config": drift, "action": "update"}
    await api_request(bus.control, "CONSUMER.CREATE.TELEMETRY.store.telemetry.>", body)

    changes = await provision(bus.control, KINDS)

    assert {change.partition(": ")[2].partition(" ")[0] for change in changes} == {
        "ack_wait",
        "max_ack_pending",
        "metadata",
    }
    found = (await api_request(bus.control, "CONSUMER.INFO.TELEMETRY.store"))["config"]
    assert (found["ack_wait"], found["max_ack_pending"]) == (12_000_000_000, 10_000)


async def test_messages_survive_a_correction(bus: Bus) -> None:
    wanted = await stream_config(bus, "TELEMETRY")
    tester = await bus.connect("tester")
    await tester.request("telemetry.acme.d1.t", b"x", timeout_s=5)
    await api_request(bus.control, "STREAM.UPDATE.TELEMETRY", wanted | {"max_bytes": 1_000_000})

    await provision(bus.control, KINDS)

    info = await api_request(bus.control, "STREAM.INFO.TELEMETRY")
    assert info["state"]["messages"] == 1


async def test_what_cannot_be_corrected_is_an_error(bus: Bus) -> None:
    await api_request(bus.control, "STREAM.DELETE.SIDING")
    other = {"name": "SIDING", "subjects": ["siding.>"], "retention": "limits"}
    await api_request(bus.control, "STREAM.CREATE.SIDING", other)

    with pytest.raises(ApiError, match=r"STREAM\.UPDATE\.SIDING"):
        await provision(bus.control, KINDS)
