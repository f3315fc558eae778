"""Translates what PostgreSQL raises, in one table, into sentences."""

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

import asyncpg

from pulse_contracts.ids import TenantId
from pulse_contracts.storing import DataRefused, StorageUnavailable
from pulse_storage.pool import UNAVAILABLE, Connection, Pool, tenant_transaction


class AccessDenied(StorageUnavailable):
    """The role may not do it; for a service this is like an outage, until somebody grants what is missing."""


@contextmanager
def translated() -> Generator[None, None, None]:
    """Raise `StorageUnavailable` or `DataRefused` instead of what the driver raises.

    Everything that does not clearly speak of the data counts as unavailable: a writer that retries loses nothing.
    """
    try:
        yield
    except UNAVAILABLE as exc:
        raise StorageUnavailable(f"the database cannot be reached: {exc!r}") from exc
    except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, UnicodeError, ValueError, TypeError) as exc:
        raise DataRefused(f"the database refuses the data: {exc}") from exc
    except asyncpg.InsufficientPrivilegeError as exc:
        raise AccessDenied(f"the database does not allow this to the role: {exc}") from exc
    except asyncpg.PostgresError as exc:
        raise StorageUnavailable(_sentence(exc)) from exc


@asynccontextmanager
async def translated_transaction(pool: Pool, tenant: TenantId) -> AsyncGenerator[Connection, None]:
    """Yield a tenant's transaction like `tenant_transaction`, raising as `translated` does."""
    with translated():
        async with tenant_transaction(pool, tenant) as connection:
            yield connection


def _sentence(exc: asyncpg.PostgresError) -> str:
    match exc:
        case asyncpg.InvalidAuthorizationSpecificationError():
            return f"the database refuses the login: {exc}"
        case asyncpg.InvalidCatalogNameError():
            return f"there is no such database: {exc}"
        case asyncpg.UndefinedTableError() | asyncpg.UndefinedColumnError() | asyncpg.UndefinedObjectError():
            return f"the database lacks a migration, see `pulse migrate`: {exc}"
        case _:
            return f"the database failed: {exc!r}"
