"""Tries out a database as `bbbmeter run` uses it: connections, prepared statements, transactions.

A connection pooler such as PgBouncer can lend one connection of the server to several clients. In
its modes `transaction` and `statement`, a client finds prepared statements of other clients, which
have the same names, and can miss its own.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

import asyncpg

from collector.database.deadlines import TRIAL_DEADLINE_S
from collector.database.pool import Connection, abandon, translated
from collector.errors import DatabaseError

_PID_AND_CLOCK = "SELECT pg_backend_pid(), clock_timestamp()"
# The process id that the embedded engine reports; it runs one transaction after the other.
_EMBEDDED_PID = 0
_LOST = (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError)
_MAY_WRITE = """
SELECT
    current_setting('transaction_read_only')::boolean AS read_only,
    has_table_privilege('meter.poll', 'INSERT') AS may_insert,
    current_user AS role
"""
_POOLED = "the connection goes through a pooler such as PgBouncer in {} mode, "
_STATEMENT_MODE = _POOLED.format("statement") + (
    "which refuses transactions: connect bbbmeter to PostgreSQL itself, or set pool_mode = session"
)
_TRANSACTION_MODE = _POOLED.format("transaction") + (
    "which loses prepared statements: connect bbbmeter to PostgreSQL itself, set pool_mode = "
    "session, or use PgBouncer 1.21 or newer with max_prepared_statements above 0"
)


class Pooler(StrEnum):
    """The mode of a connection pooler."""

    SESSION = "session"
    TRANSACTION = "transaction"
    STATEMENT = "statement"


@dataclass(slots=True)
class Trial:
    """How a database behaved.

    `pooler` is None if no connection pooler was noticed. `clock_skew_s` is how many seconds the
    database's clock was ahead of this machine's. `refusal` says why `bbbmeter run` cannot use the
    database; None if it can.
    """

    pooler: Pooler | None = None
    clock_skew_s: float = 0.0
    refusal: str | None = None
    # The server's processes behind the connections, and how many connections worked at once.
    pids: list[int] = field(default_factory=list)
    at_once: int = 0


async def try_out(pool: asyncpg.Pool, connections: int) -> Trial:
    """Use `connections` connections of `pool` at once, each with a prepared statement.

    Raises DatabaseError if not even one connection can be used.
    """
    trial = Trial()
    try:
        async with AsyncExitStack() as stack:
            await _try(trial, stack, pool, connections)
    except DatabaseError as error:
        if not trial.pids:
            raise
        if isinstance(error.__cause__, _LOST):
            trial.pooler, trial.refusal = Pooler.TRANSACTION, _TRANSACTION_MODE
        elif trial.pooler is Pooler.STATEMENT:
            trial.refusal = _STATEMENT_MODE
        elif trial.at_once == connections:
            trial.refusal = str(error)
        else:
            trial.refusal = (
                f"only {trial.at_once} of {connections} connections worked at once ({error}): "
                "raise the limit of connections of the server, the role or the pooler. "
                "Running collectors use connections too"
            )
    return trial


async def _try(trial: Trial, stack: AsyncExitStack, pool: asyncpg.Pool, connections: int) -> None:
    lent: list[Connection] = []
    for _ in range(connections):
        async with _step("open connections"):
            lent.append(await stack.enter_async_context(_lent(pool)))
            pid, trial.clock_skew_s = await _pid_and_skew_s(lent[-1])
        trial.pids.append(pid)
        trial.at_once += 1
    embedded = _EMBEDDED_PID in trial.pids
    if not embedded:
        await _find_pooler(trial, lent)
    # Different collectors use the same names. So do these connections.
    name = f"bbbmeter_{secrets.token_hex(8)}"
    statements = []
    for connection in lent:
        async with _step("prepare a statement"):
            statements.append(await connection.prepare(_PID_AND_CLOCK, name=name))
            await statements[-1].fetchrow()
    if embedded:
        return
    trial.at_once = 0
    for connection, statement in zip(lent, statements, strict=True):
        async with _step("use connections at once"):
            await connection.execute("BEGIN")
            await statement.fetchrow()
        trial.at_once += 1
    for connection in lent:
        async with _step("roll back"):
            await connection.execute("ROLLBACK")


async def _find_pooler(trial: Trial, lent: list[Connection]) -> None:
    """Set `trial.pooler`. Raises DatabaseError if the pooler refuses transactions."""
    if all(c.get_server_pid() == pid for c, pid in zip(lent, trial.pids, strict=True)):
        return
    trial.pooler = Pooler.SESSION
    # In the reverse order, so that a pooler that lends its connections in turn is noticed too.
    again: list[int] = []
    for connection in reversed(lent):
        async with _step("use connections again"):
            again.insert(0, (await _pid_and_skew_s(connection))[0])
    if again == trial.pids and len(set(again)) == len(again):
        return
    trial.pooler = Pooler.STATEMENT
    async with _step("begin a transaction"):
        await lent[0].execute("BEGIN")
        await lent[0].execute("ROLLBACK")
    trial.pooler = Pooler.TRANSACTION


async def _pid_and_skew_s(connection: Connection) -> tuple[int, float]:
    # Without a name: such a statement is gone before another client can get in its way.
    statement = await connection.prepare(_PID_AND_CLOCK, name="")
    asked_at = datetime.now(UTC)
    row = await statement.fetchrow()
    middle = asked_at + (datetime.now(UTC) - asked_at) / 2
    assert row is not None  # noqa: S101 - a SELECT without FROM always has a row
    return row[0], (row[1] - middle).total_seconds()


async def may_write(connection: Connection) -> str | None:
    """Return why the collector could not store polls; None if it can. Needs the schema."""
    with translated("read the role's rights"):
        row = await connection.fetchrow(_MAY_WRITE)
    assert row is not None  # noqa: S101 - a SELECT without FROM always has a row
    if row["read_only"]:
        return "it is read-only: connect bbbmeter to the primary server"
    if not row["may_insert"]:
        return (
            f"the role {row['role']} may not store polls: use the owner of the tables, or "
            "`GRANT bbbmeter_writer` to the role"
        )
    return None


@asynccontextmanager
async def _step(operation: str) -> AsyncIterator[None]:
    with translated(operation):
        async with asyncio.timeout(TRIAL_DEADLINE_S):
            yield


@asynccontextmanager
async def _lent(pool: asyncpg.Pool) -> AsyncIterator[Connection]:
    """Lend a connection. It is closed at once if a step failed: it may never answer again."""
    connection = await pool.acquire()
    done = False
    try:
        yield connection
        done = True
    finally:
        if not done:
            abandon(connection)
        await pool.release(connection)
