"""The configuration of deploy/nats: accepted by nats-server, in step with the code, and at work in three servers."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import nats
import pytest
import pytest_asyncio
from deploy_nats import ROOT, SHIPPED, Cluster, environment, install, issue, password, run_cluster
from prometheus_client import CollectorRegistry

from pulse_bus.api import api_request
from pulse_bus.connection import Connection, connect
from pulse_bus.errors import BusUnavailable
from pulse_bus.hops import bridge_hops
from pulse_bus.outgoing import Outgoing
from pulse_bus.permissions import SERVICES
from pulse_bus.provision import provision
from pulse_bus.publisher import Publisher
from pulse_bus.siding import Siding
from pulse_cli.embedded.nats import nats_server_binary
from pulse_contracts.ids import RouteId, TenantId
from pulse_contracts.subjects import RouteAddress
from pulse_contracts.topology import STREAMS, TELEMETRY
from pulse_contracts.turns import TurnState
from pulse_runtime.clock import SystemClock
from pulse_runtime.metrics import BusMetrics
from pulse_runtime.spans import AttributeValue, Span, Tracer
from pulse_runtime.tracing import TraceContext

DESTINATION = "messaging.destination.name"

pytestmark = pytest.mark.timeout(180)


def verdict(path: Path, **changed: str) -> str:
    """What `nats-server -t` says about a configuration."""
    argv = [str(nats_server_binary()), "-t", "-c", str(path)]
    variables = {name: value for name, value in (environment() | changed).items() if value != "unset"}
    return subprocess.run(argv, check=False, capture_output=True, text=True, env=variables).stderr


@pytest.mark.parametrize("name", ["cluster.conf", "single.conf"])
def test_the_server_accepts_the_configuration(tmp_path: Path, name: str) -> None:
    issue(tmp_path)
    install(tmp_path / "files", tmp_path)
    assert "is valid" in verdict(tmp_path / "files" / name)


@pytest.mark.parametrize("user", [*SERVICES, "sys"])
def test_a_password_that_is_not_set_is_named(user: str) -> None:
    variable = f"NATS_PASSWORD_{user.upper()}"
    assert f"'{variable}'" in verdict(SHIPPED / "single.conf", **{variable: "unset"})


def test_the_generated_files_are_in_step_with_the_code() -> None:
    argv = [sys.executable, str(ROOT / "deploy/generate.py"), "--check"]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with pytest.MonkeyPatch.context() as patch:
        # As the services find the operator's authority: by OpenSSL's own variable.
        patch.setenv("SSL_CERT_FILE", str(folder / "ca.crt"))
        async with run_cluster(folder) as cluster:
            async with connect(cluster.address("control")) as control:
                await provision(control, ["webhook"], replicas=3)
            yield cluster


async def varz(cluster: Cluster, path: str) -> list[dict[str, Any]]:
    async with httpx.AsyncClient() as client:
        return [(await client.get(server.monitor.url("http", path))).json() for server in cluster.servers]


async def stream_info(connection: Connection, stream: str) -> dict[str, Any]:
    return await api_request(connection, f"STREAM.INFO.{stream}")


async def test_every_stream_has_three_copies_and_is_fsynced(cluster: Cluster) -> None:
    async with connect(cluster.address("control")) as control:
        for stream in STREAMS:
            info = await stream_info(control, stream.name)
            assert (info["config"]["num_replicas"], len(info["cluster"]["replicas"])) == (3, 2)
    for jetstream in await varz(cluster, "/jsz"):
        assert jetstream["config"]["sync_always"]


async def test_provisioning_anew_keeps_the_copies(cluster: Cluster) -> None:
    async with connect(cluster.address("control")) as control:
        assert await provision(control, ["webhook"]) == []
        assert await provision(control, ["webhook"], replicas=3) == []


async def test_the_disk_has_room_for_all_streams_at_their_limits(cluster: Cluster) -> None:
    for jetstream in await varz(cluster, "/jsz"):
        assert jetstream["config"]["max_storage"] > sum(stream.max_bytes for stream in STREAMS)


async def test_the_second_form_of_acks_is_off(cluster: Cluster) -> None:
    for server in await varz(cluster, "/varz"):
        assert server["feature_flags"]["js_ack_fc_v2"] is False


async def test_of_all_that_claim_a_troubled_route_at_once_one_gets_it(cluster: Cluster) -> None:
    route = RouteAddress(kind="webhook", tenant=TenantId("acme"), route=RouteId("r"))
    async with AsyncExitStack() as stack:
        bus = [await stack.enter_async_context(connect(cluster.address("delivery"))) for _ in range(3)]
        sidings = [Siding(connection, f"process-{number}") for number, connection in enumerate(bus)]
        for _ in range(5):
            state = TurnState(phase="probing", in_flight=1)
            names = await asyncio.gather(*(siding.open_turn(route, state) for siding in sidings * 3))
            [name] = filter(None, names)
            until = datetime.now(UTC) + timedelta(minutes=5)
            await sidings[0].change_turn(route, name, TurnState(phase="growing", in_flight=4))
            await sidings[0].pause(name, until)
            async with asyncio.timeout(10):
                # The answer to a pause comes before it is in force on every server.
                while (turn := (await sidings[0].turns())[route]).paused_until is None:
                    pass
            assert (turn.name, turn.paused_until) == (name, until)
            await sidings[0].close_turn(name)


@pytest.mark.parametrize("user", SERVICES)
async def test_each_service_gets_in_over_tls(cluster: Cluster, user: str) -> None:
    async with connect(cluster.address(user)) as connection:
        assert connection.is_connected


async def test_nobody_gets_in_without_tls_or_without_the_right_password(cluster: Cluster) -> None:
    good = cluster.address("ingest")
    for user, secret in (("ingest", "wrong"), ("nobody", "x"), ("", "")):
        with pytest.raises(BusUnavailable):
            async with connect(replace(good, user=user, password=secret), timeout_s=1):
                pass
    reader, writer = await asyncio.open_connection("127.0.0.1", cluster.servers[0].client.port)
    assert json.loads((await reader.readline()).removeprefix(b"INFO "))["tls_required"]
    writer.close()


async def test_a_service_may_not_do_what_another_does(cluster: Cluster) -> None:
    errors: list[str] = []

    async def on_error(exc: Exception) -> None:
        errors.append(str(exc))

    client = await nats.connect(  # pyright: ignore[reportUnknownMemberType] - bare generics in nats-py's signature
        cluster.address("router").url.split(","), user="router", password=password("router"), error_cb=on_error
    )
    for subject in ("telemetry.acme.d1.t", "$JS.API.STREAM.DELETE.TELEMETRY", "delivery.webhook.acme.r1"):
        await client.publish(subject, b"")
    await client.flush()
    await client.flush()
    await client.close()
    assert [error.split('"')[1] for error in errors] == ["telemetry.acme.d1.t", "$js.api.stream.delete.telemetry"]


async def test_the_servers_report_the_hops_of_sampled_messages(cluster: Cluster) -> None:
    traces = {flag: f"00-{'ab' * 15}{flag}-{'cd' * 8}-{flag}" for flag in ("00", "01")}
    hops: asyncio.Queue[list[str]] = asyncio.Queue()
    async with connect(cluster.address("control")) as control, connect(cluster.address("ingest")) as ingest:
        await control.subscribe("hops", lambda event: hops.put_nowait(_traceparent(event.data)))
        async with asyncio.timeout(30):
            # Again, until the server of ingest has heard of the subscription at another.
            while hops.empty():
                for traceparent in traces.values():
                    await ingest.publish("telemetry.acme.d1.t", b"x", headers={"traceparent": traceparent})
                await stream_info(control, TELEMETRY.name)
        assert hops.get_nowait() == [traces["01"]]


def _traceparent(event: bytes) -> list[str]:
    return json.loads(event)["request"]["header"]["traceparent"]


async def test_what_two_servers_did_with_a_message_are_spans_of_its_trace(cluster: Cluster) -> None:
    """It comes in at a server that does not lead the stream, and goes on to the one that does."""
    hops = ListedSpans()
    sender = TraceContext.new(sampled=True)
    async with (
        connect(cluster.address("router"), tracer=Tracer(hops, ratio=1.0)) as router,
        connect(cluster.address("control")) as control,
    ):
        await bridge_hops(router)
        leader = (await stream_info(control, TELEMETRY.name))["cluster"]["leader"]
        entry = next(server for server in cluster.servers if server.name != leader)
        at_entry = replace(cluster.address("ingest"), url=entry.client.url("tls"))
        async with connect(at_entry) as ingest, asyncio.timeout(30):
            # Again, until both servers have heard of the subscription.
            while hops.servers != {entry.name, leader}:
                await ingest.publish("telemetry.acme.d1.t", b"x", headers={"traceparent": sender.header()})
                await stream_info(control, TELEMETRY.name)
    assert {(span.context.trace_id, span.parent_id) for span in hops.spans} == {(sender.trace_id, sender.span_id)}
    stored_at = {
        span.attributes["nats.server.name"] for span in hops.spans if span.attributes[DESTINATION] == "TELEMETRY"
    }
    assert stored_at == {leader}


@dataclass(slots=True)
class ListedSpans:
    spans: list[Span] = field(default_factory=list[Span])

    @property
    def servers(self) -> set[AttributeValue]:
        return {span.attributes["nats.server.name"] for span in self.spans}

    def take(self, span: Span) -> None:
        self.spans.append(span)


async def test_what_was_acknowledged_outlives_the_death_of_the_leader(cluster: Cluster) -> None:
    sent = [Outgoing(subject="telemetry.acme.d1.t", data=b"x", message_id=f"m-{n}") for n in range(500)]
    async with connect(cluster.address("control")) as control, connect(cluster.address("ingest")) as ingest:
        publisher = Publisher(ingest, TELEMETRY.name, clock=SystemClock(), metrics=BusMetrics(CollectorRegistry()))
        task = asyncio.create_task(publisher.run(), name="test.publisher")
        leader = cluster.named((await stream_info(control, TELEMETRY.name))["cluster"]["leader"])
        before = (await stream_info(control, TELEMETRY.name))["state"]["messages"]
        await publisher.publish(*sent[:250])
        await leader.stop(signal.SIGKILL)
        await publish_until_it_is_there(publisher, sent[250:])
        state = (await asked_until_answered(control, TELEMETRY.name))["state"]
        assert state["messages"] - before == 500
        task.cancel()
        await asyncio.wait({task})
    await leader.start()
    await leader.until_healthy()


async def publish_until_it_is_there(publisher: Publisher, messages: list[Outgoing]) -> None:
    """While there is no leader the outcome is unknown; the same ids may be sent again."""
    async with asyncio.timeout(60):
        while True:
            try:
                await publisher.publish(*messages)
            except BusUnavailable:
                continue
            return


async def asked_until_answered(connection: Connection, stream: str) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            try:
                return await stream_info(connection, stream)
            except BusUnavailable:
                continue
