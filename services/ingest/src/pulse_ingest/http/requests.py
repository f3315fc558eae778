"""Reading requests: bounded bodies and tokens."""

from starlette.requests import ClientDisconnect, Request


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


__all__ = ["BodyTooLarge", "ClientDisconnect", "bearer_token", "read_body"]
