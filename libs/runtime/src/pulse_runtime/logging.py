"""Structured events on stderr: JSON lines for machines, aligned colours for a terminal."""

import logging
import sys
from typing import Final, Literal, TextIO, cast

import structlog
from structlog.contextvars import bound_contextvars
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from pulse_runtime.redaction import mask

__all__ = ["LogFormat", "LogLevel", "bound_contextvars", "configure", "get_logger"]

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "json", "pretty"]

_CHATTY: Final = ("uvicorn.error", "uvicorn.access", "asyncio", "nats", "aiomqtt", "mqtt", "httpx", "httpcore")
"""Libraries whose information repeats events of ours; from them only warnings are kept."""


def configure(service: str, level: LogLevel, format: LogFormat = "auto") -> None:  # noqa: A002 -- the setting's own name
    """Send the events of structlog and of the standard library to stderr, with secrets masked.

    May be called again; the last call wins. Loggers that were made earlier follow it.
    """
    stream = sys.stderr
    pretty = stream.isatty() if format == "auto" else format == "pretty"
    threshold = logging.getLevelNamesMapping()[level.upper()]
    ahead = _enrichers(service)
    behind: list[Processor] = [structlog.processors.format_exc_info, _mask_secrets, _renderer(stream, pretty=pretty)]
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, *ahead, *behind],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        # A cached logger would keep the settings of its first event, which may come before this call.
        cache_logger_on_first_use=False,
    )
    _route_standard_library(stream, threshold, ahead, behind)


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger whose events carry its name as `logger`; it may be made at import, before `configure`."""
    return cast("FilteringBoundLogger", structlog.get_logger(logger_name=name))


def _enrichers(service: str) -> list[Processor]:
    def add_names(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        if "logger_name" in event:  # structlog has no initial value named `logger`
            event["logger"] = event.pop("logger_name")
        return event

    return [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_names,
        structlog.processors.StackInfoRenderer(),
    ]


def _mask_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Runs last before rendering: what it returns is all that is ever written."""
    return {name: mask(name, value) for name, value in event.items()}


def _renderer(stream: TextIO, *, pretty: bool) -> Processor:
    if not pretty:
        return structlog.processors.JSONRenderer()
    # Exceptions arrive as masked text; a formatter that prints local variables would undo the masking.
    formatter = structlog.dev.plain_traceback
    return structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=formatter)


def _route_standard_library(stream: TextIO, threshold: int, ahead: list[Processor], behind: list[Processor]) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.contextvars.merge_contextvars, structlog.stdlib.add_logger_name, *ahead],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *behind],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(threshold)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))
    logging.captureWarnings(capture=True)
