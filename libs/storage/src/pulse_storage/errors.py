"""Translates what PostgreSQL raises, in one table."""

from collections.abc import Generator
from contextlib import contextmanager

import asyncpg

from pulse_contracts.storing import DataRefused, StorageUnavailable
from pulse_storage.pool import UNAVAILABLE


@contextmanager
def translated() -> Generator[None, None, None]:
    """Raise `StorageUnavailable` or `DataRefused` instead of what the driver raises.

    Everything that does not clearly speak of the data counts as unavailable: a writer that retries loses nothing.
    """
    try:
        yield
    except UNAVAILABLE as exc:
        raise StorageUnavailable(repr(exc)) from exc
    except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, UnicodeError, ValueError, TypeError) as exc:
        raise DataRefused(str(exc)) from exc
    except asyncpg.PostgresError as exc:
        raise StorageUnavailable(repr(exc)) from exc
