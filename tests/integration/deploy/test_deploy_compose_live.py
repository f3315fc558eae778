"""The compose file at work: a message from a device to a receiver, its spans, and every query of the dashboard."""

import asyncio
import json
import math
import shutil
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import aiomqtt
import httpx
import pytest
from deploy_compose import COMPOSE, Machine, answers, pulse, run_compose
from deploy_helm import EVERYTHING, component, rendered
from deploy_mosquitto import IS_MISSING, REASON
from deploy_nats import ROOT
from support.chart import HELM
from support.chart import REASON as HELM_REASON
from support.receiver import Receiver, always, open_receiver
from support.tenant import ACTOR
from support.waiting import eventually

from pulse_control import devices, routes, tenants
from pulse_control.context import Control
from pulse_control.route_input import RouteInput
from pulse_egress.policy import AddressPolicy
from pulse_storage.pool import open_pool
from pulse_storage.sealing import KeyRing
from pulse_testkit.otlp import OtlpCollector, open_collector

DASHBOARD = json.loads((ROOT / "deploy/grafana/pulse.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
MAY_BE_ZERO = {
    # Nothing is behind on a machine that keeps up, or not at the moment of a scrape.
    "max(pulse_ingest_oldest_unstored_age_seconds)",
    "max(pulse_router_oldest_unrouted_age_seconds)",
    "max(pulse_router_unrouted_messages)",
    "max(pulse_delivery_ready_messages)",
    # One route that is down waits for nobody's probe.
    "sum(pulse_delivery_probes_waiting)",
    # The receivers answer at once.
    "sum(pulse_delivery_slots_in_use) / sum(pulse_delivery_slots)",
}
"""All others must show more than nothing: one route is down, one is gone, and a device does not stop sending."""
OF_THE_TARGET = "namespace: telemetry, service: telemetry-admin, pod: telemetry-0, container: pulse, endpoint: admin"
"""As the Prometheus Operator labels what the ServiceMonitor of helm/everything.yaml selects.

The dashboard must work beside them, and the autoscalers ask by them.
"""
PROMETHEUS = shutil.which("prometheus")
DEVICE = "acme/device/boiler-1"
TOPIC = f"tenant/{DEVICE}/reading"
_PATIENCE_S = 60
"""Only a broken thing takes so long: the machine may be busy."""

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(IS_MISSING, reason=REASON),
    pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed (apt-get install prometheus)"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A running Pulse with a tenant whose device does not stop sending."""

    machine: Machine
    receiver: Receiver
    collector: OtlpCollector
    prometheus: httpx.AsyncClient
    token: str

    async def query(self, expression: str) -> list[float]:
        """Return the values that are numbers."""
        values = [float(sample["value"][1]) for sample in await self.samples(expression)]
        return [value for value in values if not math.isnan(value)]

    async def samples(self, expression: str) -> list[dict[str, Any]]:
        """Return what Prometheus answers: labels in ``metric``, and a ``value`` with its time."""
        asked = {"query": expression.replace("$__rate_interval", "10s")}
        answer = (await self.prometheus.get("/api/v1/query", params=asked)).raise_for_status()
        return answer.json()["data"]["result"]


@pytest.fixture(scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Live]:
    folder = tmp_path_factory.mktemp("compose")
    async with open_collector() as collector, open_receiver() as receiver:
        receiver.behaviour |= {"/down": always(503), "/gone": always(410)}
        variables = {"PULSE_EGRESS_ALLOW": "127.0.0.0/8", "DELIVERY_WORKER_COUNT": "512"}
        logins = {DEVICE: "of-the-device"}
        async with (
            run_compose(folder, collector.endpoint, logins=logins, **variables) as machine,
            _prometheus(machine) as prometheus,
        ):
            token = await _tenant(machine, receiver)
            live = Live(machine=machine, receiver=receiver, collector=collector, prometheus=prometheus, token=token)
            async with _sending(live):
                yield live


@asynccontextmanager
async def _prometheus(machine: Machine) -> AsyncGenerator[httpx.AsyncClient]:
    text = (COMPOSE / "prometheus.yml").read_text().replace("scrape_interval: 5s", "scrape_interval: 1s")
    for service in ("ingest", "router", "delivery"):
        assert f"{service}:9000" in text
        text = text.replace(f"{service}:9000", f"127.0.0.1:{machine.at(service, 9000).port}")
    text = text.replace("[{ targets:", f"[{{ labels: {{ {OF_THE_TARGET} }}, targets:")
    (machine.folder / "prometheus.yml").write_text(text)
    at = machine.at("prometheus", 9090)
    process = await asyncio.create_subprocess_exec(
        str(PROMETHEUS),
        f"--config.file={machine.folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={machine.folder / 'prometheus'}",
        f"--web.listen-address={at.host}:{at.port}",
        "--log.level=error",
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        async with httpx.AsyncClient(base_url=at.url("http")) as http:
            await eventually(lambda: answers(http, "/-/ready"), 30, what="Prometheus")
            yield http
    finally:
        process.terminate()
        await process.wait()


async def _tenant(machine: Machine, receiver: Receiver) -> str:
    """Make what every panel is to have something of; returns the device's token."""
    told = machine.environment("pulse")
    keys, egress = KeyRing.parse(told["PULSE_SECRET_KEYS"]), AddressPolicy.from_ranges([told["PULSE_EGRESS_ALLOW"]])
    async with open_pool(told["PULSE_DATABASE_URL"], service="test") as pool:
        control = Control(pool=pool, keys=keys, egress=egress)
        tenant = (await tenants.create_tenant(control, "acme", None, ACTOR)).tenant_id
        [device] = await devices.create_devices(control, tenant, ["boiler-1"], ACTOR)
        for path in ("ok", "down", "gone"):
            wanted = RouteInput(
                name=path, kind="webhook", config={"url": receiver.url(f"/{path}")}, topic_filter="#", policy=None
            )
            await routes.create_route(control, tenant, wanted, ACTOR)
    return device.token


@asynccontextmanager
async def _sending(live: Live) -> AsyncGenerator[None]:
    url = live.machine.at("ingest", 8080).url("http", "/ingest/v1/tenant/acme/device/boiler-1/reading")
    fields = {"authorization": f"Bearer {live.token}"}

    async def send() -> None:
        async with httpx.AsyncClient(headers=fields) as http:
            while True:
                with suppress(httpx.TransportError):  # what is not answered in time is sent again
                    await http.post(url, json={"metrics": {"temperature": 91.5}})
                await asyncio.sleep(0.2)

    task = asyncio.create_task(send(), name="test.device")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_a_device_s_message_reaches_the_receiver_over_mqtt(live: Live) -> None:
    at = live.machine.at("mosquitto", 8883)
    trust = ssl.create_default_context(cafile=str(live.machine.folder / "secrets/tls.crt"))
    # The certificate is for the names that the compose file gives.
    trust.check_hostname = False
    client = aiomqtt.Client(
        at.host, at.port, username=DEVICE, password="of-the-device", identifier="x", tls_context=trust
    )
    async with client:
        await client.publish(TOPIC, json.dumps({"over": "mqtt"}), qos=1)

    def arrived() -> bool:
        return any(request.json["payload"] == {"over": "mqtt"} for request in live.receiver.of("/ok"))

    await eventually(arrived, _PATIENCE_S, what="the message over MQTT")


async def test_what_cannot_be_delivered_waits_or_is_a_dead_letter(live: Live) -> None:
    """As Prometheus counts it, and as the operator's command finds it."""
    await eventually(lambda: live.query("pulse_delivery_troubled_routes > 0"), _PATIENCE_S, what="a troubled route")
    await eventually(lambda: live.query("pulse_delivery_dead_letters_total > 0"), _PATIENCE_S, what="a dead letter")
    assert (await pulse(live.machine, "route", "show", "down", "--tenant", "acme"))["state"]["waiting"]
    # The metric counts what is on its way to the table.
    dead = await eventually(
        lambda: pulse(live.machine, "dlq", "list", "--tenant", "acme"), _PATIENCE_S, what="a row of it"
    )
    assert {letter["destination_type"] for letter in dead} == {"webhook"}


async def test_the_collector_gets_spans_of_every_service_and_of_the_broker(live: Live) -> None:
    def seen() -> set[str]:
        hops = {span.name for span in live.collector.spans} & {"nats-server"}
        return {span.service for span in live.collector.spans} | hops

    expected = {"pulse-ingest", "pulse-router", "pulse-delivery", "nats-server"}
    await eventually(seen, _PATIENCE_S, until=lambda found: found >= expected, what="spans")


async def test_the_slot_budget_of_the_file_is_that_of_the_service(live: Live) -> None:
    await eventually(lambda: live.query("pulse_delivery_slots"), _PATIENCE_S, until=lambda shown: shown == [512.0])


@pytest.mark.parametrize("expression", QUERIES)
async def test_the_dashboard_s_query_returns_data(live: Live, expression: str) -> None:
    def has_data(values: list[float]) -> bool:
        return bool(values) and (expression in MAY_BE_ZERO or max(values) > 0)

    await eventually(lambda: live.query(expression), _PATIENCE_S, until=has_data, what=expression)


@pytest.mark.skipif(HELM is None, reason=HELM_REASON)
@pytest.mark.parametrize("name", ["router", "delivery"])
async def test_an_autoscaler_s_query_returns_one_number(live: Live, name: str) -> None:
    """As KEDA needs it: nothing, or more than one series, is an error to it."""
    [scaled] = [made for made in rendered(EVERYTHING).of_kind("ScaledObject") if component(made) == name]
    [trigger] = scaled["spec"]["triggers"]
    query = trigger["metadata"]["query"]
    await eventually(lambda: live.query("sum(up) == 3"), _PATIENCE_S, what="figures of all services")
    assert len(await eventually(lambda: live.query(query), _PATIENCE_S, what=query)) == 1


def test_what_may_be_zero_is_asked_for() -> None:
    assert set(QUERIES) >= MAY_BE_ZERO


@pytest.mark.parametrize("expression", [expression for expression in QUERIES if "pulse_build_info" in expression])
async def test_the_dashboard_knows_processes_by_their_service(live: Live, expression: str) -> None:
    """Whatever else Prometheus calls a service."""

    async def shown() -> set[str]:
        return {sample["metric"].get("pulse_service") for sample in await live.samples(expression)}

    await eventually(shown, _PATIENCE_S, until=lambda names: names == {"ingest", "router", "delivery"}, what=expression)
