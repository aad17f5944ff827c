"""Who may do what: the reader, the writer, and an owner without the right to make roles."""

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from collector.database.migrate import migrate, require_current
from collector.database.upkeep import update_sessions
from collector.errors import DatabaseError
from collector.reports.usage import Request, fetch_report
from collector.rollups import ROLLUPS
from tests.support.database import migrate_unscheduled
from tests.support.feed import Feed, Run
from tests.support.settings import KEEP_ALL, make_settings

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
T = datetime(2026, 3, 2, 10, tzinfo=UTC)


_READABLE = {
    "setting", "tenant", "server", "server_due", "room", "session", "poll", "sample", "late",
    "server_tenant", "open_session", "empty_session", "duplicate_session", "unseen",
    "collector", "contract", "session_figures", "server_now", "collector_now", *ROLLUPS,
}  # fmt: skip
# The last ones are for tenants' roles.
_NOT_READABLE = {
    "migration", "tenant_role",
    "my_tenant", "my_room", "my_session", "my_sample", "my_usage_1m", "my_usage_1h", "my_contract",
}  # fmt: skip


async def test_every_table_is_granted_or_kept_from_readers_on_purpose(pool: asyncpg.Pool) -> None:
    """A new table has to be put on one of the two lists: one with personal data must not slip."""
    rows = await pool.fetch(
        "SELECT relname, has_table_privilege('bbbmeter_reader', oid, 'SELECT') AS readable, "
        "has_table_privilege('bbbmeter_reader', oid, 'INSERT, UPDATE, DELETE') AS writable "
        "FROM pg_class WHERE relnamespace = 'meter'::regnamespace AND relkind IN ('r', 'v')"
    )
    assert {row["relname"] for row in rows if row["readable"]} == _READABLE
    assert {row["relname"] for row in rows if not row["readable"]} == _NOT_READABLE
    assert not any(row["writable"] for row in rows)


async def test_a_reader_reads_every_report_and_writes_nothing(feed: Feed) -> None:
    """bbbmeter_reader gets the owner's figures, also from columns, and changes nothing."""
    await feed.due(T, bbb1=None)
    run = Run("bbb1", "arts", "r", T, T + HOUR, 3)
    await feed.play(["bbb1"], feed.ticks(T, T + HOUR), [run])
    await update_sessions(feed.pool, 120)
    queries = [
        "SELECT * FROM meter.tenant_report($1, $2)",
        "SELECT * FROM meter.tenant_usage($1, $2, 'day')",
        "SELECT * FROM meter.usage_by($1, $2, 'room')",
        "SELECT * FROM meter.usage_by($1, $2, 'server', 'bbb1')",
        "SELECT * FROM meter.server_coverage($1, $2, 'month')",
        *(
            f"SELECT * FROM meter.{table} WHERE $1::timestamptz < $2::timestamptz ORDER BY 1, 2"  # noqa: S608
            for table in sorted(_READABLE)
        ),
    ]
    periods = [(T + MINUTE, T + HOUR / 2), (T - DAY, T + DAY)]
    async with feed.pool.acquire() as connection:
        for state in ("fresh", "refreshed", "columns"):
            if state == "refreshed":
                await feed.refresh()
            if state == "columns":
                await feed.columnize()
            for period in periods:
                answers = [await connection.fetch(query, *period) for query in queries]
                await connection.execute("SET ROLE bbbmeter_reader")
                assert [await connection.fetch(query, *period) for query in queries] == answers
                await connection.execute("RESET ROLE")
        await connection.execute("SET ROLE bbbmeter_reader")
        for forbidden in (
            "INSERT INTO meter.tenant (name) VALUES ('mallory')",
            "UPDATE meter.session SET participant_seconds = 0",
            "DELETE FROM meter.sample",
            "TRUNCATE meter.poll",
            "SELECT * FROM meter.migration",
            "SELECT meter.update_sessions(0)",
            "SELECT meter.set_retention('meter.sample', 1)",
            "CREATE TABLE meter.mine (a int)",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(forbidden)


async def test_nobody_else_may_call_functions(feed: Feed) -> None:
    """PUBLIC has neither the schema nor the right to call its functions."""
    open_to_all = await feed.pool.fetch(
        "SELECT p.proname FROM pg_proc AS p CROSS JOIN LATERAL aclexplode("
        "coalesce(p.proacl, acldefault('f', p.proowner))) AS a "
        "WHERE p.pronamespace = 'meter'::regnamespace AND a.grantee = 0"
    )
    assert open_to_all == []


async def test_a_writer_collects_and_reports(feed: Feed, empty_dsn: str) -> None:
    """bbbmeter_writer can do all that a collector does, also in columns; but not delete or own."""
    begin = T
    async with asyncpg.create_pool(
        empty_dsn,
        min_size=1,
        max_size=1,
        reset=_keep_role,
        init=lambda connection: connection.execute("SET ROLE bbbmeter_writer"),
    ) as pool:
        collector = Feed(pool)
        for step in range(2):
            await collector.due(begin, bbb1="arts", bbb2=None)
            run = Run("bbb1", "arts", "r", T, begin + HOUR, 3)
            ticks = list(feed.ticks(begin, begin + HOUR))
            await collector.play(["bbb1"], ticks, [run])
            await update_sessions(pool, 120)
            async with pool.acquire() as connection:
                assert await connection.fetchval("SELECT current_user") == "bbbmeter_writer"
                await require_current(connection)
                (row,) = await fetch_report(connection, Request(T, begin + HOUR))
                assert row["participant_minutes"] == 180 * (step + 1)
            # The same day again, when its chunks have become columns.
            await feed.refresh()
            await feed.columnize()
            begin += HOUR
        for forbidden in ("DELETE FROM meter.sample", "UPDATE meter.poll SET ok = TRUE"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await pool.execute(forbidden)
        with pytest.raises(DatabaseError, match="permission denied"):
            async with pool.acquire() as connection:
                await migrate(connection, make_settings(retention=KEEP_ALL))


async def _keep_role(_: asyncpg.Connection) -> None:
    """Leave the connection as it is, where a pool would put settings back."""


async def test_an_owner_who_may_make_no_roles_migrates_all_the_same(
    connection: asyncpg.Connection, schema: Path
) -> None:
    """As with hosted databases: a notice says which roles are missing, and all else is there."""
    owner = f"owner_{uuid.uuid4().hex}"
    grants = schema / "current" / "95_grants.sql"
    grants.write_text(grants.read_text().replace("bbbmeter_", f"{owner}_"))
    said: list[str] = []
    connection.add_log_listener(lambda _, message: said.append(message.message))
    await connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    database = await connection.fetchval("SELECT quote_ident(current_database())")
    await connection.execute(f"CREATE ROLE {owner} LOGIN")
    await connection.execute(f"GRANT CREATE ON DATABASE {database} TO {owner}")
    # In the embedded engine, migrations of other tests have taken these from everybody.
    await connection.execute(f"GRANT USAGE ON SCHEMA public TO {owner}")
    await connection.execute(
        f"GRANT EXECUTE ON ALL ROUTINES IN SCHEMA public, _timescaledb_functions TO {owner}"
    )
    await connection.execute(f"GRANT EXECUTE ON ROUTINE pg_advisory_xact_lock(bigint) TO {owner}")
    try:
        await connection.execute(f"SET ROLE {owner}")
        for _ in range(2):
            # No policy runs when the schema goes.
            await migrate_unscheduled(connection, make_settings())
        assert (
            await connection.fetch("SELECT * FROM meter.tenant_report($1, $2)", T, T + HOUR) == []
        )
    finally:
        await connection.execute("RESET ROLE")
        await connection.execute("DROP SCHEMA IF EXISTS meter CASCADE")
        await connection.execute(f"REVOKE CREATE ON DATABASE {database} FROM {owner}")
        await connection.execute(f"DROP OWNED BY {owner}")
        await connection.execute(f"DROP ROLE {owner}")
    for role in ("reader", "writer"):
        assert f"role {owner}_{role} is missing, and this user cannot create it" in said
