import json
import logging
import os
import pty
import sys
import warnings
from typing import Any

import pytest

from pulse_runtime.logging import bound_contextvars, configure, get_logger

pytestmark = pytest.mark.usefixtures("logging_restored")

CANARY = "canary4711"


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_an_event_is_one_json_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    configure("delivery", "info", "json")
    get_logger("pulse_delivery.app").info("route_delivered", route_id="r1", duration_s=0.5)
    (line,) = lines(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "route_delivered",
        "level": "info",
        "service": "delivery",
        "logger": "pulse_delivery.app",
        "route_id": "r1",
        "duration_s": 0.5,
    }


def test_a_logger_made_before_configuring_follows_it(capsys: pytest.CaptureFixture[str]) -> None:
    log = get_logger("early")
    configure("a", "info", "json")
    configure("b", "info", "json")
    log.info("service_started")
    assert [line["service"] for line in lines(capsys)] == ["b"]


def test_auto_means_json_where_stderr_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    configure("delivery", "info", "auto")
    get_logger("x").info("service_started")
    assert len(lines(capsys)) == 1


def test_auto_means_pretty_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal, os.fdopen(ours, "rb", buffering=0) as screen:
        monkeypatch.setattr(sys, "stderr", terminal)
        configure("delivery", "info", "auto")
        get_logger("x").info("service_started")
        terminal.flush()
        shown = screen.read(10_000).decode()
    assert "service_started" in shown
    assert not shown.startswith("{")


def test_context_is_part_of_every_event(capsys: pytest.CaptureFixture[str]) -> None:
    configure("delivery", "info", "json")
    with bound_contextvars(message_id="m1"):
        get_logger("x").info("route_delivered")
        logging.getLogger("other").warning("said")
    assert [line["message_id"] for line in lines(capsys)] == ["m1", "m1"]


def test_less_severe_events_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    configure("delivery", "warning", "json")
    get_logger("x").info("route_delivered")
    logging.getLogger("other").info("said")
    get_logger("x").warning("route_troubled")
    assert [line["event"] for line in lines(capsys)] == ["route_troubled"]


def test_the_standard_library_and_warnings_come_the_same_way(capsys: pytest.CaptureFixture[str]) -> None:
    configure("ingest", "info", "json")
    logging.getLogger("nats.aio").error("lost %s", f"nats://u:{CANARY}@h")
    logging.getLogger("uvicorn.error").info("Started server process")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("mind this", stacklevel=1)
    lost, warned = lines(capsys)
    assert (lost["event"], lost["level"], lost["logger"]) == ("lost nats://u:***@h", "error", "nats.aio")
    assert "mind this" in warned["event"]


@pytest.mark.parametrize("style", ["json", "pretty"])
def test_no_secret_is_written(capsys: pytest.CaptureFixture[str], style: Any) -> None:
    configure("delivery", "debug", style)
    log = get_logger("x").bind(device_token=CANARY)
    try:
        raise ConnectionError(f"postgresql://w:{CANARY}@db refused Bearer {CANARY}")  # noqa: TRY301 -- raised to be logged
    except ConnectionError as exc:
        log.exception("task_failed", headers={"Authorization": CANARY}, secret=CANARY.encode())
        log.exception("task_failed", error=exc, exc_info=exc)
        logging.getLogger("asyncio").exception("never retrieved")
    log.info("signed", detail=f"whsec_{CANARY}", key=[CANARY], url=f"https://h/?token={CANARY}")
    with bound_contextvars(password=CANARY):
        log.info("route_delivered")
    written = capsys.readouterr().err
    assert CANARY not in written
    assert "ConnectionError" in written


def test_exceptions_are_text_in_their_event(capsys: pytest.CaptureFixture[str]) -> None:
    configure("delivery", "info", "json")
    get_logger("x").error("task_failed", exc_info=ValueError("broken"))
    (line,) = lines(capsys)
    assert "ValueError: broken" in line["exception"]
