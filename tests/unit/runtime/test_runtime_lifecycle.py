import asyncio
from collections.abc import Awaitable, Callable

import pytest
from structlog.typing import EventDict

from pulse_runtime import lifecycle as lifecycle_module
from pulse_runtime.lifecycle import CLOSING_BOUND_S, Lifecycle, run
from pulse_runtime.refusal import StartRefused


async def forever() -> None:
    await asyncio.Event().wait()


async def nothing() -> None:
    pass


def events(logged: list[EventDict]) -> list[str]:
    return [line["event"] for line in logged]


async def test_a_task_bears_its_name(logged: list[EventDict]) -> None:
    names: list[str] = []

    async def main(lifecycle: Lifecycle) -> None:
        names.append(lifecycle.spawn("ingest[broker-1].receive", forever()).get_name())
        lifecycle.stop("seen")

    assert await run(main, handle_signals=False) == 0
    assert names == ["ingest[broker-1].receive"]


async def test_an_essential_task_that_returns_stops_the_process(logged: list[EventDict]) -> None:
    async def main(lifecycle: Lifecycle) -> None:
        lifecycle.spawn("router.pull", nothing())

    assert await run(main, handle_signals=False) == 1
    failed = next(line for line in logged if line["event"] == "task_failed")
    assert failed["task"] == "router.pull"


async def test_an_essential_task_that_is_cancelled_stops_the_process(logged: list[EventDict]) -> None:
    async def main(lifecycle: Lifecycle) -> None:
        lifecycle.spawn("router.pull", forever()).cancel()

    assert await run(main, handle_signals=False) == 1


async def test_a_task_that_may_end_stops_nothing(logged: list[EventDict]) -> None:
    async def main(lifecycle: Lifecycle) -> None:
        await lifecycle.spawn("warm-up", nothing(), essential=False)
        lifecycle.stop("seen")

    assert await run(main, handle_signals=False) == 0
    assert "task_failed" not in events(logged)


async def test_a_failed_or_hanging_stop_step_does_not_keep_the_others_from_running(logged: list[EventDict]) -> None:
    ran: list[str] = []

    async def last() -> None:
        ran.append("last")

    async def broken() -> None:
        raise RuntimeError("cannot close")

    async def main(lifecycle: Lifecycle) -> None:
        lifecycle.on_stop("last", last, 1.0)
        lifecycle.on_stop("broken", broken, 1.0)
        lifecycle.on_stop("hanging", forever, 0.01)
        lifecycle.stop("seen")

    assert await run(main, handle_signals=False) == 0
    assert ran == ["last"]
    assert [(line["event"], line["step"]) for line in logged if "step" in line] == [
        ("stop_step_timed_out", "hanging"),
        ("stop_step_failed", "broken"),
    ]


async def test_a_failure_while_stopping_is_still_a_failure(logged: list[EventDict]) -> None:
    async def fails_when_cancelled() -> None:
        try:
            await forever()
        finally:
            raise RuntimeError("cannot flush")

    async def main(lifecycle: Lifecycle) -> None:
        lifecycle.spawn("flush", fails_when_cancelled())
        await asyncio.sleep(0)
        lifecycle.stop("seen")

    assert await run(main, handle_signals=False) == 1
    assert "task_failed" in events(logged)


async def test_cancelling_the_run_stops_in_order_and_stays_cancelled(logged: list[EventDict]) -> None:
    ready = asyncio.Event()
    ran: list[str] = []

    async def undo() -> None:
        await asyncio.sleep(0)
        ran.append("undone")

    async def main(lifecycle: Lifecycle) -> None:
        lifecycle.on_stop("undo", undo, 1.0)
        ready.set()

    running = asyncio.create_task(run(main, handle_signals=False))
    await ready.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ran == ["undone"]


async def test_stopping_is_bounded_however_many_steps_hang(
    logged: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle_module, "_CLOSE_STEP_S", 0.04)
    monkeypatch.setattr(lifecycle_module, "_CLOSING_S", 0.1)
    bounds: list[float] = []

    async def main(lifecycle: Lifecycle) -> None:
        for number in range(9):
            lifecycle.on_stop(f"close-{number}", forever)
        bounds.append(lifecycle.stop_bound_s)
        lifecycle.on_stop("work", forever, 0.02)
        bounds.append(lifecycle.stop_bound_s)
        lifecycle.stop("seen")

    assert await run(main, handle_signals=False) == 0
    timed_out = [line["step"] for line in logged if line["event"] == "stop_step_timed_out"]
    [skipped] = [line["steps"] for line in logged if line["event"] == "stop_steps_skipped"]
    assert timed_out[0] == "work"
    # Three of 0.04 s are more than there is for all.
    assert 1 <= len(timed_out) - 1 <= 3
    assert timed_out[1:] + skipped == [f"close-{number}" for number in reversed(range(9))]
    assert bounds == pytest.approx([CLOSING_BOUND_S, CLOSING_BOUND_S + 0.02])


async def test_a_failed_setup_undoes_what_was_done(logged: list[EventDict]) -> None:
    ran: list[str] = []

    async def undo() -> None:
        ran.append("undone")

    async def main(lifecycle: Lifecycle) -> None:
        lifecycle.on_stop("connection", undo, 1.0)
        raise RuntimeError("no subscription")

    assert await run(main, handle_signals=False) == 1
    assert ran == ["undone"]
    assert [line["task"] for line in logged if line["event"] == "task_failed"] == ["main"]


async def test_a_refused_start_says_why_without_a_traceback(logged: list[EventDict]) -> None:
    async def main(_lifecycle: Lifecycle) -> None:
        raise StartRefused("PULSE_NATS_URL is not set")

    assert await run(main, handle_signals=False) == 2
    refused = next(line for line in logged if line["event"] == "start_refused")
    assert refused["error"] == "PULSE_NATS_URL is not set"
    assert "exc_info" not in refused


async def test_a_setup_that_is_cancelled_from_within_fails_the_process(logged: list[EventDict]) -> None:
    async def main(_lifecycle: Lifecycle) -> None:
        raise asyncio.CancelledError

    assert await run(main, handle_signals=False) == 1


async def test_a_task_can_stop_the_process_from_within(logged: list[EventDict]) -> None:
    async def main(lifecycle: Lifecycle) -> None:
        async def wait_for_the_end() -> None:
            await lifecycle.stopping.wait()

        lifecycle.spawn("drain", wait_for_the_end())
        lifecycle.stop("asked to")
        lifecycle.stop("asked twice")

    assert await run(main, handle_signals=False) == 0
    assert [line["reason"] for line in logged if line["event"] == "service_stopping"] == ["asked to"]


async def test_nothing_can_be_spawned_after_the_end(logged: list[EventDict]) -> None:
    kept: list[Lifecycle] = []

    async def main(lifecycle: Lifecycle) -> None:
        kept.append(lifecycle)
        lifecycle.stop("seen")

    await run(main, handle_signals=False)
    with pytest.raises(RuntimeError, match="cannot spawn late"):
        kept[0].spawn("late", forever())


async def test_no_task_is_left(logged: list[EventDict]) -> None:
    before = asyncio.all_tasks()

    async def main(lifecycle: Lifecycle) -> None:
        lifecycle.spawn("a", forever())
        lifecycle.on_stop("spawns", _spawning(lifecycle), 1.0)
        lifecycle.stop("seen")

    await run(main, handle_signals=False)
    assert before == asyncio.all_tasks()


def _spawning(lifecycle: Lifecycle) -> Callable[[], Awaitable[None]]:
    async def step() -> None:
        lifecycle.spawn("b", forever())

    return step
