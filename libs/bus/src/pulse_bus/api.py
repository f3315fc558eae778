"""Requests to the JetStream API (ADR-44 levels, plain JSON), each bounded and each error typed."""

import json
from collections.abc import Mapping
from typing import Any, Final

from pulse_bus.connection import Connection
from pulse_bus.errors import ApiError, BusUnavailable

API_TIMEOUT_S: Final = 5.0
CONSUMER_NOT_FOUND: Final = 10014
STREAM_NOT_FOUND: Final = 10059
NANOSECONDS: Final = 1_000_000_000


async def api_request(
    connection: Connection,
    operation: str,
    body: Mapping[str, object] | None = None,
    *,
    timeout_s: float = API_TIMEOUT_S,
) -> dict[str, Any]:
    """Ask ``$JS.API.{operation}``.

    Raises `ApiError` for an answer that is an error, `BusUnavailable` when there is none; a user that lacks the
    permission sees the latter.
    """
    data = json.dumps(body).encode() if body is not None else b""
    message = await connection.request(f"$JS.API.{operation}", data, timeout_s=timeout_s)
    if not message.data:
        raise BusUnavailable(f"JetStream does not answer {operation}")
    answer: dict[str, Any] = json.loads(message.data)
    if error := answer.get("error"):
        raise ApiError(operation, error.get("code", 0), error.get("err_code", 0), error.get("description", "unknown"))
    return answer
