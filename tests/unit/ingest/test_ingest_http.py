import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import structlog
from ingest_builders import (
    ACME,
    ACME_KEY,
    OTHER_TOKEN,
    SENSOR,
    SENSOR_TOKEN,
    registry,
)
from ingest_fakes import DevicesInMemory, QuarantineInMemory, TelemetryInMemory
from prometheus_client import CollectorRegistry

from pulse_contracts.ids import supplied_message_id
from pulse_ingest.adapters.arrivals import Arrivals
from pulse_ingest.domain.admission import MAX_PAYLOAD_BYTES
from pulse_ingest.domain.intake import Intake
from pulse_ingest.domain.strict_json import MAX_DEPTH, MAX_KEYS, JsonRefused
from pulse_ingest.http.batch import MAX_BATCH_BYTES
from pulse_ingest.http.batch_items import MAX_ITEMS, split_items
from pulse_ingest.http.server import build_application
from pulse_runtime.events import MESSAGE_REJECTED
from pulse_runtime.metrics import IngestMetrics
from pulse_runtime.spans import OFF
from pulse_testkit.clock import ManualClock

SINGLE = "/ingest/v1/tenant/acme/device/sensor-1/weather"
BATCH = "/ingest/v1/batch"


@dataclass(kw_only=True)
class Api:
    """The HTTP edge, without a socket."""

    log: TelemetryInMemory
    quarantine: QuarantineInMemory
    application: Any
    counters: CollectorRegistry

    def counted(self, result: str) -> float | None:
        labels = {"protocol": "http", "result": result}
        return self.counters.get_sample_value("pulse_ingest_messages_total", labels)

    async def post(
        self, path: str, body: bytes, token: str | None = SENSOR_TOKEN, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        fields = {**(headers or {}), **({"authorization": f"Bearer {token}"} if token else {})}
        transport = httpx.ASGITransport(self.application)
        async with httpx.AsyncClient(transport=transport, base_url="http://pulse") as client:
            return await client.post(path, content=body, headers=fields)

    async def post_batch(self, items: list[dict[str, object]], token: str | None = ACME_KEY) -> httpx.Response:
        return await self.post(BATCH, json.dumps(items).encode(), token)


@pytest.fixture(name="api")
def _api(manual_clock: ManualClock) -> Api:
    log, quarantine = TelemetryInMemory(), QuarantineInMemory()
    # Only tokens that the registry knows are sent here: looking others up in the database is tested with a database.
    authenticator, counters = DevicesInMemory(registry()), CollectorRegistry()
    application = build_application(
        Intake(log, quarantine, manual_clock),
        authenticator,
        IngestMetrics(counters),
        Arrivals(OFF, manual_clock),
    )
    return Api(log=log, quarantine=quarantine, application=application, counters=counters)


def item(device: str = "sensor-1", tenant: str = "acme", **more: object) -> dict[str, object]:
    return {"tenant_id": tenant, "device_id": device, "type": "weather", "payload": {"t": 1}, **more}


def error(answer: httpx.Response) -> tuple[int, str, str]:
    found = answer.json()["error"]
    return answer.status_code, found["reason"], found["field"]


async def test_202_gives_the_id_of_the_committed_message(api: Api) -> None:
    answer = await api.post(SINGLE, b'{"t":1}')
    assert answer.status_code == 202
    assert {"message_id": api.log.committed[0].message_id, "duplicate": False} == answer.json()


async def test_202_is_not_answered_before_the_commit(api: Api, manual_clock: ManualClock) -> None:
    api.log.closed = True
    posting = asyncio.create_task(api.post(SINGLE, b'{"t":1}'))
    await manual_clock.advance(60)
    assert not posting.done()
    api.log.opened.set()
    assert (await posting).status_code == 202


async def test_503_with_retry_after_when_the_log_is_full(api: Api) -> None:
    api.log.refusals = 1
    answer = await api.post(SINGLE, b'{"t":1}')
    assert error(answer) == (503, "busy", "")
    assert answer.headers["retry-after"] == "5"


@pytest.mark.parametrize(
    ("path", "token", "expected"),
    [
        (SINGLE, None, (401, "unauthorized", "authorization")),
        (SINGLE, OTHER_TOKEN, (403, "forbidden", "device_id")),
        ("/ingest/v1/tenant/acme/device/sensor-2/weather", SENSOR_TOKEN, (403, "forbidden", "device_id")),
        ("/ingest/v1/tenant/acme/device/nobody/weather", SENSOR_TOKEN, (403, "forbidden", "device_id")),
        ("/ingest/v1/tenant/globex/device/sensor-1/weather", ACME_KEY, (403, "forbidden", "device_id")),
        ("/ingest/v1/tenant/acme/device/sensor-1/a//b", SENSOR_TOKEN, (400, "topic_invalid", "topic")),
        ("/ingest/v1/tenant/acme/device/sensor-1/a%23", SENSOR_TOKEN, (400, "topic_invalid", "topic")),
        ("/ingest/v1/tenant/acme/device/sensor-1", SENSOR_TOKEN, (404, "not_found", "path")),
        ("/ingest/v1/elsewhere", SENSOR_TOKEN, (404, "not_found", "path")),
    ],
)
async def test_each_refusal_has_its_status_reason_and_field(
    api: Api, path: str, token: str | None, expected: tuple[int, str, str]
) -> None:
    assert expected == error(await api.post(path, b"{}", token))
    assert api.log.committed == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"not json", (400, "payload_not_json", "payload")),
        (b"[]", (400, "payload_not_object", "payload")),
        (b'{"a":"\\u0000"}', (400, "payload_nul", "payload.a")),
        (b'{"\\ud800":1,"\\ud800":2}', (400, "payload_duplicate_key", "payload.?")),
        (b"x" * (MAX_PAYLOAD_BYTES + 1), (413, "payload_too_large", "payload")),
    ],
)
async def test_a_bad_body_is_refused_to_its_sender_and_not_quarantined(
    api: Api, body: bytes, expected: tuple[int, str, str]
) -> None:
    assert expected == error(await api.post(SINGLE, body))
    assert api.quarantine.records == []


@pytest.mark.parametrize("path", [SINGLE, BATCH])
async def test_the_line_of_what_is_not_accepted_names_its_senders_trace(api: Api, path: str) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    with structlog.testing.capture_logs() as events:
        for traceparent in (f"00-{trace}-00f067aa0ba902b7-01", "00-canary", None):
            fields = {"traceparent": traceparent} if traceparent else {}
            assert (await api.post(path, b"not json", headers=fields)).status_code in {207, 400}
    assert [event["trace_id"] for event in events if event["event"] == MESSAGE_REJECTED] == [trace, None, None]
    assert "canary" not in str(events)


async def test_the_idempotency_key_goes_before_the_payloads_id(api: Api) -> None:
    answer = await api.post(SINGLE, b'{"message_id":"p"}', headers={"idempotency-key": "h"})
    assert supplied_message_id(ACME, SENSOR, "h") == answer.json()["message_id"]


async def test_the_predecessors_token_header_lets_in_too(api: Api) -> None:
    assert (await api.post(SINGLE, b"{}", None, headers={"x-provision-token": SENSOR_TOKEN})).status_code == 202


async def test_a_body_that_declares_no_length_is_bounded_too(api: Api) -> None:
    async def parts() -> AsyncGenerator[bytes, None]:
        for _ in range(5):
            yield b"x" * (MAX_PAYLOAD_BYTES // 4)

    transport = httpx.ASGITransport(api.application)
    async with httpx.AsyncClient(transport=transport, base_url="http://pulse") as client:
        answer = await client.post(SINGLE, content=parts(), headers={"authorization": f"Bearer {SENSOR_TOKEN}"})
    assert error(answer) == (413, "payload_too_large", "payload")


async def test_a_batch_that_is_accepted_whole_is_answered_202_in_the_order_of_its_items(api: Api) -> None:
    items = [item(message_id=str(n), payload={"message_id": str(n)}) for n in range(3)]
    answer = await api.post_batch(items)
    assert answer.status_code == 202
    assert [supplied_message_id(ACME, SENSOR, str(n)) for n in range(3)] == [
        result["message_id"] for result in answer.json()["results"]
    ]


async def test_a_batch_of_mixed_fates_is_answered_207_item_by_item(api: Api) -> None:
    answer = await api.post_batch(
        [
            item(),
            item(tenant="globex"),
            item(device="bad id"),
            item(payload=None),
            item(type=5),
            item(payload={"a": "x" * MAX_PAYLOAD_BYTES}),
            item(token=OTHER_TOKEN, tenant="globex"),
        ]
    )
    assert answer.status_code == 207
    assert [result["status"] for result in answer.json()["results"]] == [202, 403, 400, 400, 400, 413, 202]
    assert [envelope.tenant_id for envelope in api.log.committed] == ["acme", "globex"]


async def test_items_without_a_token_need_a_key(api: Api) -> None:
    answer = await api.post_batch([item(), item(token=SENSOR_TOKEN), item(token="")], token=None)
    assert [result["status"] for result in answer.json()["results"]] == [401, 202, 401]


async def test_one_bad_line_of_ndjson_costs_only_itself(api: Api) -> None:
    lines = [json.dumps(item()).encode(), b"{not json", b"[]", json.dumps(item()).encode()]
    answer = await api.post(BATCH, b"\n".join(lines) + b"\n", ACME_KEY)
    assert [result["status"] for result in answer.json()["results"]] == [202, 400, 400, 202]


async def test_a_batch_of_which_nothing_found_room_is_answered_503(api: Api) -> None:
    api.log.refusals = 2
    answer = await api.post_batch([item(), item()])
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


async def test_a_batch_of_which_some_found_no_room_says_which(api: Api) -> None:
    api.log.refusals = 1
    answer = await api.post_batch([item(), item()])
    assert answer.status_code == 207
    assert sorted(result["status"] for result in answer.json()["results"]) == [202, 503]


@pytest.mark.parametrize(
    ("body", "count"),
    [
        (b'[{"a":1}]', 1),
        (b' [1, "x", null] ', 3),
        (b'{"a":1}', 1),
        (b'{"a":1}\n{"b":2}\n', 2),
        (b'{"a":1}\r\n\r\n  \n{"b":2}', 2),
        (b"[" + b",".join([b"{}"] * MAX_ITEMS) + b"]", MAX_ITEMS),
        (b"{}\n" * MAX_ITEMS, MAX_ITEMS),
    ],
)
def test_a_batch_is_an_array_or_lines(body: bytes, count: int) -> None:
    assert count == len(split_items(body))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  \n \n",
        b"[]",
        b"[",
        b"[1",
        b"[1,",
        b"[1 2]",
        b"[1]]",
        b"[,]",
        b"[" * 100_000,
        b"[" + b",".join([b"{}"] * (MAX_ITEMS + 1)) + b"]",
        b"{}\n" * (MAX_ITEMS + 1),
    ],
)
async def test_a_batch_that_is_neither_or_empty_or_too_long_is_refused_whole(api: Api, body: bytes) -> None:
    with pytest.raises(JsonRefused):
        split_items(body)
    assert error(await api.post(BATCH, body, ACME_KEY)) == (400, "batch_invalid", "body")


async def test_a_batch_beyond_its_bytes_is_refused_whole(api: Api) -> None:
    assert error(await api.post(BATCH, b" " * (MAX_BATCH_BYTES + 1), ACME_KEY)) == (413, "batch_too_large", "body")


@pytest.mark.parametrize(
    "bad",
    [
        b"NaN",
        b'{"tenant_id":"acme","device_id":"sensor-1","type":"t","payload":{"a":1,"a":2}}',
        b'{"tenant_id":"acme","device_id":"sensor-1","type":"t","payload":{"a":"\\u0000"}}',
        b'{"tenant_id":"acme","device_id":"sensor-1","type":"t","payload":{"a":"\xff"}}',
        b'{"tenant_id":"acme","device_id":"sensor-1","type":"t","payload":{"a":1e999}}',
        b'{"tenant_id":"acme","device_id":"sensor-1","type":"t","payload":{"a":' + b"9" * 5000 + b"}}",
        b'{"tenant_id":"acme","device_id":"sensor-1","type":"t","payload":{"a":1},"token":7}',
        b"[" * (MAX_DEPTH + 2) + b"]" * (MAX_DEPTH + 2),
    ],
)
async def test_one_bad_item_of_an_array_costs_only_itself(api: Api, bad: bytes) -> None:
    good = json.dumps(item()).encode()
    answer = await api.post(BATCH, b"[" + good + b" , " + bad + b"\n," + good + b"]", ACME_KEY)
    assert [result["status"] for result in answer.json()["results"]] == [202, 400, 202]
    assert [api.counted(result) for result in ("accepted", "rejected")] == [2, 1]


@pytest.mark.parametrize("as_lines", [True, False])
async def test_a_payload_has_the_same_bounds_alone_and_in_a_batch(api: Api, *, as_lines: bool) -> None:
    def deep(levels: int) -> dict[str, object]:
        return {} if levels == 1 else {"a": deep(levels - 1)}

    payloads = [deep(MAX_DEPTH), deep(MAX_DEPTH + 1), dict.fromkeys(map(str, range(MAX_KEYS)), 1)]
    payloads.append(dict.fromkeys(map(str, range(MAX_KEYS + 1)), 1))
    alone = [(await api.post(SINGLE, json.dumps(payload).encode())).status_code for payload in payloads]
    items = [json.dumps(item(payload=payload)).encode() for payload in payloads]
    body = b"\n".join(items) if as_lines else b"[" + b",".join(items) + b"]"
    answer = await api.post(BATCH, body, ACME_KEY)
    assert [202, 400, 202, 400] == alone == [result["status"] for result in answer.json()["results"]]


def test_an_item_of_an_array_is_as_it_was_sent() -> None:
    assert split_items('[ {"a":"é", "b":1.50} , 2]'.encode()) == ['{"a":"é", "b":1.50}'.encode(), b"2"]
