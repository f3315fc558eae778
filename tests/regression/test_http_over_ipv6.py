"""With `PULSE_HTTP_HOST=::`, which the chart's `bindAddress` offers, ingest refused to start.

Seen: ``cannot serve HTTP on :: port 8080: Address family for hostname not supported``.
"""

import socket

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from pulse_ingest.http.listener import serve
from pulse_runtime.listening import listen

pytestmark = pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")


async def answer(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("here")


@pytest.mark.parametrize(("host", "asked"), [("::", "[::1]"), ("::1", "[::1]"), ("0.0.0.0", "127.0.0.1")])
async def test_the_http_edge_serves_on_an_address_of_either_family(host: str, asked: str) -> None:
    async with serve(Starlette(routes=[Route("/", answer)]), host, 0) as listener, httpx.AsyncClient() as client:
        assert (await client.get(f"http://{asked}:{listener.port}/")).text == "here"


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine keeps the families apart")
def test_all_addresses_are_those_of_ipv4_too() -> None:
    with listen("::", 0) as listening, socket.create_connection(("127.0.0.1", listening.getsockname()[1])) as client:
        assert client.family == socket.AF_INET
