"""A real Prometheus reads what the services show, and the main figure tells the truth in a situation made for it."""

import asyncio
import shutil
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from textwrap import dedent
from typing import Any

import httpx
import pytest
from support.pulse import SERVICE_NAMES, Pulse
from support.receiver import Receiver
from support.tenant import Tenant
from support.waiting import eventually

from pulse_cli.embedded.ports import Ports
from pulse_runtime.metrics import reference_rows

PATIENT = {"backoff": {"first_s": 600, "cap_s": 600}}
NO_PROMETHEUS = "needs Prometheus, which no wheel brings: apt-get install prometheus"

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason=NO_PROMETHEUS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prometheus:
    """A running Prometheus, as its users query it."""

    http: httpx.AsyncClient

    async def query(self, expression: str) -> dict[str, float]:
        """Return the values of an instant query by service, or by cause where that is a label."""
        answer = (await self.http.get("/api/v1/query", params={"query": expression})).raise_for_status()
        results: list[dict[str, Any]] = answer.json()["data"]["result"]
        return {
            sample["metric"].get("cause") or sample["metric"].get("job", ""): float(sample["value"][1])
            for sample in results
        }


@pytest.fixture(scope="module")
async def prometheus(pulse: Pulse, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "prometheus.yml").write_text(_config(pulse), encoding="utf-8")
    with Ports() as ports:
        port = ports.hold("prometheus").port
        process = await asyncio.create_subprocess_exec(
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=error",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
                await eventually(_is_ready(http), 30, what="Prometheus")
                yield Prometheus(http=http)
        finally:
            process.terminate()
            await process.wait()


def _config(pulse: Pulse) -> str:
    jobs = "".join(
        f"""
          - job_name: {name}
            static_configs: [{{targets: ["127.0.0.1:{pulse.stack.addresses.admin[name].port}"]}}]"""
        for name in SERVICE_NAMES
    )
    return dedent(
        f"""
        global: {{scrape_interval: 1s, scrape_timeout: 1s}}
        scrape_configs:{jobs}
        """
    )


def _is_ready(http: httpx.AsyncClient) -> Callable[[], Any]:
    async def ask() -> bool:
        try:
            return (await http.get("/-/ready")).is_success
        except httpx.TransportError:
            return False

    return ask


@pytest.mark.parametrize("service", SERVICE_NAMES)
async def test_promtool_finds_nothing_to_say(pulse: Pulse, service: str) -> None:
    metrics = (await pulse.admin(service, "/metrics")).content
    check = await asyncio.create_subprocess_exec(
        "promtool", "check", "metrics", stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    _, said = await check.communicate(metrics)
    assert (check.returncode, said.decode()) == (0, "")


async def test_every_metric_of_the_catalogue_arrives(prometheus: Prometheus) -> None:
    async def missing() -> set[str]:
        answer = await prometheus.http.get("/api/v1/metadata")
        known = set(answer.json()["data"])
        # OpenMetrics, which Prometheus asks for, names the family of a counter without its suffix.
        return {row.name for row in reference_rows() if not {row.name, row.name.removesuffix("_total")} & known}

    await eventually(missing, 15, until=lambda names: not names, what="the whole catalogue")


async def test_the_predecessors_gauge_is_there(prometheus: Prometheus) -> None:
    await eventually(lambda: prometheus.query("pulse_ingest_delivery_queue_depth"), what="the gauge")


async def test_the_oldest_undelivered_age_is_true_by_cause(
    pulse: Pulse, prometheus: Prometheus, receiver: Receiver
) -> None:
    """One route refuses and waits in the siding, one is parked with something in it; the fast lane owes nothing."""
    tenant: Tenant = await pulse.tenant()
    device = await tenant.device()
    url = receiver.url("/hook")
    await receiver.close()
    refusing = await tenant.webhook(url, name="refusing", topic_filter="tenant/+/device/+/r", policy=PATIENT)
    parked = await tenant.webhook(url, name="parked", topic_filter="tenant/+/device/+/p", policy=PATIENT)
    await device.accepted({}, "p")
    began_parked = time.time()
    await eventually(parked.waiting, what="a message of the route to be parked")
    await parked.set_enabled(enabled=False)
    await device.accepted({}, "r")
    began_refusing = time.time()
    await eventually(refusing.waiting, what="a message in the siding")

    async def ages() -> dict[str, float]:
        return await prometheus.query("pulse_delivery_oldest_undelivered_age_seconds")

    def is_true(shown: dict[str, float]) -> bool:
        expected = {"siding": time.time() - began_refusing, "parked": time.time() - began_parked}
        return all(abs(shown.get(cause, -99) - age) < 5 for cause, age in expected.items())

    shown = await eventually(ages, 20, until=lambda shown: is_true(shown) and shown["siding"] > 4, what="true ages")
    assert shown["fast_lane"] == 0
    assert shown["parked"] > shown["siding"]


async def test_what_is_not_stored_grows_old(pulse: Pulse, prometheus: Prometheus) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device()
    async with pulse.locked("telemetry"):
        await device.accepted({})
        await eventually(
            lambda: prometheus.query("pulse_ingest_oldest_unstored_age_seconds"),
            20,
            until=lambda shown: shown.get("ingest", 0) > 3,
            what="an age",
        )
    await eventually(
        lambda: prometheus.query("pulse_ingest_oldest_unstored_age_seconds"),
        30,
        until=lambda shown: shown.get("ingest") == 0,
        what="everything to be stored",
    )
