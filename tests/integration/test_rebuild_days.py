"""`bbbmeter migrate --rebuild-days`: rollups by the day for another time zone or size."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from collector.database import migrate as migration
from collector.database.migrate import migrate
from collector.database.upkeep import update_sessions
from collector.errors import DatabaseError, MigrationError
from collector.reports.usage import Request, fetch_report
from tests.support.catalog import catalog
from tests.support.feed import Feed, Run
from tests.support.settings import KEEP_ALL, make_settings

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
T = datetime(2026, 3, 2, 10, tzinfo=UTC)


async def days(feed: Feed, table: str = "usage_1d") -> dict[datetime, int]:
    """Return the sums of a day rollup, by the beginning of the day in UTC."""
    column = {"usage_1d": "participant_seconds", "server_1d": "polls", "session_1d": "sessions"}
    query = f"SELECT bucket, sum({column[table]}) AS s FROM meter.{table} GROUP BY 1"  # noqa: S608
    return {row["bucket"]: int(row["s"]) for row in await feed.pool.fetch(query)}


async def test_another_billing_time_zone_cuts_days_anew(feed: Feed) -> None:
    """It is refused without --rebuild-days; with it totals stay and days begin elsewhere."""
    await feed.due(T, bbb1=None)
    runs = [
        Run("bbb1", "arts", f"r{n}", T + n * 5 * HOUR, T + n * 5 * HOUR + HOUR, n + 1)
        for n in range(12)
    ]
    await feed.play(["bbb1"], list(feed.ticks(T, T + 60 * HOUR))[::10], runs)
    await update_sessions(feed.pool, 120)
    await feed.refresh()
    rollups = ("usage_1d", "server_1d", "session_1d")
    before = {table: await days(feed, table) for table in rollups}
    request = Request(T - 30 * DAY, T + 30 * DAY)
    tokyo = make_settings(retention=KEEP_ALL, billing_timezone="Asia/Tokyo")
    async with feed.pool.acquire() as connection:
        whole = await fetch_report(connection, request)
        with pytest.raises(MigrationError, match=r"Europe/Berlin → Asia/Tokyo.*--rebuild-days"):
            await migrate(connection, tokyo)
        assert await days(feed) == before["usage_1d"]
        await migrate(connection, tokyo, rebuild_days=True)
        assert await fetch_report(connection, request) == whole
        assert await connection.fetchval("SELECT meter.billing_timezone()") == "Asia/Tokyo"
        await migrate(connection, tokyo)
    for table in rollups:
        after = await days(feed, table)
        assert sum(after.values()) == sum(before[table].values()) > 0
        assert {day.hour for day in before[table]} == {23}
        assert {day.hour for day in after} == {15}
    assert await materialized_days(feed) == len(await days(feed))


async def test_a_rebuild_that_was_cut_off_is_finished_by_the_next_run(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Days are created again in one step and computed in another: a crash between loses nothing."""
    await feed.due(T, bbb1=None)
    run = Run("bbb1", "arts", "r", T, T + 60 * HOUR, 3)
    await feed.play(["bbb1"], list(feed.ticks(T, T + 60 * HOUR))[::10], [run])
    await update_sessions(feed.pool, 120)
    await feed.refresh()
    tokyo = make_settings(retention=KEEP_ALL, billing_timezone="Asia/Tokyo")
    request = Request(T - 30 * DAY, T + 30 * DAY)
    async with feed.pool.acquire() as connection:
        whole = await fetch_report(connection, request)

        async def crash(*_: object) -> None:
            raise ConnectionError

        with monkeypatch.context() as patch:
            patch.setattr(migration, "compute_days", crash)
            with pytest.raises(DatabaseError):
                await migrate(connection, tokyo, rebuild_days=True)
        assert len(await connection.fetch("SELECT * FROM meter.setting")) == 3
        await migrate(connection, tokyo)
        assert await materialized_days(feed) == len(await days(feed)) == 4
        assert await fetch_report(connection, request) == whole
        assert len(await connection.fetch("SELECT * FROM meter.setting")) == 2


async def materialized_days(feed: Feed) -> int:
    """Return how many rows of usage_1d are stored, not computed on reading."""
    table = await feed.pool.fetchval(
        "SELECT format('%I.%I', materialization_hypertable_schema, "
        "materialization_hypertable_name) FROM timescaledb_information.continuous_aggregates "
        "WHERE view_name = 'usage_1d'"
    )
    stored: int = await feed.pool.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608
    return stored


async def test_rebuilding_days_is_refused_where_history_would_be_lost(feed: Feed) -> None:
    """Days cannot be rebuilt when the source lacks a part of them, or all."""
    await feed.due(T, bbb1=None)
    runs = [Run("bbb1", "arts", f"r{n}", T + n * DAY, T + n * DAY + HOUR) for n in range(24)]
    await feed.play(["bbb1"], [T + n * DAY + m * HOUR for n in range(24) for m in (0, 3)], runs)
    await update_sessions(feed.pool, 120)
    await feed.refresh()
    before = await days(feed)
    utc = make_settings(retention=KEEP_ALL, billing_timezone="UTC")
    for until, said in ((T + 15 * DAY, r"\d+ days"), (T + 99 * DAY, "24 days")):
        # From below, for an empty rollup shows what the one below it still has.
        for relation in ("sample", "usage_1m", "usage_1h"):
            dropped = await feed.pool.fetch(
                "SELECT public.drop_chunks($1::regclass, older_than => $2::timestamptz)",
                f"meter.{relation}",
                until,
            )
            assert dropped
        async with feed.pool.acquire() as connection:
            with pytest.raises(MigrationError, match=f"{said} of usage_1d .* would be lost"):
                await migrate(connection, utc, rebuild_days=True)
        assert await days(feed) == before


async def test_days_that_are_cut_by_a_chunks_edge_are_history_too(feed: Feed) -> None:
    """A day is not rebuilt when the source holds its second half only."""
    await feed.due(T, bbb1=None)
    (edge,) = [
        row["range_end"]
        for row in await feed.pool.fetch(
            "SELECT to_timestamp(ceil(extract(EPOCH FROM $1::timestamptz) / 864000) * 864000) "
            "AS range_end",
            T,
        )
    ]
    ticks = [edge + n * HOUR for n in range(-1, 4)]
    runs = [Run("bbb1", "arts", "r", ticks[0], ticks[-1] + HOUR)]
    await feed.play(["bbb1"], ticks, runs)
    await feed.refresh()
    await feed.pool.execute(
        "SELECT public.drop_chunks('meter.usage_1h', older_than => $1::timestamptz)", edge
    )
    left = await feed.pool.fetchval("SELECT sum(session_seconds) FROM meter.usage_1h")
    whole = await feed.pool.fetchval("SELECT sum(session_seconds) FROM meter.usage_1d")
    assert 0 < left < whole
    async with feed.pool.acquire() as connection:
        with pytest.raises(MigrationError, match="1 days of usage_1d"):
            await migrate(
                connection,
                make_settings(retention=KEEP_ALL, billing_timezone="UTC"),
                rebuild_days=True,
            )


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "Asia/Kathmandu"])
async def test_days_that_need_other_hours_are_refused(
    connection: asyncpg.Connection, zone: str
) -> None:
    """Rollups by the hour cannot be rebuilt: the error says so, and nothing is changed."""
    await migrate(connection, make_settings())
    before = await catalog(connection)
    with pytest.raises(MigrationError, match="hour rollups would have to be rebuilt"):
        await migrate(connection, make_settings(billing_timezone=zone), rebuild_days=True)
    assert await catalog(connection) == before


async def test_another_size_of_large_sessions_counts_anew(feed: Feed) -> None:
    """The count of large sessions is in the day rollups: it needs --rebuild-days as well."""
    await feed.due(T, bbb1=None)
    runs = [Run("bbb1", "arts", f"r{n}", T, T + HOUR, n * 10) for n in range(5)]
    await feed.play(["bbb1"], feed.ticks(T, T + HOUR), runs)
    await update_sessions(feed.pool, 120)
    await feed.refresh()
    smaller = make_settings(retention=KEEP_ALL, large_session_participants=20)
    query = "SELECT sum(large_sessions) FROM meter.session_1d"
    assert await feed.pool.fetchval(query) == 0
    async with feed.pool.acquire() as connection:
        with pytest.raises(MigrationError, match=r"large_session_participants \(100 → 20\)"):
            await migrate(connection, smaller)
        await migrate(connection, smaller, rebuild_days=True)
    assert await feed.pool.fetchval(query) == 2
