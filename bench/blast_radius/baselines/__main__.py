"""Runs a baseline: ``python -m blast_radius.baselines inline|queued FOLDER``; says ``{"port": …}`` when it listens.

*FOLDER* holds ``strands.json``; there it keeps ``telemetry.log`` and ``dead_letters.log``.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, cast

from blast_radius.baselines.delivery import Webhooks, open_session
from blast_radius.baselines.inline import InlineLog
from blast_radius.baselines.journal import Journal
from blast_radius.baselines.queued import QueuedLog
from pulse_contracts.ids import DeviceId, TenantId
from pulse_contracts.records import QuarantineRecord
from pulse_ingest.adapters.arrivals import Arrivals
from pulse_ingest.adapters.authentication import Authenticator
from pulse_ingest.domain.credentials import Principal, Registry, digest
from pulse_ingest.domain.intake import Intake
from pulse_ingest.domain.ports import Receipt
from pulse_ingest.http.listener import serve
from pulse_ingest.http.server import build_application
from pulse_runtime.clock import SystemClock
from pulse_runtime.lifecycle import Lifecycle, run_process
from pulse_runtime.metrics import IngestMetrics, new_registry
from pulse_runtime.spans import OFF
from pulse_storage.pool import Pool

KINDS: Final = {"inline": InlineLog, "queued": QueuedLog}
_CLOSES_WITHIN_S: Final = 1.0
_NO_DATABASE: Final = cast("Pool", None)
"""Every token of the bench is in the registry, so nobody is looked up."""


class NoQuarantine:
    """Takes nothing: over HTTP what is wrong is refused."""

    async def commit(self, record: QuarantineRecord) -> Receipt:
        raise AssertionError(f"over http nothing is quarantined: {record.reason}")


async def start(lifecycle: Lifecycle) -> None:
    """Start the baseline; returns when it listens."""
    kind, folder = sys.argv[1], Path(sys.argv[2])
    strands: list[dict[str, Any]] = json.loads((folder / "strands.json").read_text(encoding="utf-8"))
    journal, dead_letters = Journal(folder / "telemetry.log"), Journal(folder / "dead_letters.log")
    session = open_session()
    urls = {strand["topic"]: strand["url"] for strand in strands}
    log = KINDS[kind](journal, Webhooks(session, urls, dead_letters))
    for name, work in (("journal", journal.run()), ("dead_letters", dead_letters.run()), ("workers", log.run())):
        lifecycle.spawn(f"baseline.{name}", work)
    clock = SystemClock()
    application = build_application(
        Intake(log, NoQuarantine(), clock),
        Authenticator(_registry(strands), _NO_DATABASE),
        IngestMetrics(new_registry()),
        Arrivals(OFF, clock),
    )
    serving = serve(application, "127.0.0.1", 0)
    listener = await serving.__aenter__()

    async def stop() -> None:
        await serving.__aexit__(None, None, None)

    lifecycle.on_stop("http", stop, _CLOSES_WITHIN_S)
    sys.stdout.write(json.dumps({"port": listener.port}) + "\n")
    sys.stdout.flush()


def _registry(strands: Iterable[dict[str, Any]]) -> Registry:
    registry = Registry()
    registry.replace(
        (digest(s["token"]), Principal(tenant=TenantId(s["tenant"]), device=DeviceId(s["device"]))) for s in strands
    )
    return registry


if __name__ == "__main__":
    sys.exit(run_process(start, service="baseline"))
