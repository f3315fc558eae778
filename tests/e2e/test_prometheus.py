"""A real Prometheus reads what the services show, and the main figure tells the truth in a situation made for it."""

import asyncio
import shutil
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from textwrap import dedent
from typing import Any

import httpx
import pytest
from support.pulse import SERVICE_NAMES, Pulse
from support.receiver import Receiver, always, hangs
from support.tenant import Tenant
from support.waiting import eventually

from pulse_bus.api import api_request
from pulse_cli.embedded.ports import Ports
from pulse_runtime.metrics import reference_rows

PATIENT = {"backoff": {"first_s": 600, "cap_s": 600}}
UNDELIVERED_AGE = "pulse_delivery_oldest_undelivered_age_seconds"
AGE_WITHIN_S = 5
"""Measured every two seconds, read every second, on a machine that has other work."""
NEVER = -1e9
HANGING, UNROUTED = 3, 5
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

    await eventually(missing, 30, until=lambda names: not names, what="the whole catalogue")


async def test_the_predecessors_gauge_is_there(prometheus: Prometheus) -> None:
    await eventually(lambda: prometheus.query("pulse_ingest_delivery_queue_depth"), what="the gauge")


async def test_the_oldest_undelivered_age_is_true_by_cause(
    pulse: Pulse, prometheus: Prometheus, receiver: Receiver
) -> None:
    """One route is parked with something in it, one waits in the siding, one hangs on the fast lane."""
    tenant: Tenant = await pulse.tenant()
    device = await tenant.device()
    answered = asyncio.Event()
    receiver.behaviour |= {"/busy": always(503), "/hanging": hangs(until=answered)}
    parked = await tenant.webhook(receiver.url("/busy"), name="parked", topic_filter="+/+/+/+/p", policy=PATIENT)
    refusing = await tenant.webhook(receiver.url("/busy"), name="refusing", topic_filter="+/+/+/+/r", policy=PATIENT)
    await tenant.webhook(receiver.url("/hanging"), name="hanging", topic_filter="+/+/+/+/h", policy={"deadline_s": 60})
    began: dict[str, float] = {}

    async def send(message_type: str, cause: str) -> None:
        await device.accepted({}, message_type)
        began.setdefault(cause, time.time())

    await send("p", "parked")
    await eventually(parked.waiting, what="a message of the route to be parked")
    await parked.set_enabled(enabled=False)
    await send("r", "siding")
    await eventually(refusing.waiting, what="a message in the siding")
    for _ in range(HANGING):
        await send("h", "fast_lane")

    def are_true(shown: dict[str, float]) -> bool:
        return all(abs(shown.get(cause, NEVER) - (time.time() - at)) < AGE_WITHIN_S for cause, at in began.items())

    shown = await eventually(
        lambda: prometheus.query(UNDELIVERED_AGE),
        30,
        until=lambda shown: are_true(shown) and shown["fast_lane"] > AGE_WITHIN_S,
        what=f"true ages of what waits since {began}",
    )
    # The fast lane is looked at apart from these two, so its age may be of an earlier or a later moment.
    assert shown["parked"] > shown["siding"]
    # What delivery is scaled on: neither what is parked nor what waits for its own destination.
    await eventually(
        lambda: prometheus.query("pulse_delivery_ready_messages"),
        until=lambda shown: shown == {"delivery": HANGING},
        what="what hangs to be scaled for",
    )

    answered.set()
    began.pop("fast_lane")
    await eventually(
        lambda: prometheus.query(UNDELIVERED_AGE),
        20,
        until=lambda shown: shown.get("fast_lane") == 0 and are_true(shown),
        what="an empty fast lane beside what still waits",
    )
    await eventually(
        lambda: prometheus.query("pulse_delivery_ready_messages"),
        until=lambda shown: shown == {"delivery": 0},
        what="nothing to be scaled for",
    )


async def test_a_dead_letter_that_is_not_in_its_table_grows_old(
    pulse: Pulse, prometheus: Prometheus, receiver: Receiver
) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device()
    receiver.behaviour["/gone"] = always(410)
    await tenant.webhook(receiver.url("/gone"))

    async with pulse.locked("dead_letter_messages"):
        await device.accepted({})
        began = time.time()

        def is_true(shown: dict[str, float]) -> bool:
            age_s = shown.get("dead_letter", NEVER)
            return age_s > AGE_WITHIN_S and abs(age_s - (time.time() - began)) < AGE_WITHIN_S

        await eventually(lambda: prometheus.query(UNDELIVERED_AGE), 30, until=is_true, what="a true age")
    await eventually(
        lambda: prometheus.query(UNDELIVERED_AGE),
        30,
        until=lambda shown: shown.get("dead_letter") == 0,
        what="the dead letter to be filed",
    )


async def test_what_is_not_routed_is_counted_and_grows_old(
    pulse: Pulse, prometheus: Prometheus, receiver: Receiver
) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device()
    await tenant.webhook(receiver.url("/late"))

    async def unrouted() -> tuple[float, float]:
        names = ("pulse_router_unrouted_messages", "pulse_router_oldest_unrouted_age_seconds")
        messages, age_s = [(await prometheus.query(name)).get("router", NEVER) for name in names]
        return messages, age_s

    async with full(pulse, "DELIVERY"):
        for _ in range(UNROUTED):
            await device.accepted({})
        await eventually(
            unrouted, 30, until=lambda shown: shown[0] == UNROUTED and shown[1] > 3, what="the router's backlog"
        )
    await eventually(unrouted, 30, until=lambda shown: shown == (0, 0), what="everything to be routed")
    await eventually(lambda: len(receiver.of("/late")) == UNROUTED, what="delivery")


@asynccontextmanager
async def full(pulse: Pulse, stream: str) -> AsyncGenerator[None]:
    """Let a stream refuse everything within the block."""
    async with pulse.bus() as bus:
        config = (await api_request(bus, f"STREAM.INFO.{stream}"))["config"]
        await api_request(bus, f"STREAM.UPDATE.{stream}", {**config, "max_bytes": 1})
        yield
        await api_request(bus, f"STREAM.UPDATE.{stream}", config)


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
