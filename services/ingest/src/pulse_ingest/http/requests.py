"""Reading requests: bounded bodies, tokens, traces."""

from starlette.requests import ClientDisconnect, Request

from pulse_runtime.tracing import TraceContext


class BodyTooLarge(Exception):
    """The body is larger than the edge reads."""


async def read_body(request: Request, limit: int) -> bytes:
    """Return the body; raises `BodyTooLarge` without reading on, `ClientDisconnect` if the client went away."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise BodyTooLarge
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise BodyTooLarge
        parts.append(part)
    return b"".join(parts)


def bearer_token(request: Request) -> str | None:
    """Return the token of ``Authorization: Bearer`` or, for the predecessor's devices, ``X-Provision-Token``."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token:
        return token.strip()
    return request.headers.get("x-provision-token") or None


def traceparent(request: Request) -> str:
    """Return the context of the message's trace: the device's trace id if it sent one, never its sampled flag."""
    return TraceContext.from_outside(request.headers.get("traceparent")).header()


__all__ = ["BodyTooLarge", "ClientDisconnect", "bearer_token", "read_body", "traceparent"]
