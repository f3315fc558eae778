"""``POST /ingest/v1/tenant/{tenant_id}/device/{device_id}/{type}``: one message."""

from starlette.requests import Request

from pulse_contracts.topics import InvalidTopic, parse_device_topic
from pulse_ingest.adapters.arrivals import HTTP_ROUTE, Arrivals
from pulse_ingest.adapters.authentication import Authenticator
from pulse_ingest.domain.admission import MAX_PAYLOAD_BYTES, Submission
from pulse_ingest.domain.intake import Intake
from pulse_ingest.http import answers
from pulse_ingest.http.answers import Reply, refused
from pulse_ingest.http.requests import BodyTooLarge, bearer_token, read_body


class SingleEndpoint:
    """Authenticates, reads and submits one message."""

    def __init__(self, intake: Intake, authenticator: Authenticator, arrivals: Arrivals) -> None:
        self._intake = intake
        self._authenticator = authenticator
        self._arrivals = arrivals

    async def __call__(self, request: Request) -> Reply:
        arrival = self._arrivals.over_http(request.headers.get("traceparent"), HTTP_ROUTE)
        principal = await self._authenticator.identify(bearer_token(request))
        if principal is None:
            return refused(answers.unauthorized())
        path = request.path_params
        try:
            topic = parse_device_topic(f"tenant/{path['tenant_id']}/device/{path['device_id']}/{path['type']}")
        except InvalidTopic as exc:
            return refused(answers.error(400, "topic_invalid", "topic", str(exc)))
        if not principal.may_send_as(topic.tenant, topic.device):
            return refused(answers.forbidden())
        if principal.device is None and not await self._authenticator.knows_device(topic.tenant, topic.device):
            return refused(answers.unknown_device())
        try:
            body = await read_body(request, MAX_PAYLOAD_BYTES)
        except BodyTooLarge:
            message = f"payload: larger than {MAX_PAYLOAD_BYTES} bytes"
            return refused(answers.error(413, "payload_too_large", "payload", message))
        submission = Submission(
            topic=topic,
            body=body,
            supplied_id=request.headers.get("idempotency-key"),
            traceparent=arrival.traceparent,
        )
        outcome = await self._intake.submit(submission)
        answer = answers.from_outcome(outcome)
        arrival.end(topic, outcome, status=answer.status_code)
        return Reply(answer=answer, results=(answers.result_of(outcome),))
