"""``POST /ingest/v1/batch``: many messages of many devices, each judged by itself."""

import asyncio
import json
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse

from pulse_contracts.topics import DeviceTopic, InvalidTopic, parse_device_topic
from pulse_ingest.adapters.arrivals import BATCH_ROUTE, Arrivals
from pulse_ingest.adapters.authentication import AuthenticationUnavailable, Authenticator
from pulse_ingest.domain.admission import Refusal, Submission
from pulse_ingest.domain.credentials import Principal
from pulse_ingest.domain.intake import Accepted, Intake
from pulse_ingest.domain.ports import Busy
from pulse_ingest.domain.strict_json import MAX_DEPTH, MAX_KEYS, JsonRefused, parse
from pulse_ingest.http import answers
from pulse_ingest.http.answers import Reply
from pulse_ingest.http.batch_items import split_items
from pulse_ingest.http.requests import BodyTooLarge, bearer_token, read_body

MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
_ITEM_KEYS: Final = 16
"""Members an item may have around its payload, which has bounds of its own."""
_UNAUTHORIZED: Final = Refusal(reason="unauthorized", field="token", error="token: no valid token for this item")
_FORBIDDEN: Final = Refusal(
    reason="forbidden", field="device_id", error="device_id: the token does not belong to this device"
)
_UNKNOWN_DEVICE: Final = Refusal(reason="device_unknown", field="device_id", error="device_id: no such device")
_STATUS: Final = {"unauthorized": 401, "forbidden": 403, "device_unknown": 404, "payload_too_large": 413}


class BatchEndpoint:
    """Submits the items of a batch together, so that they share commits."""

    def __init__(self, intake: Intake, authenticator: Authenticator, arrivals: Arrivals) -> None:
        self._intake = intake
        self._authenticator = authenticator
        self._arrivals = arrivals

    async def __call__(self, request: Request) -> Reply:
        key = bearer_token(request)
        principal = await self._authenticator.identify(key)
        if key and principal is None:
            return answers.refused(answers.unauthorized())
        try:
            items = split_items(await read_body(request, MAX_BATCH_BYTES))
        except BodyTooLarge:
            message = f"body: larger than {MAX_BATCH_BYTES} bytes"
            return answers.refused(answers.error(413, "batch_too_large", "body", message))
        except JsonRefused as exc:
            return answers.refused(answers.error(400, "batch_invalid", "body", f"body: {exc}"))
        trace = request.headers.get("traceparent")
        outcomes = await asyncio.gather(*(self._submit(item, principal, trace) for item in items))
        return Reply(answer=_answer(outcomes), results=tuple(answers.result_of(outcome) for outcome in outcomes))

    async def _submit(self, item: bytes, principal: Principal | None, trace: str | None) -> Accepted | Refusal | Busy:
        try:
            fields = parse(item, max_keys=MAX_KEYS + _ITEM_KEYS, max_depth=MAX_DEPTH + 1)
        except JsonRefused as exc:
            return Refusal(reason=exc.reason, field=exc.path, error=str(exc))
        if not isinstance(fields, dict):
            return Refusal(reason="item_not_object", field="item", error="item: must be a JSON object")
        return await self._submit_item(fields, principal, trace)  # pyright: ignore[reportUnknownArgumentType] - JSON

    async def _submit_item(
        self, fields: dict[str, Any], principal: Principal | None, trace: str | None
    ) -> Accepted | Refusal | Busy:
        for name in ("tenant_id", "device_id", "type"):
            if not isinstance(fields.get(name), str):
                return Refusal(reason="item_invalid", field=name, error=f"{name}: must be a string")
        if not isinstance(fields.get("token", ""), str):
            return Refusal(reason="item_invalid", field="token", error="token: must be a string")
        arrival = self._arrivals.over_http(trace, BATCH_ROUTE)
        try:
            topic = await self._judge_sender(fields, principal)
        except AuthenticationUnavailable as exc:
            return Busy(reason=str(exc))
        if isinstance(topic, Refusal):
            return topic
        body = json.dumps(fields.get("payload"), ensure_ascii=False, separators=(",", ":")).encode()
        outcome = await self._intake.submit(Submission(topic=topic, body=body, traceparent=arrival.traceparent))
        arrival.end(topic, outcome, status=answers.describe(outcome)[0])
        return outcome

    async def _judge_sender(self, fields: dict[str, Any], principal: Principal | None) -> DeviceTopic | Refusal:
        """Return the topic that the item's own token, or else the request's, may send to."""
        token = fields.get("token")
        who = principal if token is None else await self._authenticator.identify(token)
        if who is None:
            return _UNAUTHORIZED
        try:
            topic = parse_device_topic(f"tenant/{fields['tenant_id']}/device/{fields['device_id']}/{fields['type']}")
        except InvalidTopic as exc:
            return Refusal(reason="topic_invalid", field="topic", error=str(exc))
        if not who.may_send_as(topic.tenant, topic.device):
            return _FORBIDDEN
        if who.device is None and not await self._authenticator.knows_device(topic.tenant, topic.device):
            return _UNKNOWN_DEVICE
        return topic


def _answer(outcomes: list[Accepted | Refusal | Busy]) -> JSONResponse:
    """202 if all were accepted, 503 if none was for want of room, else 207 with a result an item, in their order."""
    results: list[dict[str, object]] = []
    for outcome in outcomes:
        status, body = answers.describe(outcome)
        if isinstance(outcome, Refusal):
            status = _STATUS.get(outcome.reason, status)
        results.append({"status": status, **body})
    if all(isinstance(outcome, Busy) for outcome in outcomes):
        return JSONResponse({"results": results}, status_code=503, headers={"retry-after": "5"})
    everything = all(isinstance(outcome, Accepted) for outcome in outcomes)
    return JSONResponse({"results": results}, status_code=202 if everything else 207)
