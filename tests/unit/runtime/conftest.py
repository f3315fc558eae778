"""Gives the global loggers back as they were found."""

import logging
from collections.abc import Generator

import pytest
import structlog
from structlog.typing import EventDict


@pytest.fixture
def logging_restored() -> Generator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def logged() -> Generator[list[EventDict]]:
    with structlog.testing.capture_logs() as events:
        yield events
