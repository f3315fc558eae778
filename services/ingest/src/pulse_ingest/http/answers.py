"""The answers of the HTTP edge: one table from what happened to a status, one shape of error."""

from dataclasses import dataclass

from starlette.responses import JSONResponse

from pulse_ingest.domain.admission import Refusal
from pulse_ingest.domain.intake import Accepted
from pulse_ingest.domain.ports import Busy

_TOO_LARGE = "payload_too_large"
_SERVER_ERROR = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer to a request, and what became of each message in it."""

    answer: JSONResponse
    results: tuple[str, ...]
    """``accepted``, ``duplicate``, ``rejected`` or ``unavailable``."""


def refused(answer: JSONResponse) -> Reply:
    """Reply to a request whose messages nobody looked at: they count as one."""
    result = "unavailable" if answer.status_code >= _SERVER_ERROR else "rejected"
    return Reply(answer=answer, results=(result,))


def result_of(outcome: Accepted | Refusal | Busy) -> str:
    """Name what became of a message."""
    match outcome:
        case Accepted(duplicate=duplicate):
            return "duplicate" if duplicate else "accepted"
        case Refusal():
            return "rejected"
        case Busy():
            return "unavailable"


def error(status: int, reason: str, field: str, message: str, *, retry_after_s: int | None = None) -> JSONResponse:
    """Return ``{"error": {"reason", "field", "message"}}``."""
    fields = {"retry-after": str(retry_after_s)} if retry_after_s else None
    body = {"error": {"reason": reason, "field": field, "message": message}}
    return JSONResponse(body, status_code=status, headers=fields)


def unauthorized() -> JSONResponse:
    """The same answer for a missing, wrong, revoked or never issued token: it tells nothing."""
    answer = error(401, "unauthorized", "authorization", "authorization: a valid device token is required")
    answer.headers["www-authenticate"] = "Bearer"
    return answer


def forbidden() -> JSONResponse:
    """The token is valid, for somebody else; whether the device named exists is not said."""
    return error(403, "forbidden", "device_id", "device_id: the token does not belong to this device")


def unknown_device() -> JSONResponse:
    """The tenant's own key names a device that the tenant does not have."""
    return error(404, "device_unknown", "device_id", "device_id: no such device")


def from_outcome(outcome: Accepted | Refusal | Busy) -> JSONResponse:
    """Return the answer to one submission."""
    status, body = describe(outcome)
    fields = {"retry-after": str(outcome.retry_after_s)} if isinstance(outcome, Busy) else None
    return JSONResponse(body, status_code=status, headers=fields)


def describe(outcome: Accepted | Refusal | Busy) -> tuple[int, dict[str, object]]:
    """Return status and body, for a single answer or an item of a batch."""
    match outcome:
        case Accepted(message_id=message_id, duplicate=duplicate):
            return 202, {"message_id": message_id, "duplicate": duplicate}
        case Refusal(reason=reason, field=field, error=message):
            status = 413 if reason == _TOO_LARGE else 400
            return status, {"error": {"reason": reason, "field": field, "message": message}}
        case Busy(reason=reason):
            return 503, {"error": {"reason": "busy", "field": "", "message": reason}}
