"""The test build: the services with planted bugs, which the ledger must find. None of it ships.

`PLANTED_IN=pulse_router PLANTED_SWITCHES=folder python -m chaos_planted` runs the router; a bug is on while a file of
its name is in the folder. Bugs are patches of the running code, so that the product carries nothing of them; one that
no longer fits ends the process. So is `two_sweeps`, a circumstance under which one of them does harm.
"""

import asyncio
import functools
import os
import runpy
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

SWITCHES: Final = "PLANTED_SWITCHES"
SERVICE: Final = "PLANTED_IN"
_LATE_S: Final = 10.0
"""So long that whatever is struck is struck before it."""


def plant_in_ingest() -> None:
    from pulse_bus.errors import BusUnavailable
    from pulse_bus.publisher import Publisher
    from pulse_ingest.adapters.logs import JetStreamQuarantineLog, JetStreamTelemetryLog
    from pulse_ingest.domain.ports import Receipt
    from pulse_storage import telemetry

    late: set[asyncio.Task[Any]] = set()

    @_plant("acknowledged_before_commit", JetStreamTelemetryLog, "commit")
    async def _(commit: Callable[..., Any], *args: Any) -> Receipt:
        late.add(asyncio.create_task(_later(commit, *args)))
        return Receipt(duplicate=False)

    @_plant("lost_pub_ack_swallowed", Publisher, "_send")
    async def _(send: Callable[..., Any], *args: Any) -> bool:
        try:
            return await send(*args)
        except BusUnavailable:
            return False

    @_plant("no_on_conflict", telemetry, "sql")
    def _(sql: Callable[[str], str], name: str) -> str:
        return sql(name).replace("ON CONFLICT DO NOTHING", "")

    @_plant("quarantine_dropped", JetStreamQuarantineLog, "commit")
    async def _(*_: Any) -> Receipt:
        return Receipt(duplicate=False)


def plant_in_router() -> None:
    from pulse_router.domain.table import RouteTable, Verdict

    @_plant("tenant_filter_dropped", RouteTable, "judge")
    def _(judge: Callable[..., Verdict], table: RouteTable, envelope: Any, payload: Any) -> Verdict:
        verdicts = [judge(table, replace(envelope, tenant_id=tenant), payload) for tenant in table.indexes]
        everybody_s = tuple(route for verdict in verdicts for route in verdict.matched)
        return replace(judge(table, envelope, payload), matched=everybody_s)


def plant_in_delivery() -> None:
    from pulse_delivery.adapters import shunts
    from pulse_delivery.adapters.route_book import RouteBook
    from pulse_delivery.adapters.settler import Settler
    from pulse_delivery.siding.sweep import Sweep
    from pulse_egress.dial import begin_attempt
    from pulse_egress.engine import HttpEngine
    from pulse_egress.guard import check_url

    @_plant("redirect_followed", HttpEngine, "_send")
    async def _(send: Callable[..., Any], engine: Any, attempt: Any, *request: Any) -> Any:
        response = await send(engine, attempt, *request)
        if (location := response.headers.get("Location")) is None:
            return response
        return await send(engine, begin_attempt(check_url(location, engine._policy), engine._guard), *request)

    @_plant("two_sweeps", Sweep, "page")
    async def _(page: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
        """Sweep as two processes do at once, which is no bug."""
        left, _ = await asyncio.gather(page(*args), page(*args))
        return left

    at_the_head = asyncio.Lock()

    @_plant("siding_swept_twice", Sweep, "_remove")
    async def _(_: Callable[..., Any], sweep: Any, address: Any, _first: Any, dead: Any) -> None:
        """Remove what is at the head instead of what was judged: another sweep may have removed that."""
        for _ in dead:
            async with at_the_head:
                if head := await sweep._siding.peek(address):
                    await sweep._siding.remove(head.stream_seq)

    @_plant("dead_letter_after_ack", Settler, "dead_letter")
    async def _(_: Callable[..., Any], settler: Settler, message: Any, *dead_letter: Any) -> None:
        await message.ack()
        await _later(settler.publish_dead_letter, *dead_letter)

    @_plant("route_revision_ignored", RouteBook, "get")
    def _(get: Callable[..., Any], book: RouteBook, route: Any, revision: int = 0) -> Any:
        del revision
        return get(book, route)

    @_plant("shunt_without_publish", shunts, "publish_patiently")
    async def _(*_: Any) -> None:
        """Say that it is committed."""


IN: Final[Mapping[str, Callable[[], None]]] = {
    "pulse_ingest": plant_in_ingest,
    "pulse_router": plant_in_router,
    "pulse_delivery": plant_in_delivery,
}


async def _later(work: Callable[..., Any], *args: Any) -> None:
    await asyncio.sleep(_LATE_S)
    await work(*args)


def _plant(bug: str, owner: object, name: str) -> Callable[[Callable[..., Any]], None]:
    """Replace a function by one that, while the bug is on, gets the original as its first argument.

    Raises AttributeError if there is none: no bug is planted in vain.
    """
    original = getattr(owner, name)
    switch = Path(os.environ[SWITCHES]) / bug

    def decorate(planted: Callable[..., Any]) -> None:
        @functools.wraps(original)
        def either(*args: Any, **named: Any) -> Any:
            return planted(original, *args, **named) if switch.exists() else original(*args, **named)

        setattr(owner, name, either)

    return decorate


if __name__ == "__main__":
    IN[os.environ[SERVICE]]()
    runpy.run_module(os.environ[SERVICE], run_name="__main__", alter_sys=True)
