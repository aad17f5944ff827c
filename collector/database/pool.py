"""One pool of connections, to a database server or to the embedded engine."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import asyncpg

from collector.database.deadlines import CLOSE_DEADLINE_S, CONNECT_DEADLINE_S, READ_DEADLINE_S
from collector.database.engine import EmbeddedEngine, parse_embedded
from collector.errors import DatabaseError, RejectedBatchError

# A separate connection, or one lent by the pool.
Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy

# Errors that the data cause: another attempt would fail in the same way.
_REJECTIONS = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)

# The driver raises the last one when its own state is wrong, as after a lost connection.
# Readers have no access to the list of migrations. These errors show that a migration is missing.
NO_SCHEMA = (
    asyncpg.InvalidSchemaNameError,
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedFunctionError,
    asyncpg.UndefinedColumnError,
)
_FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


@asynccontextmanager
async def open_pool(
    database: str, *, max_size: int = 4, at_once: bool = True
) -> AsyncIterator[asyncpg.Pool]:
    """Connect to `database` (`embedded:…` or a DSN), yield a pool, and close it at the end.

    With `at_once` a server is contacted now, else only when a connection is needed.

    The embedded engine is started if it does not run, and stopped if it was started here.
    Raises DatabaseError if the database cannot be reached.
    """
    data_dir = parse_embedded(database)
    if data_dir is None:
        async with _pool(database, max_size, at_once=at_once) as pool:
            yield pool
        return
    async with EmbeddedEngine(data_dir) as engine, _pool(engine.dsn, max_size) as pool:
        yield pool


@asynccontextmanager
async def _pool(dsn: str, max_size: int, *, at_once: bool = True) -> AsyncIterator[asyncpg.Pool]:
    try:
        with translated("connect"):
            pool = await asyncpg.create_pool(
                dsn,
                # asyncpg would log each attempt to keep a minimum number of connections open.
                min_size=0,
                max_size=max_size,
                timeout=CONNECT_DEADLINE_S,
                command_timeout=READ_DEADLINE_S,
                server_settings={"application_name": "bbbmeter", "timezone": "UTC"},
                reset=_keep,
            )
            if at_once:
                async with pool.acquire():
                    pass
    except ValueError:
        # Its message and its cause can hold a part of the password.
        msg = (
            "connect: database is not a valid URL; expected "
            "postgresql://user:password@host:5432/name. In user and password, percent-encode "
            "characters such as / ? # @ : % (write / as %2F)"
        )
        raise DatabaseError(msg) from None
    try:
        yield pool
    finally:
        try:
            await asyncio.wait_for(pool.close(), CLOSE_DEADLINE_S)
        except (*_FAILURES, OSError, TimeoutError):
            pool.terminate()


async def _keep(_connection: Connection) -> None:
    """Return a connection to the pool as it is; an open transaction was rolled back already.

    No code here changes session state outside a transaction, and a reset would cost a round trip.
    """


@asynccontextmanager
async def borrowed(
    pool: asyncpg.Pool, operation: str, deadline_s: float
) -> AsyncIterator[Connection]:
    """Lend a connection for `operation`; raise DatabaseError after `deadline_s` seconds.

    A connection that did not answer in time is closed. To cancel its statement, or to return it
    cleanly, would mean to wait for the same answer.
    """
    with translated(operation):
        async with asyncio.timeout(deadline_s):
            connection = await pool.acquire(timeout=deadline_s)
            answered = False
            try:
                yield connection
                answered = True
            except asyncpg.PostgresError:
                answered = True
                raise
            finally:
                if not answered:
                    abandon(connection)
                await pool.release(connection)


def abandon(connection: Connection) -> None:
    """Close a borrowed connection at once, without waiting for the server."""
    with suppress(asyncpg.InterfaceError):  # the server has closed it
        connection.terminate()


@contextmanager
def translated(operation: str) -> Iterator[None]:
    """Turn the driver's errors into DatabaseError, or RejectedBatchError for a data error.

    The message names the operation and quotes the database's message, never the values sent.
    """
    try:
        yield
    except _REJECTIONS as error:
        msg = f"{operation}: {_said(error)}"
        raise RejectedBatchError(msg) from error
    except (*_FAILURES, OSError, TimeoutError) as error:
        msg = f"{operation}: {_said(error)}"
        raise DatabaseError(msg) from error


def _said(error: Exception) -> str:
    """Return the driver's message and its class; never its detail, which can contain data."""
    text = getattr(error, "message", None) or str(error) or "no answer in time"
    if isinstance(error, NO_SCHEMA):
        advice = "run `bbbmeter migrate`"
        return f"the database has no tables of bbbmeter, or old ones ({text}): {advice}"
    return f"{text} ({type(error).__name__})"
