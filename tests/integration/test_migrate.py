"""Every way in which `bbbmeter migrate` ends."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from collector.database import migrate as migration
from collector.database.migrate import migrate, require_current
from collector.database.timescale import Found, look
from collector.database.upkeep import update_sessions
from collector.errors import MigrationError
from collector.reports.usage import Request, fetch_report
from tests.support.catalog import catalog
from tests.support.feed import Feed, Run
from tests.support.settings import KEEP_ALL, make_settings

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
T = datetime(2026, 3, 2, 10, tzinfo=UTC)
FILES = [file.name for file in migration.sql_files("migrations")]


async def tables(connection: asyncpg.Connection) -> int:
    """Return how many relations our schema has."""
    found: int = await connection.fetchval(
        "SELECT count(*) FROM pg_class AS c INNER JOIN pg_namespace AS n "
        "ON c.relnamespace = n.oid WHERE n.nspname = 'meter'"
    )
    return found


async def test_migrating_again_changes_nothing(connection: asyncpg.Connection) -> None:
    """A second run applies no file and leaves the same catalog, policies and grants."""
    assert await migrate(connection, make_settings()) == FILES
    once = await catalog(connection)
    assert all(once.values())
    assert await migrate(connection, make_settings()) == []
    assert await catalog(connection) == once
    await require_current(connection)


async def test_migrating_again_with_data_in_columns(feed: Feed) -> None:
    """An upgrade goes through, and changes no figure, when chunks are columns already."""
    await feed.due(T, bbb1=None)
    run = Run("bbb1", "arts", "r", T, T + HOUR, 3)
    await feed.play(["bbb1"], feed.ticks(T, T + HOUR), [run])
    await update_sessions(feed.pool, 120)
    await feed.refresh()
    assert await feed.columnize() >= 6
    async with feed.pool.acquire() as connection:
        before = await fetch_report(connection, Request(T - DAY, T + DAY))
        await migrate(connection, make_settings(retention=KEEP_ALL))
        assert await fetch_report(connection, Request(T - DAY, T + DAY)) == before
    assert before[0]["participant_minutes"] == 180


async def test_a_dry_run_changes_nothing(connection: asyncpg.Connection) -> None:
    """It says what would be applied, to an empty database and to one with other settings."""
    assert await migrate(connection, make_settings(), dry_run=True) == FILES
    assert await tables(connection) == 0
    await migrate(connection, make_settings())
    before = await catalog(connection)
    assert await migrate(connection, make_settings(retention=KEEP_ALL), dry_run=True) == []
    other = make_settings(billing_timezone="UTC")
    assert await migrate(connection, other, dry_run=True, rebuild_days=True) == []
    assert await catalog(connection) == before


async def test_two_that_migrate_at_once_end_well(empty_dsn: str) -> None:
    """One applies the files, the other one waits for it and finds them applied."""

    async def one() -> list[str]:
        connection = await asyncpg.connect(empty_dsn)
        try:
            return await migrate(connection, make_settings())
        finally:
            await connection.close()

    assert sorted(await asyncio.gather(one(), one(), one())) == [[], [], FILES]


async def test_what_policies_cross_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a deadlock or a lock timeout it tries again, some times; other errors end it."""
    monkeypatch.setattr(migration, "_TRY_PAUSE_S", 0)
    monkeypatch.setattr(migration, "_TRIES", 3)
    crossed = [asyncpg.DeadlockDetectedError("x"), asyncpg.LockNotAvailableError("x")]

    def failing(*errors: Exception) -> Callable[[], Awaitable[str]]:
        left = list(errors)

        async def attempt() -> str:
            if left:
                raise left.pop(0)
            return "done"

        return attempt

    assert await migration._in_peace(failing(*crossed)) == "done"
    with pytest.raises(asyncpg.DeadlockDetectedError):
        await migration._in_peace(failing(*crossed, crossed[0]))
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migration._in_peace(failing(asyncpg.DivisionByZeroError("x")))


async def test_a_changed_file_is_refused(connection: asyncpg.Connection, schema: Path) -> None:
    """A run-once file whose content differs from the applied one is named; nothing is changed."""
    await migrate(connection, make_settings())
    before = await catalog(connection)
    with (schema / "migrations" / FILES[1]).open("a") as file:
        file.write("\n-- changed\n")
    with pytest.raises(MigrationError, match=r"^0002_rollups\.sql was applied with different"):
        await migrate(connection, make_settings())
    with pytest.raises(MigrationError, match=r"0002_rollups\.sql"):
        await require_current(connection)
    assert await catalog(connection) == before


async def test_a_newer_database_is_refused(connection: asyncpg.Connection, schema: Path) -> None:
    """A ledger with files that this version does not have belongs to a newer one: upgrade."""
    (schema / "migrations" / "0004_later.sql").write_text("CREATE TABLE meter.later (a int);")
    await migrate(connection, make_settings())
    (schema / "migrations" / "0004_later.sql").unlink()
    with pytest.raises(MigrationError, match=r"newer than this bbbmeter: it has 0004_later\.sql"):
        await migrate(connection, make_settings())
    with pytest.raises(MigrationError, match="newer"):
        await require_current(connection)


async def test_an_older_database_is_told_and_brought_up_to_date(
    connection: asyncpg.Connection, schema: Path
) -> None:
    """A missing run-once file is named; migrating applies it, and only it."""
    with pytest.raises(MigrationError, match=r"lacks 0001_tables\.sql, .*run `bbbmeter migrate`"):
        await require_current(connection)
    await migrate(connection, make_settings())
    (schema / "migrations" / "0004_later.sql").write_text("CREATE TABLE meter.later (a int);")
    with pytest.raises(MigrationError, match=r"lacks 0004_later\.sql: run `bbbmeter migrate`"):
        await require_current(connection)
    assert await migrate(connection, make_settings()) == ["0004_later.sql"]
    await require_current(connection)


@pytest.mark.parametrize("broken", ["migrations/0099_bad.sql", "current/96_bad.sql"])
async def test_a_file_that_fails_leaves_nothing_behind(
    connection: asyncpg.Connection, schema: Path, broken: str
) -> None:
    """An upgrade is whole or absent: the error names the file, and nothing has changed."""
    (schema / broken).write_text("CREATE TABLE meter.half (a int); SELECT 1 / 0;")
    with pytest.raises(MigrationError, match=r"^\d+_bad\.sql: division by zero"):
        await migrate(connection, make_settings())
    assert await tables(connection) == 0
    (schema / broken).unlink()
    assert await migrate(connection, make_settings()) == FILES


async def test_the_apache_edition_is_refused(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lacks continuous aggregates; what is read here from the database is what decides."""
    await migrate(connection, make_settings())
    found = await look(connection)
    assert (found.license, found.refusal) == ("timescale", None)

    async def apache(_: asyncpg.Connection) -> Found:
        return replace(found, license="apache")

    monkeypatch.setattr(migration, "look", apache)
    with pytest.raises(MigrationError, match=r"Apache edition.*Community edition"):
        await migrate(connection, make_settings())
