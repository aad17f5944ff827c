"""The database: one pool of connections, to a server or to the embedded engine."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import asyncpg

from collector.engine import EmbeddedEngine, parse_embedded
from collector.errors import DatabaseError, RejectedBatchError

# A connection of one's own, or one lent by the pool.
Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy

# All deadlines of database work, by operation.
CONNECT_DEADLINE_S = 30
WRITE_DEADLINE_S = 60
READ_DEADLINE_S = 600

# What the database says when it is the data's fault and another try would end the same way.
_REJECTIONS = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)


@asynccontextmanager
async def open_pool(
    database: str, *, max_size: int = 4, min_size: int = 1
) -> AsyncIterator[asyncpg.Pool]:
    """Connect to `database` (`embedded:…` or a DSN) and yield a pool; close all of it after.

    With a `min_size` of 0, a server is not called before a connection is wanted.

    The embedded engine is started if it does not run, and stopped if it was started here.
    Raises DatabaseError when there is no database to be had.
    """
    data_dir = parse_embedded(database)
    if data_dir is None:
        async with _pool(database, min_size, max_size) as pool:
            yield pool
        return
    async with EmbeddedEngine(data_dir) as engine, _pool(engine.dsn, min_size, max_size) as pool:
        yield pool


@asynccontextmanager
async def _pool(dsn: str, min_size: int, max_size: int) -> AsyncIterator[asyncpg.Pool]:
    try:
        with translated("connect"):
            pool = await asyncpg.create_pool(
                dsn,
                min_size=min_size,
                max_size=max_size,
                timeout=CONNECT_DEADLINE_S,
                command_timeout=READ_DEADLINE_S,
                server_settings={"application_name": "bbbmeter", "timezone": "UTC"},
            )
    except ValueError:
        # Its message and its cause can hold a part of the password.
        msg = (
            "connect: database is no URL such as postgresql://user:password@host:5432/name; in "
            "user and password, characters such as / ? # @ : % are written as %2F and so on"
        )
        raise DatabaseError(msg) from None
    try:
        yield pool
    finally:
        try:
            await asyncio.wait_for(pool.close(), CONNECT_DEADLINE_S)
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            pool.terminate()


@contextmanager
def translated(operation: str) -> Iterator[None]:
    """Turn the driver's errors into DatabaseError, or RejectedBatchError for a data error.

    The message names the operation and what the database said, never the values sent.
    """
    try:
        yield
    except _REJECTIONS as error:
        msg = f"{operation}: {_said(error)}"
        raise RejectedBatchError(msg) from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        msg = f"{operation}: {_said(error)}"
        raise DatabaseError(msg) from error


def _said(error: Exception) -> str:
    """Return the driver's message with its class; never its detail, which can hold data."""
    text = getattr(error, "message", None) or str(error) or "no answer in time"
    return f"{text} ({type(error).__name__})"
