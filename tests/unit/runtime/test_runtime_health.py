import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
import pytest
from prometheus_client import CollectorRegistry

from pulse_runtime.health import AdminAddressUnavailable, AdminServer, Health
from pulse_runtime.metrics import CommonMetrics, IngestMetrics


def health() -> Health:
    return Health(service="ingest", version="1.2.3")


@asynccontextmanager
async def serving(
    health: Health, registry: CollectorRegistry | None = None, host: str = "127.0.0.1"
) -> AsyncGenerator[httpx.AsyncClient]:
    server = AdminServer(health, registry or CollectorRegistry(), host, 0)
    await server.start()
    shown = f"[{host}]" if ":" in host else host
    try:
        async with httpx.AsyncClient(base_url=f"http://{shown}:{server.port}") as client:
            yield client
    finally:
        await server.stop()


async def test_health_says_who_answers_and_adds_details() -> None:
    subject = health()
    subject.details = lambda: {"delivery_queue_depth": 7, "status": "cannot be overruled"}
    async with serving(subject) as client:
        response = await client.get("/health")
    body = response.json()
    assert response.status_code == 200
    assert body.pop("uptime_s") >= 0
    assert body == {"status": "ok", "service": "ingest", "version": "1.2.3", "delivery_queue_depth": 7}


def test_a_broken_hook_costs_its_details_only() -> None:
    def broken() -> dict[str, object]:
        raise RuntimeError("a secret")

    subject = health()
    subject.details = broken
    report = subject.report()
    assert (report["status"], report["details_error"]) == ("ok", "RuntimeError")


async def test_ready_names_every_reason_against_it() -> None:
    reasons: dict[str, str | None] = {"nats": "not connected", "postgres": None}
    subject = health()
    subject.register("nats", lambda: reasons["nats"])
    subject.register("postgres", lambda: reasons["postgres"])
    async with serving(subject) as client:
        response = await client.get("/ready")
        assert (response.status_code, response.json()) == (503, {"ready": False, "reasons": {"nats": "not connected"}})
        reasons["nats"] = None
        response = await client.get("/ready")
        assert (response.status_code, response.json()) == (200, {"ready": True, "reasons": {}})


async def test_draining_is_alive_but_not_ready() -> None:
    subject = health()
    subject.draining = True
    async with serving(subject) as client:
        assert (await client.get("/ready")).json()["reasons"] == {"draining": "the service is shutting down"}
        assert (await client.get("/health")).status_code == 200


def test_a_broken_check_means_not_ready() -> None:
    def broken() -> str | None:
        raise KeyError("consumer")

    subject = health()
    subject.register("consumer", broken)
    assert subject.reasons() == {"consumer": "the check failed with KeyError"}


def test_a_check_cannot_be_registered_twice() -> None:
    subject = health()
    subject.register("nats", lambda: None)
    with pytest.raises(ValueError, match="nats"):
        subject.register("nats", lambda: None)


async def test_metrics_are_negotiated() -> None:
    registry = CollectorRegistry()
    CommonMetrics(registry).show_build(service="ingest", version="1")
    IngestMetrics(registry).delivery_queue_depth.set(3)
    async with serving(health(), registry) as client:
        plain = await client.get("/metrics")
        modern = await client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert plain.headers["content-type"].startswith("text/plain")
    assert "pulse_ingest_delivery_queue_depth 3.0\n" in plain.text
    assert modern.headers["content-type"].startswith("application/openmetrics-text")
    assert modern.text.endswith("# EOF\n")


async def test_it_serves_its_three_paths_on_ipv6_too() -> None:
    async with serving(health(), host="::1") as client:
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/")).status_code == 404


async def test_stopping_leaves_no_task_and_no_socket_though_clients_stay_connected() -> None:
    before = asyncio.all_tasks()
    server = AdminServer(health(), CollectorRegistry(), "127.0.0.1", 0)
    await server.start()
    port = server.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    unfinished_reader, unfinished = await asyncio.open_connection("127.0.0.1", port)
    unfinished.write(b"GET /health HTTP/1.1\r\nHos")
    await unfinished.drain()
    await server.stop()
    await server.stop()
    # A request that the server had not read yet ends in a reset, which is an end as well.
    await asyncio.gather(reader.read(), unfinished_reader.read(), return_exceptions=True)
    writer.close()
    unfinished.close()
    assert before == asyncio.all_tasks()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    with pytest.raises(RuntimeError, match="not started"):
        _ = server.port


async def test_an_occupied_port_refuses_the_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        port = occupied.getsockname()[1]
        with pytest.raises(AdminAddressUnavailable, match=f"127.0.0.1 port {port}"):
            await AdminServer(health(), CollectorRegistry(), "127.0.0.1", port).start()


async def test_a_server_that_was_never_started_can_be_stopped() -> None:
    await AdminServer(health(), CollectorRegistry(), "127.0.0.1", 0).stop()
