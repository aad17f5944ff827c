"""Work beside polling: policies where no scheduler runs them, and sessions brought up to date."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from collector.clock import tick_at
from collector.database.upkeep import VACUUM_EVERY, PolicyRunner, update_sessions
from collector.errors import DatabaseError
from tests.support.feed import Feed, MakeFeed, Run
from tests.support.settings import make_settings

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)


async def schedule(pool: asyncpg.Pool) -> None:
    """Let policies be due, but not for the database's own scheduler, where it has one."""
    await pool.execute(
        "SELECT public.alter_job(job_id, scheduled => TRUE, next_start => 'infinity') "
        "FROM timescaledb_information.jobs WHERE job_id >= 1000"
    )


async def intervals(pool: asyncpg.Pool) -> list[timedelta]:
    """Return how often each of our policies runs."""
    rows = await pool.fetch(
        "SELECT schedule_interval FROM timescaledb_information.jobs WHERE job_id >= 1000"
    )
    return [row["schedule_interval"] for row in rows]


async def analyzed_rows(pool: asyncpg.Pool) -> float:
    """Return how many rows the database believes meter.setting to have; -1 before any vacuum."""
    rows: float = await pool.fetchval(
        "SELECT reltuples FROM pg_class WHERE oid = 'meter.setting'::regclass"
    )
    return rows


async def test_each_policy_runs_once_an_interval(pool: asyncpg.Pool) -> None:
    """All run at first, then each when its own interval has passed."""
    await schedule(pool)
    every = await intervals(pool)
    assert {MINUTE, 10 * MINUTE, 60 * MINUTE, DAY} <= set(every)
    runner = PolicyRunner(pool)
    now = datetime(2026, 3, 2, 8, tzinfo=UTC)
    assert await runner.run_due(now) == len(every)
    assert await runner.run_due(now) == 0
    assert await runner.run_due(now + MINUTE - timedelta(microseconds=1)) == 0
    assert await runner.run_due(now + MINUTE) == every.count(MINUTE)
    # Ten minutes after its own last run, not at a full ten minutes.
    assert await runner.run_due(now + 10 * MINUTE) == sum(e <= 10 * MINUTE for e in every)
    assert await runner.run_due(now + 11 * MINUTE) == every.count(MINUTE)
    assert await runner.run_due(now + DAY) == len(every)


async def test_only_our_policies_run(pool: asyncpg.Pool) -> None:
    """What is switched off does not run, nor what TimescaleDB brings along, telemetry above all."""
    others = await pool.fetchval(
        "SELECT count(*) FROM timescaledb_information.jobs WHERE job_id < 1000 AND scheduled"
    )
    assert others > 0
    assert await PolicyRunner(pool).run_due(datetime.now(UTC)) == 0


@pytest.fixture
async def old(make_feed: MakeFeed) -> Feed:
    """A minute of a session 40, 3 and one day ago, in a database that keeps 30 days."""
    feed = await make_feed(make_settings())
    for days in (40, 3, 1):
        begin = tick_at(datetime.now(UTC), 60) - days * DAY
        await feed.due(begin, bbb1=None)
        run = Run("bbb1", "acme", "room", begin, begin + MINUTE, 3)
        await feed.play(["bbb1"], feed.ticks(begin, begin + MINUTE), [run])
    await schedule(feed.pool)
    return feed


async def stored(feed: Feed) -> tuple[int, int, int]:
    """Return the samples, the minutes in the rollup itself since yesterday, the columnar chunks."""
    row = await feed.pool.fetchrow(
        """
        SELECT
            (SELECT count(*) FROM meter.sample),
            (SELECT count(*) FROM timescaledb_information.chunks
             WHERE hypertable_schema = 'meter' AND hypertable_name = 'sample' AND is_compressed),
            (SELECT format('%I.%I', materialization_hypertable_schema,
                materialization_hypertable_name)
             FROM timescaledb_information.continuous_aggregates
             WHERE view_schema = 'meter' AND view_name = 'usage_1m')
        """
    )
    assert row is not None
    minutes = await feed.pool.fetchval(
        f"SELECT count(*) FROM {row[2]} WHERE bucket >= $1",  # noqa: S608
        datetime.now(UTC) - 2 * DAY,
    )
    return row[0], minutes, row[1]


async def test_what_policies_do(old: Feed) -> None:
    """Rollups are refreshed, old chunks turned into columns, older ones dropped."""
    assert await stored(old) == (6, 0, 0)
    await PolicyRunner(old.pool).run_due(datetime.now(UTC))
    assert await stored(old) == (4, 1, 1)


async def test_a_policy_that_fails_stops_no_other(old: Feed) -> None:
    """The others run, the failure is told at the end, and is tried again when it is due."""
    chunk = await old.pool.fetchval(
        "SELECT c FROM public.show_chunks('meter.sample', older_than => interval '30 days') AS c"
    )
    # The oldest samples cannot be dropped while something else needs them.
    await old.pool.execute(f"CREATE VIEW meter.dependent AS SELECT ts FROM {chunk}")  # noqa: S608
    polls = "SELECT count(*) FROM meter.poll"
    assert await old.pool.fetchval(polls) == 6
    runner, now = PolicyRunner(old.pool), datetime.now(UTC)
    with pytest.raises(DatabaseError, match="policy_retention of sample: cannot drop"):
        await runner.run_due(now)
    # This policy comes after that one; and the tables are vacuumed all the same.
    assert await old.pool.fetchval(polls) == 4
    assert await analyzed_rows(old.pool) > 0
    assert (await stored(old))[:2] == (6, 1)
    assert await runner.run_due(now + MINUTE / 2) == 0
    await runner.run_due(now + MINUTE)
    with pytest.raises(DatabaseError, match="policy_retention of sample: cannot drop"):
        await runner.run_due(now + DAY)
    await old.pool.execute("DROP VIEW meter.dependent")
    await runner.run_due(now + 2 * DAY)
    assert (await stored(old))[0] == 4


async def test_vacuum(pool: asyncpg.Pool) -> None:
    """The tables are vacuumed and analyzed at first, then every few hours."""
    runner, now = PolicyRunner(pool), datetime(2026, 3, 2, 8, tzinfo=UTC)
    assert await analyzed_rows(pool) == -1
    await runner.run_due(now)
    rows = await analyzed_rows(pool)
    assert rows > 0
    await pool.execute("INSERT INTO meter.setting (key, value) VALUES ('one', 'more')")
    await runner.run_due(now + VACUUM_EVERY - MINUTE)
    assert await analyzed_rows(pool) == rows
    await runner.run_due(now + VACUUM_EVERY)
    assert await analyzed_rows(pool) == rows + 1


async def test_sessions_are_brought_up_to_date(feed: Feed) -> None:
    """Open sessions get their figures; their number is returned; those that ended are left."""
    start = datetime(2026, 3, 2, 8, tzinfo=UTC)
    runs = [
        Run("bbb1", "acme", "short", start, start + MINUTE, 3),
        Run("bbb1", "acme", "long", start, start + 10 * MINUTE, 4),
    ]
    await feed.due(start, bbb1=None)
    assert await update_sessions(feed.pool, close_after_s=120) == 0
    await feed.play(["bbb1"], feed.ticks(start, start + 5 * MINUTE), runs)
    assert await update_sessions(feed.pool, close_after_s=120) == 2
    short, long = [await feed.session(run) for run in runs]
    assert (short["participant_seconds"], short["max_participants"]) == (180, 3)
    assert short["ended_at"] == start + timedelta(seconds=45)
    assert (long["participant_seconds"], long["ended_at"]) == (1200, None)
    assert await update_sessions(feed.pool, close_after_s=120) == 1


async def test_a_database_that_is_away(dsn: str) -> None:
    """What the driver says becomes an error of ours, which names the work."""
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
        pass
    with pytest.raises(DatabaseError, match="update sessions: "):
        await update_sessions(pool, close_after_s=120)
    with pytest.raises(DatabaseError, match="read the policies: "):
        await PolicyRunner(pool).run_due(datetime.now(UTC))
