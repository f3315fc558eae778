"""What must not get in: refused with the right status or quarantined with the right reason, and nobody is hurt."""

import json
from collections.abc import Mapping
from typing import Any

import aiomqtt
import httpx
import pytest
from support.pulse import SERVICE_NAMES, Pulse
from support.secrets import secrets_of
from support.tenant import Device, Tenant
from support.waiting import eventually

MIB = 1024 * 1024
_KEPT_BYTES = 4 * 1024
"""So much of what is quarantined is kept."""

BODIES: Mapping[str, tuple[bytes, str]] = {
    "not json": (b'{"a": ', "payload_not_json"),
    "empty": (b"", "payload_not_json"),
    "not utf-8": (b'{"a": "\xff"}', "payload_not_utf8"),
    "nan": (b'{"a": NaN}', "payload_number"),
    "infinity": (b'{"a": -Infinity}', "payload_number"),
    "float out of range": (b'{"a": 1e999}', "payload_number"),
    "integer beyond 64 bits": (b'{"a": 9223372036854775808}', "payload_number"),
    "nul": (b'{"a": "x\\u0000y"}', "payload_nul"),
    "nul in a key": (b'{"x\\u0000y": 1}', "payload_nul"),
    "lone surrogate": (b'{"a": "\\ud800"}', "payload_surrogate"),
    "duplicate keys": (b'{"a": {"b": 1, "b": 2}}', "payload_duplicate_key"),
    "deep": (b'{"a":' * 40 + b"1" + b"}" * 40, "payload_too_deep"),
    "very deep": (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "payload_too_deep"),
    "many keys": (json.dumps({str(n): n for n in range(1001)}).encode(), "payload_too_many_keys"),
    "array": (b"[1]", "payload_not_object"),
    "number": (b"1", "payload_not_object"),
    "1 MB": (b'{"a": "' + b"x" * 1_000_000 + b'"}', "payload_too_large"),
    "message id of the wrong type": (b'{"message_id": 7}', "message_id_invalid"),
    "message id too long": (b'{"message_id": "' + b"x" * 300 + b'"}', "message_id_invalid"),
}


@pytest.fixture(scope="module")
async def pids(pulse: Pulse) -> dict[str, int]:
    """The processes that must still be there at the end."""
    return {name: pulse.stack.pid(name) for name in (*SERVICE_NAMES, "nats", "postgres")}


@pytest.fixture(autouse=True)
async def nobody_is_hurt(pulse: Pulse, pids: dict[str, int]) -> Any:
    yield
    assert pids == {name: pulse.stack.pid(name) for name in pids}
    for name in SERVICE_NAMES:
        assert (await pulse.admin(name, "/ready")).json() == {"ready": True, "reasons": {}}


@pytest.mark.parametrize("name", BODIES)
async def test_bad_body_over_http_is_refused(pulse: Pulse, name: str) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device()
    body, reason = BODIES[name]
    answer = await device.post(body)
    assert answer.status_code == (413 if reason == "payload_too_large" else 400)
    assert answer.json()["error"]["reason"] == reason
    assert answer.json()["error"]["message"].startswith(answer.json()["error"]["field"].partition(".")[0])
    await _nothing_but_the_next_is_stored(tenant, device)
    assert not await tenant.quarantined()


@pytest.mark.parametrize("name", [name for name in BODIES if name != "1 MB"])
async def test_bad_body_over_mqtt_is_quarantined(pulse: Pulse, name: str) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device()
    body, reason = BODIES[name]
    await device.publish(body)
    [record] = await eventually(tenant.quarantined)
    await eventually(lambda: pulse.log("ingest", "records_stored", table="quarantine"), what="the batch's line")
    assert (record["topic"], record["reason"]) == (device.topic(), reason)
    assert record["payload"] == body[:_KEPT_BYTES]
    await _nothing_but_the_next_is_stored(tenant, device)


async def test_large_payload_over_mqtt_is_quarantined_in_part(pulse: Pulse) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device()
    body = b'{"a": "' + b"x" * 1_000_000 + b'"}'
    await device.publish(body)
    [record] = await eventually(tenant.quarantined)
    assert (record["reason"], record["payload"]) == ("payload_too_large", body[:_KEPT_BYTES])
    await _nothing_but_the_next_is_stored(tenant, device)


async def test_wrong_token_is_refused_over_http(pulse: Pulse) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device()
    wrong = await device.post({"v": 1}, token="dev_canary-wrong-token")
    none = await pulse.http.post(
        f"/ingest/v1/tenant/{tenant.tenant_id}/device/d1/data", json={}, headers={"authorization": ""}
    )
    assert wrong.status_code == none.status_code == 401
    assert wrong.json() == none.json()
    assert wrong.headers["www-authenticate"] == "Bearer"
    await _nothing_but_the_next_is_stored(tenant, device)


async def test_wrong_token_is_refused_over_mqtt(pulse: Pulse) -> None:
    device = await (await pulse.tenant()).device()
    with pytest.raises(aiomqtt.MqttError):
        async with device.mqtt(token="dev_canary-wrong-token"):
            pass


async def test_a_device_that_was_never_made_is_refused_over_mqtt(pulse: Pulse) -> None:
    tenant = await pulse.tenant()
    made = await tenant.device()
    for name, token in (("never-made", made.token), ("never-made", tenant.key), ("never-made", "")):
        with pytest.raises(aiomqtt.MqttError):
            async with Device(tenant=tenant, device_id=name, token=token).mqtt():
                pass
    assert not await tenant.quarantined()


async def test_a_device_that_only_the_broker_still_lets_in_is_quarantined(pulse: Pulse) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device()
    await pulse.rows("UPDATE devices SET revoked_at = now() WHERE tenant_id = $1", tenant.tenant_id)
    await eventually(lambda: device.post({}), what="a registry without the device", until=_is_unauthorized)
    await device.publish({"v": 1})
    [record] = await eventually(tenant.quarantined)
    assert (record["topic"], record["reason"], record["payload"]) == (device.topic(), "device_unknown", b'{"v": 1}')
    assert not [row for row in await tenant.stored() if json.loads(row["payload"])]


async def test_another_device_or_tenant_is_forbidden_over_http(pulse: Pulse) -> None:
    tenant, stranger = await pulse.tenant(), await pulse.tenant()
    mine, sibling = await pulse.devices(tenant, "mine", "sibling")
    foreign = await stranger.device()
    unknown = Device(tenant=stranger, device_id="never-made", token=mine.token)
    answers = [await other.post({"v": 1}, token=mine.token) for other in (sibling, foreign, unknown)]
    assert [answer.status_code for answer in answers] == [403, 403, 403]
    assert len({answer.text for answer in answers}) == 1
    for device in (sibling, foreign):
        await _nothing_but_the_next_is_stored(device.tenant, device)


async def test_unknown_device_is_refused_over_http(pulse: Pulse) -> None:
    tenant = await pulse.tenant()
    unknown = Device(tenant=tenant, device_id="never-made", token=tenant.key)
    answer = await unknown.post({"v": 1})
    assert (answer.status_code, answer.json()["error"]["reason"]) == (404, "device_unknown")
    item: dict[str, object] = {
        "tenant_id": tenant.tenant_id,
        "device_id": "never-made",
        "type": "data",
        "payload": {},
    }
    batch = await pulse.http.post("/ingest/v1/batch", json=[item], headers={"authorization": f"Bearer {tenant.key}"})
    assert [result["status"] for result in batch.json()["results"]] == [404]
    await _nothing_but_the_next_is_stored(tenant, await tenant.device())


async def test_another_devices_topic_is_not_taken_over_mqtt(pulse: Pulse) -> None:
    tenant, stranger = await pulse.tenant(), await pulse.tenant()
    mine, sibling = await pulse.devices(tenant, "mine", "sibling")
    foreign = await stranger.device()
    for other in (sibling, foreign, Device(tenant=stranger, device_id="never-made", token="")):
        try:
            async with mine.mqtt() as client:
                await client.publish(other.topic(), b'{"v": "stolen"}', qos=1, timeout=2)
        except aiomqtt.MqttError:
            pass  # a broker may refuse by closing; what counts is that nothing gets in
    for device in (sibling, foreign, mine):
        await device.publish({"v": "own"})
    await eventually(tenant.stored, until=lambda rows: len(rows) >= 2)
    await eventually(stranger.stored, until=lambda rows: len(rows) >= 1)
    payloads = [json.loads(row["payload"]) for row in (*await tenant.stored(), *await stranger.stored())]
    assert payloads == [{"v": "own"}] * 3
    assert not await stranger.quarantined()


@pytest.mark.parametrize(
    "message_type", ["a//b", "a%2Bb", "a b", "a/", "/".join(["x"] * 17), "x" * 600, "a%00b", "%23"]
)
async def test_bad_topic_over_http_is_refused(pulse: Pulse, message_type: str) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device()
    answer = await device.post({"v": 1}, message_type)
    assert answer.status_code == 400
    assert answer.json()["error"]["reason"] == "topic_invalid"
    await _nothing_but_the_next_is_stored(tenant, device)


@pytest.mark.parametrize("message_type", ["a//b", "a/", "/".join(["x"] * 17), "x" * 600])
async def test_bad_topic_over_mqtt_is_quarantined(pulse: Pulse, message_type: str) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device()
    await device.publish({"v": 1}, message_type)
    [record] = await eventually(tenant.quarantined)
    assert (record["topic"], record["reason"]) == (device.topic(message_type), "topic_invalid")
    await _nothing_but_the_next_is_stored(tenant, device)


async def test_other_paths_and_methods_are_not_found(pulse: Pulse) -> None:
    answers = [
        await pulse.http.post("/"),
        await pulse.http.get("/ingest/v1/batch"),
        await pulse.http.post("/ingest/v1/tenant/t"),
    ]
    assert [answer.status_code in {404, 405} for answer in answers] == [True, True, True]
    assert all(answer.json()["error"]["message"] for answer in answers)


async def test_mixed_batch_is_judged_item_by_item(pulse: Pulse) -> None:
    tenant, stranger = await pulse.tenant(), await pulse.tenant()
    device, foreign = await tenant.device(), await stranger.device()
    good: dict[str, Any] = {"tenant_id": tenant.tenant_id, "device_id": "d1", "type": "data", "payload": {"v": 1}}
    items: list[Any] = [
        {**good, "token": device.token},
        {**good, "token": "dev_canary-wrong-token"},
        {**good, "token": foreign.token},
        good,
        {**good, "token": device.token, "payload": [1]},
        {**good, "token": device.token, "type": "a//b"},
        {**good, "token": device.token, "device_id": 7},
        7,
        {**good, "token": device.token, "payload": {"a": "x" * 300_000}},
        {**good, "token": device.token, "payload": {"v": 2}},
    ]
    answer = await pulse.http.post("/ingest/v1/batch", json=items)
    assert answer.status_code == 207
    results = answer.json()["results"]
    assert [result["status"] for result in results] == [202, 401, 403, 401, 400, 400, 400, 400, 413, 202]
    await eventually(tenant.stored, until=lambda rows: len(rows) >= 2)
    assert {row["message_id"] for row in await tenant.stored()} == {results[0]["message_id"], results[-1]["message_id"]}
    assert not await stranger.stored()


async def test_bad_line_of_a_batch_costs_one_item(pulse: Pulse) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device()
    good = json.dumps(
        {"tenant_id": tenant.tenant_id, "device_id": "d1", "type": "x", "token": device.token, "payload": {}}
    ).encode()
    lines = [good, b'{"payload": NaN}', b"\xff", b"{", good]
    answer = await pulse.http.post("/ingest/v1/batch", content=b"\n".join(lines))
    assert answer.status_code == 207
    assert [result["status"] for result in answer.json()["results"]] == [202, 400, 400, 400, 202]
    await eventually(tenant.stored, until=lambda rows: len(rows) >= 2)


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"[]", 400), (b"[1,", 400), (b"[" + b"1," * 1000 + b"1]", 400), (b"x" * 5 * MIB, 413)],
)
async def test_batch_that_is_none_is_refused(pulse: Pulse, body: bytes, status: int) -> None:
    assert (await pulse.http.post("/ingest/v1/batch", content=body)).status_code == status


async def test_no_secret_is_in_any_log(pulse: Pulse) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device()
    route = await tenant.webhook(
        "http://127.0.0.1:9/?canary-query-secret", config={"secret_headers": {"x-key": "canary-secret-header"}}
    )
    token_as_id = await device.accepted({"note": "canary-payload"}, authorization_copy=device.token)
    await device.publish(b"canary-payload not json")
    await eventually(tenant.quarantined)
    await eventually(lambda: pulse.log("delivery", "route_attempt_failed", message_id=token_as_id))

    canaries = {
        "canary-wrong-token",
        "canary-query-secret",
        "canary-secret-header",
        "canary-payload",
        device.token,
        tenant.key,
        route.secret,
        route.secret.removeprefix("whsec_"),
        *secrets_of(pulse.folder.path),
    }
    found = {
        (log.name, canary)
        for log in pulse.folder.logs.iterdir()
        for canary in canaries
        if canary in log.read_text(encoding="utf-8", errors="replace")
    }
    assert not found
    assert pulse.log("ingest", "message_quarantined"), "the logs were read"


def _is_unauthorized(answer: httpx.Response) -> bool:
    return answer.status_code == 401


async def _nothing_but_the_next_is_stored(tenant: Tenant, device: Device) -> None:
    """Send a good message, and see that it is all there is: a fence instead of waiting for nothing."""
    message_id = await device.accepted({"fence": True})
    rows = await eventually(tenant.stored)
    assert [row["message_id"] for row in rows] == [message_id]
