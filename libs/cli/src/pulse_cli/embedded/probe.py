"""Readiness, asked over a socket: cheap enough to ask twenty times a second, and free of client libraries."""

import asyncio
import struct

from pulse_cli.embedded.ports import Endpoint

_TIMEOUT_S = 2.0
_OK = 200
_PROTOCOL_3_0 = 196608


async def http_get(endpoint: Endpoint, path: str) -> tuple[int, bytes]:
    """Status and body; status 0 if nobody answers in time or the answer is not HTTP."""
    request = f"GET {path} HTTP/1.0\r\nHost: {endpoint.host}:{endpoint.port}\r\n\r\n"
    answer = await _exchange(endpoint, request.encode("ascii"), limit_bytes=-1)
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    is_http = len(words) > 1 and words[0].startswith(b"HTTP/") and words[1].isdigit()
    return (int(words[1]), body) if is_http else (0, b"")


async def is_http_ok(endpoint: Endpoint, path: str) -> bool:
    return (await http_get(endpoint, path))[0] == _OK


async def is_postgres_accepting(endpoint: Endpoint, user: str) -> bool:
    """Whether PostgreSQL asks for a password: during start, recovery and shutdown it answers with an error instead."""
    parameters = f"user\0{user}\0database\0postgres\0\0".encode()
    packet = struct.pack("!ii", 8 + len(parameters), _PROTOCOL_3_0) + parameters
    return await _exchange(endpoint, packet, limit_bytes=1) == b"R"


async def _exchange(endpoint: Endpoint, request: bytes, *, limit_bytes: int) -> bytes:
    """The first bytes of the answer, all of it for -1; empty if there is none in time."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
            try:
                writer.write(request)
                return await reader.read(limit_bytes)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return b""
