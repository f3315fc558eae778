"""The HTTP server: routes, and the counters around them."""

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from pulse_ingest.adapters.arrivals import Arrivals
from pulse_ingest.adapters.authentication import AuthenticationUnavailable, Authenticator
from pulse_ingest.domain.intake import Intake
from pulse_ingest.http import answers
from pulse_ingest.http.answers import Reply
from pulse_ingest.http.batch import BatchEndpoint
from pulse_ingest.http.single import SingleEndpoint
from pulse_runtime.events import MESSAGE_REJECTED
from pulse_runtime.logging import get_logger
from pulse_runtime.metrics import IngestMetrics
from pulse_runtime.tracing import TraceContext

_log = get_logger(__name__)
_ACCEPTED = 202


def build_application(
    intake: Intake, authenticator: Authenticator, metrics: IngestMetrics, arrivals: Arrivals
) -> Starlette:
    """Return the ASGI application of the HTTP edge."""
    single = SingleEndpoint(intake, authenticator, arrivals)
    batch = BatchEndpoint(intake, authenticator, arrivals)

    async def post_single(request: Request) -> Response:
        return _count(request, await single(request), metrics)

    async def post_batch(request: Request) -> Response:
        return _count(request, await batch(request), metrics)

    application = Starlette(
        routes=[
            Route("/ingest/v1/batch", post_batch, methods=["POST"]),
            Route("/ingest/v1/tenant/{tenant_id}/device/{device_id}/{type:path}", post_single, methods=["POST"]),
        ],
        exception_handlers={
            404: _not_found,
            405: _not_found,
            ClientDisconnect: _gone,
            AuthenticationUnavailable: _unchecked,
        },
    )
    # A device that posts without a type is told so; a redirect would send it elsewhere with its token.
    application.router.redirect_slashes = False
    return application


def _count(request: Request, reply: Reply, metrics: IngestMetrics) -> Response:
    for result in reply.results:
        metrics.messages_total.labels(protocol="http", result=result).inc()
    if reply.answer.status_code != _ACCEPTED:
        _log.info(MESSAGE_REJECTED, protocol="http", status=reply.answer.status_code, trace_id=_trace_id(request))
    return reply.answer


def _trace_id(request: Request) -> str | None:
    """Return the trace that the sender named; what is not a trace context is not repeated."""
    context = TraceContext.parse(request.headers.get("traceparent", ""))
    return context.trace_id if context else None


async def _not_found(_request: Request, _exc: Exception) -> Response:
    where = "/ingest/v1/tenant/{tenant_id}/device/{device_id}/{type} or /ingest/v1/batch"
    return answers.error(404, "not_found", "path", f"path: post to {where}")


async def _unchecked(_request: Request, exc: Exception) -> Response:
    return answers.error(503, "busy", "authorization", str(exc), retry_after_s=5)


async def _gone(_request: Request, _exc: Exception) -> Response:
    return Response(status_code=499)
