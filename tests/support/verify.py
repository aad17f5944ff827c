"""Three days without findings of `bbbmeter verify`, and its findings after a test changes them."""

from datetime import UTC, datetime, timedelta

from collector.database.upkeep import settle, update_sessions
from collector.model import Unseen
from collector.settings import Settings
from collector.verify import Result, repair, verify
from collector.verify.recount import RECOUNTS
from tests.support.feed import Feed, Run

# An hour of polls on each of three days. In Berlin the clocks go forward on the second day.
HOURS = [
    datetime(2026, 3, 28, 9, tzinfo=UTC),
    datetime(2026, 3, 29, 21, 30, tzinfo=UTC),  # across midnight
    datetime(2026, 3, 30, 9, tzinfo=UTC),
]
TICK, HOUR, DAY = timedelta(seconds=30), timedelta(hours=1), timedelta(days=1)
NAMES = [
    *(f"rollup {rollup.name}" for rollup in RECOUNTS),
    *(
        "sessions",
        "samples",
        "overlaps",
        "duplicates",
        "polls",
        "late data",
        "chunks",
        "policies",
        "jobs",
    ),
]


async def three_days(feed: Feed) -> None:
    """Feed three days of two servers with failures and filled gaps; update all that follows."""
    for begin in HOURS:
        end = begin + HOUR
        await feed.due(begin, bbb1=None, bbb2=None)
        runs = [
            Run("bbb1", "arts", "a", begin, end, 5, voice=2, video=1),
            Run("bbb1", "arts", "b", begin + 10 * TICK, begin + 40 * TICK, 3, listeners=1),
            Run("bbb1", "arts", "b", begin + TICK, end - TICK, 2, breakout=True),
            Run("bbb2", "law", "c", begin + 20 * TICK, end, 7, dialins=2),
        ]
        failed = {("bbb1", begin + 50 * TICK), ("bbb2", begin)}
        batch = feed.batch(["bbb1", "bbb2"], feed.ticks(begin, end), runs, failed=failed)
        batch.samples.append(feed.sample(runs[0], begin + 50 * TICK, poll_ts=begin + 51 * TICK))
        at = begin + 5 * TICK
        batch.unseen.append(Unseen(at, "bbb1", at, "arts", runs[0].session_id, 1, 30))
        batch.unseen.append(Unseen(at, "bbb2", at, None, None, 2, 30))
        await feed.writer.write(batch)
        await feed.due(end)
        await feed.pool.execute(
            "INSERT INTO meter.collector (id, host, since, until, safe_until) "
            "VALUES ('one', 'h', $1, $2, $2)",
            begin - HOUR,
            end + HOUR,
        )
    await finish(feed)
    await feed.columnize()
    await feed.pool.execute(
        "SELECT public.alter_job(job_id, scheduled => TRUE, next_start => 'infinity') "
        "FROM timescaledb_information.jobs WHERE job_id >= 1000"
    )


async def finish(feed: Feed) -> None:
    """Handle late data, update sessions, refresh rollups."""
    await settle(feed.pool, timedelta(0))
    await update_sessions(feed.pool, close_after_s=120)
    await feed.refresh()


async def look(feed: Feed, settings: Settings, **period: datetime) -> dict[str, Result]:
    """Verify these days; return the results by name."""
    period = {"until": HOURS[-1] + 2 * DAY} | period
    results = await verify(feed.pool, settings, second_look_s=0, **period)
    assert [result.name for result in results] == NAMES
    return {result.name: result for result in results}


async def wrong(feed: Feed, settings: Settings) -> dict[str, int]:
    """Verify; return the number of findings by check, without zeros. No check may have failed."""
    found = await look(feed, settings)
    assert [result.note for result in found.values() if result.status == "failed"] == []
    return {name: result.total for name, result in found.items() if not result.ok}


async def mended(feed: Feed, settings: Settings) -> dict[str, int]:
    """Verify and repair; return the findings that are left."""
    await repair(feed.pool, settings, list((await look(feed, settings)).values()))
    return await wrong(feed, settings)


async def materialized(feed: Feed, rollup: str) -> str:
    """Return the name of the table that holds a rollup's rows."""
    name: str = await feed.pool.fetchval(
        "SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)"
        " FROM timescaledb_information.continuous_aggregates"
        " WHERE view_schema = 'meter' AND view_name = $1",
        rollup,
    )
    return name


def run_of(at: datetime, room: str = "a") -> int:
    """Return the id of the session that a room had at a time."""
    return Run("bbb1", "arts", room, at, at).session_id
