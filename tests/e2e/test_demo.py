"""`pulse demo` tells the truth, leaves nothing behind, and minds its own business."""

import asyncio
import csv
import json
import signal
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.demo import Demo, Ended, start_demo
from support.processes import alive, children, command_line, processes_naming
from support.secrets import PREFIXES, secrets_of
from support.waiting import eventually

KEYS = {
    "accepted", "stored", "quarantined", "matched", "delivered", "waiting", "dead_lettered", "lost", "duplicates",
    "healthy_p50_ms", "healthy_p99_ms", "routes",
}  # fmt: skip
SERIES = Path(__file__).parents[2] / "libs/cli/src/pulse_cli/demo/data/seattle-weather.csv"
SECONDS = 3
_LONGER_S = 8
"""Another demo is stopped meanwhile."""
TENANTS = ("acme", "globex")
INTERRUPTED = 130
LOSSES = ("acknowledged_is_kept", "every_match_has_a_fate")

pytestmark = pytest.mark.timeout(150)


async def test_its_ledger_balances_while_another_demo_of_the_same_clone_is_stopped(tmp_path: Path) -> None:
    other = await start_demo(tmp_path, seconds=60)
    await other.until_up()
    demo = await start_demo(tmp_path, seconds=_LONGER_S)
    await demo.until_up()
    secrets = secrets_of(demo.folder)
    await the_devices_are_half_mqtt(demo)
    await they_replay_the_recorded_series(demo)
    await asyncio.gather(is_stopped_by(signal.SIGTERM, other), the_destinations_are_of_each_temper(demo))

    ended = await demo.ended()
    assert ended.code == 0, ended.err
    assert_balanced(ended.ledger)
    assert not [secret for secret in (*secrets, *PREFIXES) if secret in ended.out + ended.err]
    assert not list((tmp_path / ".pulse").iterdir())
    await eventually(lambda: not processes_naming(tmp_path))


@pytest.mark.parametrize(
    ("bugs", "signs"),
    [
        (
            ("ingest.ack_before_commit=on;ingest.before_commit=kill:30", "ingest.before_commit=kill:30"),
            ("acknowledged_is_kept", ""),
        ),
        (
            ("router.swallow_publish_failure=on", "router.ignore_payload_filters=on"),
            ("every_match_has_a_fate", "only_matches_are_delivered"),
        ),
        (("delivery.drop_dead_letter=on",), ("every_match_has_a_fate",)),
    ],
    ids=["ack before commit, and its crash alone", "two bugs of the router", "no dead letter"],
)
async def test_demos_of_one_clone_tell_the_truth_each_of_its_own_bug(
    tmp_path: Path, bugs: Sequence[str], signs: Sequence[str]
) -> None:
    demos = [await start_demo(tmp_path, failpoints=bug, seconds=SECONDS) for bug in bugs]
    for sign, ended in zip(signs, await asyncio.gather(*(demo.ended() for demo in demos)), strict=True):
        assert ended.code == (1 if sign else 0), ended.err
        assert sign in ended.err
        assert (ended.ledger["lost"] > 0) == (sign in LOSSES)
        assert ended.ledger["duplicates"] == 0


@pytest.mark.parametrize(("started", "number"), [(1, signal.SIGTERM), (2, signal.SIGINT)])
async def test_stopped_half_way_through_its_start_it_leaves_no_process(
    tmp_path: Path, started: int, number: signal.Signals
) -> None:
    demo = await start_demo(tmp_path, seconds=60)
    await eventually(lambda: len(children(demo.pid)) >= started, 30)
    await is_stopped_by(number, demo)
    assert not list((tmp_path / ".pulse").iterdir())


async def test_killed_outright_it_leaves_no_process(tmp_path: Path) -> None:
    demo = await start_demo(tmp_path, seconds=60)
    await eventually(lambda: any("nats-server" in command_line(pid) for pid in children(demo.pid)), 30)
    pid_file = demo.folder / "postgres" / "data" / "postmaster.pid"
    await eventually(pid_file.exists, 30)
    postmaster = int(pid_file.read_text().split()[0])
    backends = await eventually(lambda: children(postmaster), 30)
    assert backends & set(processes_naming(tmp_path)), "PostgreSQL's children are seen"
    family = children(demo.pid)
    demo.process.kill()
    await demo.ended()
    await eventually(lambda: not alive(family), 30)
    await eventually(lambda: not processes_naming(tmp_path), 30)


async def is_stopped_by(number: signal.Signals, demo: Demo) -> None:
    """Stop it, and see the exit code, no process and no folder of it."""
    family = children(demo.pid)
    demo.process.send_signal(number)
    ended: Ended = await asyncio.wait_for(demo.ended(), 60)
    assert (ended.code, ended.out) == (INTERRUPTED, ""), ended.err
    assert "Traceback" not in ended.err
    await eventually(lambda: not alive(family), 30)
    # Also who was born after we looked; a bootstrapping PostgreSQL ends a moment after the program that began it.
    await eventually(lambda: processes_naming(demo.folder), 30, until=lambda left: not left, what="the last process")
    assert not demo.folder.exists()


async def the_devices_are_half_mqtt(demo: Demo) -> None:
    tenants = await eventually(lambda: demo.rows("SELECT name FROM tenants"), 20, until=lambda rows: len(rows) >= 2)
    assert sorted(row["name"] for row in tenants) == list(TENANTS)
    over_mqtt = await eventually(demo.mqtt_devices, 20, until=lambda names: len(names) >= 25)
    devices = {row["device_id"] for row in await demo.rows("SELECT device_id FROM devices")}
    assert (len(over_mqtt), len(devices)) == (25, 50)
    assert over_mqtt < devices
    senders = await eventually(
        lambda: demo.rows("SELECT DISTINCT device_id FROM telemetry"), 20, until=lambda rows: len(rows) >= 50
    )
    assert {row["device_id"] for row in senders} == devices


async def they_replay_the_recorded_series(demo: Demo) -> None:
    """Each message is a day as it was recorded, and a device's next message is the next day."""
    with SERIES.open(encoding="utf-8", newline="") as file:
        recorded = list(csv.DictReader(file))
    number_of = {day["date"]: number for number, day in enumerate(recorded)}
    numbers: dict[str, dict[int, int]] = defaultdict(dict)
    for row in await demo.rows("SELECT device_id, payload::text FROM telemetry"):
        payload = json.loads(row["payload"])
        day = recorded[number := number_of[payload["day"]]]
        assert {name: float(day[name]) for name in payload["metrics"]} == payload["metrics"]
        assert (len(payload["metrics"]), payload["weather"]) == (4, day["weather"])
        numbers[row["device_id"]][payload["seq"]] = number
    assert all(
        later == (earlier + 1) % len(recorded)
        for of_device in numbers.values()
        for seq, earlier in of_device.items()
        if (later := of_device.get(seq + 1)) is not None
    )
    assert len({number for of_device in numbers.values() for number in of_device.values()}) > 50


async def the_destinations_are_of_each_temper(demo: Demo) -> None:
    dead = await eventually(
        lambda: demo.rows("SELECT tenant_id, reason, error_message FROM dead_letter_messages"),
        20,
        until=lambda rows: {row["tenant_id"] for row in rows} == set(TENANTS),
    )
    assert {row["reason"] for row in dead} == {"max_age"}
    assert not [row for row in dead if "not delivered within 5 s" not in row["error_message"]]
    failed = await demo.rows(
        "SELECT l.error FROM delivery_log l JOIN message_routes r USING (route_id) WHERE r.name = 'dead'"
    )
    assert failed
    assert not [row for row in failed if "refused" not in row["error"]]
    routes = await demo.rows("SELECT tenant_id, name, kind, policy, payload_filter FROM message_routes")
    kinds = {(row["tenant_id"], row["name"]): row["kind"] for row in routes}
    webhooks = {(tenant, name): "webhook" for tenant in TENANTS for name in ("healthy", "slow", "dead", "warm")}
    assert kinds == webhooks | {(tenant, "republished"): "mqtt_republish" for tenant in TENANTS}
    ages = [json.loads(row["policy"]).get("max_age_s") for row in routes if row["name"] == "dead"]
    assert ages == [5, 5]
    assert all(bool(row["payload_filter"]) == (row["name"] == "warm") for row in routes)
    slow = await demo.rows(
        "SELECT l.duration_ms FROM delivery_log l JOIN message_routes r USING (route_id) WHERE r.name = 'slow'"
    )
    assert slow
    # A busy machine makes some of them slower.
    assert 2000 <= min(row["duration_ms"] for row in slow) < 4000


def assert_balanced(ledger: dict[str, Any]) -> None:
    assert set(ledger) == KEYS
    assert (ledger["lost"], ledger["duplicates"], ledger["waiting"]) == (0, 0, 0)
    assert ledger["accepted"] >= 100, "each device sent more than once"
    assert 0 < ledger["healthy_p50_ms"] <= ledger["healthy_p99_ms"]
    assert ledger["quarantined"] == 1
    assert ledger["stored"] == ledger["accepted"] - 1
    accounts = {(account["tenant"], account["name"]): account for account in ledger["routes"]}
    for tenant in TENANTS:
        assert accounts[tenant, "healthy"]["delivered"] == accounts[tenant, "healthy"]["matched"] > 0
        assert accounts[tenant, "slow"]["delivered"] == accounts[tenant, "slow"]["matched"] > 0
        assert accounts[tenant, "dead"]["dead_lettered"] == accounts[tenant, "dead"]["matched"] > 0
        assert 0 < accounts[tenant, "warm"]["matched"] < accounts[tenant, "healthy"]["matched"]
        assert accounts[tenant, "republished"]["delivered"] == accounts[tenant, "healthy"]["matched"]
