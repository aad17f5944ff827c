"""`bbbmeter check` says what it tried: a wrong checksum, and the database as `run` uses it."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from collector.commands.check import MAX_DATABASE_SKEW_S, _database_notes
from collector.daemon.daemon import CONNECTIONS
from collector.database import open_pool
from collector.database.trial import Pooler, Trial, may_write, try_out
from collector.errors import DatabaseError
from tests.support.fake_servers import (
    EMPTY,
    REFUSED,
    SECRET,
    Handler,
    response,
    sends,
    serving,
    signed,
)
from tests.support.hostile_servers import ONE
from tests.support.pooler import pooling
from tests.support.shell import Done, Shell


def line_of(done: Done, what: str) -> str:
    """Return the line of `check` about a server or the database."""
    (line,) = [line for line in done.out.splitlines() if f" {what}: " in line]
    return line


# -- a wrong checksum -----------------------------------------------------------------------------


def says_first(first: bytes, then: bytes) -> Handler:
    """Return a handler that sends one answer to the first request, and another one afterwards."""
    left = [first]

    async def handle(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(left.pop() if left else then)

    return handle


@pytest.mark.parametrize(
    ("handler", "mark", "words"),
    [
        (signed, "ok", ["checksum accepted, a wrong one rejected", "0 sessions"]),
        (says_first(response(EMPTY), response(REFUSED)), "ok", ["a wrong one rejected"]),
        (
            says_first(response(EMPTY), response(b"", "401 Unauthorized")),
            "ok",
            ["a wrong one rejected"],
        ),
        (
            says_first(response(EMPTY), response(b"", "502 Bad Gateway")),
            "ok",
            ["checksum accepted, no clear answer to a wrong one (HTTP status 502)"],
        ),
        # A load balancer with getMeetings switched off.
        (
            sends(response(EMPTY)),
            "FAILED",
            [
                "accepts a wrong checksum too, so the secret is not tested",
                "would be metered as empty",
                "GET_MEETINGS_API_DISABLED",
                "enter the servers behind it",
            ],
        ),
        (
            sends(response(ONE)),
            "FAILED",
            ["accepts a wrong checksum too", "everybody can read its sessions"],
        ),
    ],
)
async def test_a_wrong_checksum_is_tried(
    bbbmeter: Shell, dsn: str, handler: Handler, mark: str, words: list[str]
) -> None:
    """A server that accepts it is named, with what that means and what to do."""
    async with serving(handler) as server:
        url = f"http://127.0.0.1:{server.port}/bigbluebutton/"
        entry = f'[[server]]\nname = "b"\nurl = "{url}"\nsecret = "{SECRET}"\n'
        bbbmeter.configure(dsn, entry)
        done = await bbbmeter("check")
    assert done.code == (0 if mark == "ok" else 1), done.said
    line = line_of(done, "server[b]")
    assert line.split()[0] == mark
    assert [word for word in words if word not in line] == []
    assert len(server.requests) == 2
    assert len(set(server.requests)) == 2  # two checksums
    assert SECRET not in done.said


# -- the database as `run` uses it ----------------------------------------------------------------


@pytest.fixture
def real_server(_server_dsn: str | None) -> str | None:
    """The DSN of a server; None with the embedded engine, which shows no process ids."""
    return _server_dsn


@pytest.fixture
async def server_entry() -> AsyncIterator[str]:
    """An entry of `[[server]]` that works."""
    async with serving(signed) as server:
        url = f"http://127.0.0.1:{server.port}/bigbluebutton/"
        yield f'[[server]]\nname = "b"\nurl = "{url}"\nsecret = "{SECRET}"\n'


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("transaction", ["in transaction mode", "loses prepared statements", "1.21 or newer"]),
        ("statement", ["in statement mode", "refuses transactions", "pool_mode = session"]),
    ],
)
async def test_a_pooler_that_cannot_work_is_named(
    bbbmeter: Shell,
    dsn: str,
    real_server: str | None,
    server_entry: str,
    mode: str,
    words: list[str],
) -> None:
    """The message has the pooler's mode, the reason, and what to do; `run` cannot use it either."""
    if mode == "statement" and real_server is None:
        pytest.skip("the embedded engine shows no processes, so its poolers have no mode")
    async with pooling(dsn, mode) as pooled:
        bbbmeter.configure(pooled, server_entry)
        done = await bbbmeter("check")
    assert (done.code, done.err) == (1, ""), done.said
    line = line_of(done, "database")
    assert line.startswith("FAILED")
    assert "pooler such as PgBouncer" in line
    assert [word for word in words if word not in line] == []


async def test_a_pooler_in_session_mode_works(
    bbbmeter: Shell, dsn: str, real_server: str | None, server_entry: str
) -> None:
    """It is named, because its number of connections is limited elsewhere."""
    async with pooling(dsn, "session") as pooled:
        bbbmeter.configure(pooled, server_entry)
        done = await bbbmeter("check")
    assert done.code == 0, done.said
    line = line_of(done, "database")
    assert f"{CONNECTIONS} connections at once with prepared statements" in line
    assert ("through a pooler such as PgBouncer in session mode" in line) == (
        real_server is not None
    )


async def test_too_few_connections_are_named(bbbmeter: Shell, dsn: str, server_entry: str) -> None:
    """`run` needs several connections at once; a limit below that is an error with its number."""
    async with pooling(dsn, "session", limit=2) as pooled:
        bbbmeter.configure(pooled, server_entry)
        done = await bbbmeter("check")
    assert done.code == 1
    line = line_of(done, "database")
    assert f"only 2 of {CONNECTIONS} connections worked at once (open connections: " in line
    assert "raise the limit of connections" in line


async def test_a_database_without_a_pooler(dsn: str) -> None:
    """All connections work at once, no pooler is noticed, and the clocks are compared."""
    async with open_pool(dsn, max_size=CONNECTIONS) as pool:
        trial = await try_out(pool, CONNECTIONS)
        assert (trial.pooler, trial.refusal, trial.at_once) == (None, None, CONNECTIONS)
        assert abs(trial.clock_skew_s) < 60
        assert await pool.fetchval("SELECT 1") == 1  # the connections are still usable


async def test_a_lost_connection_says_why(dsn: str) -> None:
    """What ended the first connection is in the message, not what the driver did after."""
    async with pooling(dsn, "session", limit=0) as pooled:
        with pytest.raises(DatabaseError, match="no more connections allowed"):
            async with open_pool(pooled, max_size=2):
                pass


def test_the_databases_clock_is_named() -> None:
    """A difference of more than a few seconds is called wrong, with what to do."""
    late, ahead = (Trial(clock_skew_s=s) for s in (-MAX_DATABASE_SKEW_S, MAX_DATABASE_SKEW_S + 1))
    assert list(_database_notes(late))[-1] == "clock -5 s"
    assert list(_database_notes(ahead))[-1].startswith("clock +6 s (WRONG: set the clocks of ")
    assert "in transaction mode" in ", ".join(_database_notes(Trial(pooler=Pooler.TRANSACTION)))


async def test_a_role_that_may_not_store_is_named(dsn: str) -> None:
    """A role that can only read, and a database that is read-only, cannot be used by `run`."""
    connection = await asyncpg.connect(dsn)
    try:
        assert await may_write(connection) is None
        await connection.execute("SET ROLE bbbmeter_reader")
        refusal = await may_write(connection)
        assert refusal is not None
        assert "the role bbbmeter_reader may not store polls: use the owner" in refusal
        await connection.execute("SET ROLE bbbmeter_writer")
        assert await may_write(connection) is None
        await connection.execute("RESET ROLE; SET default_transaction_read_only = on")
        refusal = await may_write(connection)
        assert refusal == "it is read-only: connect bbbmeter to the primary server"
    finally:
        await connection.execute("RESET ALL")
        await connection.close()
