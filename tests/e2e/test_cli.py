"""Every command, as a user types it."""

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncGenerator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook
from support.cli import PULSE, Running, pulse, pulse_up
from support.cli_devices import answers, may_connect, post, routes_are_known
from support.processes import alive, children, command_line, processes_naming
from support.receiver import Receiver, always
from support.secrets import PREFIXES, secrets_of
from support.waiting import eventually

_numbers = count(1)
PATIENT = ["--policy", '{"backoff": {"first_s": 600, "cap_s": 600}}']


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Running]:
    async with pulse_up(tmp_path_factory.mktemp("cli") / "data") as running:
        yield running


@pytest.fixture
async def tenant(stack: Running) -> str:
    made = await stack.pulse("tenant", "create", f"acme-{next(_numbers)}", "--json")
    return made.json["tenant_id"]


async def test_up_announces_every_address_on_one_line(stack: Running) -> None:
    assert set(stack.announced) == {"http", "mqtt", "nats", "postgres", "metrics"}
    assert set(stack.announced["metrics"]) == {"ingest", "router", "delivery"}
    async with httpx.AsyncClient() as client:
        for url in stack.announced["metrics"].values():
            assert (await client.get(url)).status_code == 200


async def test_folder_in_use_is_refused_with_the_pid(stack: Running) -> None:
    said = await stack.pulse("up", "--json")
    assert said.code == 2
    assert f"in use by process {stack.pid}" in said.err
    assert not said.out


async def test_children_end_with_their_stack_which_told_no_secret(tmp_path: Path) -> None:
    async with pulse_up(tmp_path / "data") as running:
        below = processes_naming(running.data)
        assert below
        await running.pulse("tenant", "create", "acme")
        secrets = secrets_of(running.data)
    assert not processes_naming(tmp_path / "data")
    said = await running.ended
    assert (said.code, json.loads(said.out)) == (0, running.announced)
    assert not [secret for secret in (*secrets, *PREFIXES) if secret in said.out + said.err]


async def test_without_a_stack_commands_end_with_3(tmp_path: Path) -> None:
    commands = [
        ["tenant", "list"],
        ["device", "create", "d", "--tenant", "a"],
        ["route", "show", "r", "--tenant", "a"],
        ["dlq", "list", "--tenant", "a"],
        ["trace", "01900000-0000-7000-8000-000000000000"],
        ["migrate"],
        ["provision"],
        ["top"],
    ]
    for said in await asyncio.gather(*(pulse(*command, cwd=tmp_path) for command in commands)):
        assert said.code == 3
        assert "no stack runs on .pulse" in said.err
        assert "pulse up" in said.err
        assert "Traceback" not in said.err
    assert not list(tmp_path.iterdir())


async def test_migrate_and_provision_find_nothing_to_do(stack: Running) -> None:
    assert (await stack.pulse("migrate", "--json")).json == {"applied": []}
    assert (await stack.pulse("provision", "--json")).json == {"changed": []}


async def test_tenants_are_created_once_and_listed(stack: Running) -> None:
    made = (await stack.pulse("tenant", "create", "listed", "--name", "Listed Ltd", "--json")).json
    assert made["tenant_id"] == "listed"
    assert made["ingest_key"].startswith("key_")
    [row] = [row for row in (await stack.pulse("tenant", "list", "--json")).json if row["tenant_id"] == "listed"]
    assert row["name"] == "Listed Ltd"
    assert made["ingest_key"] not in json.dumps(row)
    again = await stack.pulse("tenant", "create", "listed")
    assert (again.code, again.err.startswith("pulse: tenant_id: ")) == (2, True)
    plain = await stack.pulse("tenant", "list")
    assert "listed" in plain.out


async def test_devices_are_created_and_listed(stack: Running, tenant: str) -> None:
    made = (await stack.pulse("device", "create", "d1", "d2", "--tenant", tenant, "--json")).json
    assert [device["device_id"] for device in made] == ["d1", "d2"]
    listed = await stack.pulse("device", "list", "--tenant", tenant, "--json")
    assert [device["device_id"] for device in listed.json] == ["d1", "d2"]
    assert made[0]["token"] not in listed.out


_ROUTE = ["route", "create", "--name", "r", "--tenant", "{tenant}"]
_EVERYTHING = [*_ROUTE, "--topic-filter", "#"]
_HOOK = [*_EVERYTHING, "--webhook", "http://127.0.0.1/"]
REFUSED: list[tuple[list[str], str]] = [
    (["tenant", "create", "Not A Tenant"], "tenant_id"),
    (["device", "create", "a/b", "--tenant", "{tenant}"], "device_id"),
    ([*_ROUTE, "--topic-filter", "a/#/b", "--webhook", "http://127.0.0.1/"], "topic_filter"),
    ([*_ROUTE, "--topic-filter", "$share/g/#", "--webhook", "http://127.0.0.1/"], "topic_filter"),
    ([*_EVERYTHING, "--webhook", "http://10.0.0.1/"], "config.url"),
    ([*_EVERYTHING, "--webhook", "ftp://127.0.0.1/"], "config.url"),
    ([*_EVERYTHING, "--mqtt-topic", "tenant/other/x"], "config.topic"),
    ([*_EVERYTHING, "--mqtt-topic", "tenant/{tenant}/device/d/x"], "config.topic"),
    ([*_EVERYTHING, "--kind", "fax", "--config", "{}"], "kind"),
    ([*_EVERYTHING, "--kind", "webhook", "--config", "["], "config"),
    (_EVERYTHING, "destination"),
    ([*_HOOK, "--payload-filter", '{"t": {"$above": 1}}'], "payload_filter.t.$above"),
    ([*_HOOK, "--policy", '{"backoff": {"first_s": -1}}'], "policy.backoff.first_s"),
    ([*_HOOK, "--expression", "payload.t >"], "expression"),
    ([*_HOOK, "--payload-filter", '{"a": 1, "a": 2}'], "payload_filter"),
    ([*_HOOK, "--payload-filter", '{"a": "\\ud800"}'], "payload_filter.a"),
    (["tenant", "create", "x", "--name", "\udcff"], "name"),
    (["provision", "--replicas", "3"], "STREAM.UPDATE.TELEMETRY"),
    (["trace", "nope"], "message_id"),
]


async def test_refused_input_names_the_field(stack: Running, tenant: str) -> None:
    commands = [[part.replace("{tenant}", tenant) for part in command] for command, _ in REFUSED]
    saids = await asyncio.gather(*(stack.pulse(*command) for command in commands))
    for (_, field), said in zip(REFUSED, saids, strict=True):
        assert (said.code, said.out) == (2, "")
        assert said.err.startswith(f"pulse: {field}: "), said.err
        assert "Traceback" not in said.err
    assert (await stack.pulse("route", "list", "--tenant", tenant, "--json")).json == []


async def test_unknown_things_end_with_4(stack: Running, tenant: str) -> None:
    commands = [
        ["route", "show", "nope"],
        ["route", "update", "nope", "--name", "n"],
        ["route", "enable", "nope"],
        ["route", "disable", "nope"],
        ["route", "delete", "nope"],
        ["route", "secret", "show", "nope"],
        ["route", "secret", "rotate", "nope"],
        ["device", "rotate", "nope"],
        ["device", "revoke", "nope"],
        ["dlq", "show", "01900000-0000-7000-8000-000000000000"],
        ["trace", "01900000-0000-7000-8000-000000000000"],
    ]
    for said in await asyncio.gather(*(stack.pulse(*command, "--tenant", tenant) for command in commands)):
        assert said.code == 4, said.err
        assert said.err.startswith("pulse: ")
        assert "Traceback" not in said.err


async def test_unknown_tenant_ends_with_4(stack: Running) -> None:
    commands = [["device", "create", "d"], ["device", "list"], ["route", "list"], ["dlq", "list"]]
    saids = await asyncio.gather(*(stack.pulse(*command, "--tenant", "nobody") for command in commands))
    assert [said.code for said in saids] == [4, 4, 4, 4], saids
    assert all("nobody" in said.err for said in saids)


async def test_route_through_its_life(stack: Running, tenant: str, receiver: Receiver) -> None:
    url = receiver.url("/life")
    arguments = ["--tenant", tenant, "--json"]
    made = (
        await stack.pulse("route", "create", "--name", "life", "--topic-filter", "#", "--webhook", url, *arguments)
    ).json
    assert made["secret"].startswith("whsec_")
    token = (await stack.pulse("device", "create", "d", *arguments)).json[0]["token"]
    await routes_are_known(stack)
    await post(stack, tenant, "d", token, 202)
    [request] = await eventually(lambda: receiver.of("/life"))
    Webhook(made["secret"]).verify(request.body, request.headers)

    [listed] = (await stack.pulse("route", "list", *arguments)).json
    assert (listed["route_id"], listed["name"], listed["enabled"]) == (made["route_id"], "life", True)
    shown = await stack.pulse("route", "show", made["route_id"], *arguments)
    assert shown.json["config"] == {"url": url}
    assert shown.json["state"]["lane"] == "fast"
    assert made["secret"] not in shown.out

    update = ["route", "update", "life", "--payload-filter", '{"v": {"$gt": 5}}', "--policy", '{"max_age_s": 60}']
    assert (await stack.pulse(*update, *arguments)).json == {"revision": 2}
    assert (await stack.pulse("route", "disable", "life", *arguments)).json["enabled"] is False
    assert (await stack.pulse("route", "enable", "life", *arguments)).json["enabled"] is True
    shown = await stack.pulse("route", "show", "life", *arguments)
    assert (shown.json["payload_filter"], shown.json["policy"]) == ({"v": {"$gt": 5}}, {"max_age_s": 60})
    assert (await stack.pulse("route", "delete", "life", *arguments)).json["deleted"] is True
    assert (await stack.pulse("route", "list", *arguments)).json == []


async def test_routes_of_every_kind_can_be_made(stack: Running, tenant: str) -> None:
    arguments = ["--topic-filter", "#", "--tenant", tenant, "--json"]
    topic = f"tenant/{tenant}/copy"
    destinations = {
        "mqtt": ["--mqtt-topic", topic],
        "pg": ["--kind", "postgresql"],
        "nats": ["--kind", "nats", "--config", '{"subject": "all"}'],
        "hook": ["--kind", "webhook", "--config", '{"url": "http://127.0.0.1:9/"}'],
    }
    commands = [["route", "create", "--name", name, *chosen, *arguments] for name, chosen in destinations.items()]
    made = [said.json for said in await asyncio.gather(*(stack.pulse(*command) for command in commands))]
    assert {route["name"] for route in made if route["secret"]} == {"hook"}
    listed = (await stack.pulse("route", "list", "--tenant", tenant, "--json")).json
    assert {route["kind"] for route in listed} == {"mqtt_republish", "postgresql", "nats", "webhook"}
    twice = await stack.pulse("route", "create", "--name", "pg", "--kind", "postgresql", *arguments)
    assert (twice.code, twice.err.startswith("pulse: name: ")) == (2, True)


async def test_rotated_secret_signs_beside_the_old_one(stack: Running, tenant: str, receiver: Receiver) -> None:
    arguments = ["--tenant", tenant, "--json"]
    route = ["--name", "r", "--topic-filter", "#", "--webhook", receiver.url("/rotated")]
    old = (await stack.pulse("route", "create", *route, *arguments)).json["secret"]
    token = (await stack.pulse("device", "create", "d", *arguments)).json[0]["token"]
    new = (await stack.pulse("route", "secret", "rotate", "r", *arguments)).json["secret"]
    assert new != old
    assert (await stack.pulse("route", "secret", "show", "r", *arguments)).json == {"secrets": [new, old]}

    async def signed_twice() -> bool:
        await post(stack, tenant, "d", token, 202)
        return any(len(request.headers["webhook-signature"].split()) == 2 for request in receiver.of("/rotated"))

    await eventually(signed_twice)
    # Beside it, one that was sent before may arrive after it.
    request = next(one for one in receiver.of("/rotated") if len(one.headers["webhook-signature"].split()) == 2)
    for secret in (old, new):
        Webhook(secret).verify(request.body, request.headers)
    newest = (await stack.pulse("route", "secret", "rotate", "r", *arguments)).json["secret"]
    assert (await stack.pulse("route", "secret", "show", "r", *arguments)).json == {"secrets": [newest, new]}


async def test_rotated_and_revoked_devices_are_refused_everywhere(stack: Running, tenant: str) -> None:
    arguments = ["--tenant", tenant, "--json"]
    first = (await stack.pulse("device", "create", "d", *arguments)).json[0]["token"]
    await post(stack, tenant, "d", first, 202)
    assert await may_connect(stack, tenant, "d", first)

    second = (await stack.pulse("device", "rotate", "d", *arguments)).json["token"]
    await eventually(lambda: answers(stack, tenant, "d", first, 401))
    await post(stack, tenant, "d", second, 202)
    assert not await may_connect(stack, tenant, "d", first)
    assert await may_connect(stack, tenant, "d", second)

    assert (await stack.pulse("device", "revoke", "d", *arguments)).json["revoked"] is True
    await eventually(lambda: answers(stack, tenant, "d", second, 401))
    assert not await may_connect(stack, tenant, "d", second)
    [row] = (await stack.pulse("device", "list", *arguments)).json
    assert row["revoked_at"]


async def test_dead_letters_are_listed_and_shown(stack: Running, tenant: str, receiver: Receiver) -> None:
    arguments = ["--tenant", tenant, "--json"]
    receiver.behaviour["/dead"] = always(404)
    secret = '{"secret_headers": {"X-Key": "canary-4711"}}'
    await stack.pulse(
        *("route", "create", "--name", "r", "--topic-filter", "#", "--webhook", receiver.url("/dead")),
        *("--config", secret, *arguments),
    )
    listed_route = await stack.pulse("route", "show", "r", *arguments)
    assert listed_route.json["config"]["secret_headers"] == "***"
    token = (await stack.pulse("device", "create", "d", *arguments)).json[0]["token"]

    async def listed() -> list[Any]:
        return (await stack.pulse("dlq", "list", *arguments)).json

    assert await listed() == []
    await routes_are_known(stack)
    message_id = await post(stack, tenant, "d", token, 202)
    [dead] = await eventually(listed)
    assert (dead["message_id"], dead["reason"]) == (message_id, "status_404")
    [shown] = (await stack.pulse("dlq", "show", message_id, *arguments)).json
    assert shown["payload"] == {"v": 9}
    assert shown["destination_config"] == {"url": receiver.url("/dead"), "secret_headers": "***"}


async def test_top_shows_the_worst_routes_and_what_waits(stack: Running, tenant: str, receiver: Receiver) -> None:
    arguments = ["--tenant", tenant, "--json"]
    receiver.behaviour["/top"] = always(503)
    # Tried once: a head that goes to the tail counts twice for a moment.
    route = ["--name", "r", "--topic-filter", "#", "--webhook", receiver.url("/top"), *PATIENT]
    route_id = (await stack.pulse("route", "create", *route, *arguments)).json["route_id"]
    token = (await stack.pulse("device", "create", "d", *arguments)).json[0]["token"]
    await routes_are_known(stack)
    for _ in range(3):
        await post(stack, tenant, "d", token, 202)

    async def sight() -> Any:
        return (await stack.pulse("top", "--seconds", "0.2", "--routes", "100", "--json")).json

    def of_mine(seen: Any) -> list[Any]:
        return [one for one in seen["worst_routes"] if one["route"] == route_id and one["waiting"] == 3]

    seen = await eventually(sight, 30, until=of_mine)
    [mine] = of_mine(seen)
    assert (mine["tenant"], mine["kind"], bool(mine["cause"])) == (tenant, "webhook", True)
    assert seen["owed"]["siding"]["messages"] >= 3
    assert seen["owed"]["siding"]["oldest_age_s"] >= mine["oldest_age_s"] > 0
    said = await stack.pulse("top", "--once", "--seconds", "0.2", "--routes", "100")
    assert (said.code, said.err) == (0, "")
    flow, waiting, *rows = said.out.splitlines()
    assert re.match(r"\d\d:\d\d:\d\d  accepted [\d.]+/s  stored ", flow)
    assert waiting.startswith("waiting: not stored ")
    assert [row.split()[:4] for row in rows if route_id in row] == [[tenant, route_id, "webhook", "3"]]


async def test_top_goes_on_until_it_is_interrupted(stack: Running, tenant: str) -> None:
    token = (await stack.pulse("device", "create", "d", "--tenant", tenant, "--json")).json[0]["token"]
    command = [PULSE, "top", "--seconds", "0.5", "--data", str(stack.data)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout
    rates: list[float] = []
    try:
        async with asyncio.timeout(30):
            while not any(rates):
                await post(stack, tenant, "d", token, 202)
                rates += map(float, re.findall(r"accepted ([\d.]+)/s", (await process.stdout.readline()).decode()))
    finally:
        process.send_signal(signal.SIGINT)
        _, _ = await process.communicate()
    assert process.returncode == 130


async def test_a_message_is_traced_from_what_is_on_record(stack: Running, tenant: str, receiver: Receiver) -> None:
    arguments = ["--topic-filter", "#", "--tenant", tenant, "--json"]
    receiver.behaviour |= {"/busy": always(503), "/dead": always(404)}
    for name in ("well", "dead", "busy"):
        await stack.pulse(
            *("route", "create", "--name", name, "--webhook", receiver.url(f"/{name}"), *PATIENT, *arguments)
        )
    token = (await stack.pulse("device", "create", "d", *arguments[2:])).json[0]["token"]
    other = (await stack.pulse("tenant", "create", f"{tenant}-b", "--json")).json["tenant_id"]
    await routes_are_known(stack)
    message_id = await post(stack, tenant, "d", token, 202)

    async def trail() -> dict[str, Any]:
        # At no moment since it was accepted is nothing known of it.
        return (await stack.pulse("trace", message_id, "--json")).json

    def is_settled(found: dict[str, Any]) -> bool:
        fates = {route["name"]: route["fate"] for route in found["routes"]}
        is_fated = fates == {"well": "delivered", "dead": "dead_letter", "busy": "siding"}
        # What is stored, judged, tried and buried is put on record by one writer each, at its own pace.
        is_on_record = (found["stored"], found["routed"], found["generation"]) == ("done", "done", 3)
        return is_fated and is_on_record and all(route["attempts"] for route in found["routes"])

    found = await eventually(trail, 60, until=is_settled, what="every fate")
    assert (found["tenant_id"], found["stored"], found["routed"]) == (tenant, "done", "done")
    assert found["topic"] == f"tenant/{tenant}/device/d/data"
    by_name = {route["name"]: route for route in found["routes"]}
    assert [attempt["status"] for attempt in by_name["well"]["attempts"]] == [204]
    assert by_name["dead"]["reason"].startswith("status_404: ")
    assert by_name["busy"]["attempts"][0]["status"] == 503
    assert found["received_at"] < found["routed_at"] < by_name["busy"]["since"]

    drawn = await stack.pulse("trace", message_id, "--tenant", tenant)
    lines = drawn.out.splitlines()
    assert lines[0] == f"{message_id}  tenant {tenant}  {found['topic']}"
    assert [line.split()[-1] for line in lines if "took" in line].count("204") == 1
    assert all(any(route["route_id"] in line for line in lines) for route in found["routes"])
    assert '"v"' not in drawn.out, "no payload"

    elsewhere = await stack.pulse("trace", message_id, "--tenant", other)
    assert (elsewhere.code, elsewhere.out) == (4, "")
    assert tenant not in elsewhere.err.replace(other, "")


@pytest.mark.parametrize("victim", ["-m pulse_ingest", "nats-server"])
async def test_what_is_killed_is_back_at_the_same_addresses(stack: Running, tenant: str, victim: str) -> None:
    token = (await stack.pulse("device", "create", "d", "--tenant", tenant, "--json")).json[0]["token"]
    await post(stack, tenant, "d", token, 202)
    [killed] = _called(stack, victim)
    os.kill(killed, signal.SIGKILL)
    await eventually(lambda: not alive({killed}))

    [successor] = await eventually(lambda: _called(stack, victim), 30)
    assert successor != killed
    await eventually(lambda: answers(stack, tenant, "d", token, 202), 30)
    assert await eventually(lambda: may_connect(stack, tenant, "d", token), 30)
    listed = await stack.pulse("tenant", "list", "--json")
    assert tenant in {row["tenant_id"] for row in listed.json}


def _called(stack: Running, program: str) -> list[int]:
    return [pid for pid in children(stack.pid) if program in command_line(pid)]
