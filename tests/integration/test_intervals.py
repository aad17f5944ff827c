"""No second counts twice when the poll interval changes."""

import asyncio
import random
from datetime import datetime, timedelta

import asyncpg
import pytest

from collector.database.upkeep import settle
from collector.metering.pipeline import Pipeline
from collector.model import Answer, Batch, Meeting, PollResult
from collector.simulator.plan import epoch_ms
from collector.storage.registry import covered_until, last_polls
from collector.storage.writer import Writer
from collector.verify import repair
from tests.support.feed import Feed, Run
from tests.support.reports import HOUR, at
from tests.support.settings import make_server, make_settings
from tests.support.verify import look

T = at("2026-03-02 10:00")
SECOND = timedelta(seconds=1)
# Polls that cover a second twice, of one server; and samples, of one session.
TWICE = """
SELECT count(*) FROM (
    SELECT ts, lead(ts) OVER (PARTITION BY server_id ORDER BY ts) AS next,
        ts + make_interval(secs => seconds) AS until
    FROM meter.{table} WHERE {condition}
) AS x WHERE x.next < x.until
"""

WAITS = """
SELECT EXISTS (
    SELECT FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
)
"""


async def counted_twice(pool: asyncpg.Pool) -> int:
    """Return how many stored polls and samples overlap."""
    queries = (
        TWICE.format(table="poll", condition="ok"),
        TWICE.format(table="sample", condition="TRUE"),
    )
    return sum([await pool.fetchval(query) for query in queries])


async def test_a_restart_with_another_interval_fills_nothing_twice(pool: asyncpg.Pool) -> None:
    """60 s, stop, 10 s, start within max_gap_s: a gap between two intervals is not filled."""
    meeting = Meeting("m", "m", epoch_ms(T), 10, 0, 0, 0, 0, False, None, False, {})  # noqa: FBT003

    def polled(seconds: int) -> PollResult:
        return PollResult("bbb1", T + seconds * SECOND, True, 5, answer=Answer((meeting,)))  # noqa: FBT003

    writer = Writer(pool)
    before = Pipeline(make_settings(poll_interval_s=60))
    for seconds in (0, 60):
        await writer.write(before.process(polled(seconds)))
    async with pool.acquire() as connection:
        last = await last_polls(connection, ["bbb1"], T + 180 * SECOND, 300)
        after = Pipeline(make_settings(poll_interval_s=10))
        for name, poll in last.items():
            after.restore(name, poll)
    for seconds in range(180, 220, 10):
        await writer.write(after.process(polled(seconds)))
    assert await pool.fetchval("SELECT sum(seconds) FROM meter.sample") == 2 * 60 + 4 * 10
    assert await counted_twice(pool) == 0
    # Back to 60 s.
    async with pool.acquire() as connection:
        last = await last_polls(connection, ["bbb1"], T + 300 * SECOND, 300)
    assert (last["bbb1"].seconds, {seconds for _, seconds in last["bbb1"].earlier}) == (
        10,
        {10, 60},
    )
    again = Pipeline(make_settings(poll_interval_s=60))
    again.restore("bbb1", last["bbb1"])
    await writer.write(again.process(polled(300)))
    assert await pool.fetchval("SELECT sum(seconds) FROM meter.sample") == 3 * 60 + 4 * 10


async def test_the_first_tick_after_a_change_follows_what_is_stored(feed: Feed) -> None:
    """It also follows a poll of a collector whose clock is some seconds ahead."""
    now = await feed.pool.fetchval("SELECT date_trunc('minute', now())")
    feed.interval_s = 60
    for tick in (now - 60 * SECOND, now):
        await feed.play(["bbb1"], [tick])
        async with feed.pool.acquire() as connection:
            assert await covered_until(connection, 10) == tick + 60 * SECOND
            assert await covered_until(connection, 60) is None


@pytest.mark.parametrize("seed", range(12))
async def test_polls_of_several_intervals_never_overlap(feed: Feed, seed: int) -> None:
    """In whatever order and batches they are stored, live and from spools, each second is once."""
    dice = random.Random(seed)
    run = Run("bbb1", "arts", "r", T - HOUR, T + HOUR, 3)
    batches: list[Batch] = []
    for _ in range(6):
        feed.interval_s = dice.choice([5, 6, 10, 12, 15, 20, 30, 60])
        begin = T + dice.randrange(0, 300, feed.interval_s) * SECOND
        begin -= (begin - T) % (feed.interval_s * SECOND)
        ticks = list(feed.ticks(begin, begin + 180 * SECOND))
        failed = {("bbb1", tick) for tick in ticks if dice.random() < 0.2}
        batch = feed.batch(["bbb1"], ticks, [run], failed=failed)
        keys = [("bbb1", tick) for tick in ticks]
        cut = dice.randrange(len(keys))
        batches += [batch.part(keys[:cut]), batch.part(keys[cut:])]
    dice.shuffle(batches)
    whole = Batch()
    for batch in filter(lambda b: b.polls, batches):
        known = {(poll.server, poll.ts) for poll in whole.polls}
        if known.isdisjoint((poll.server, poll.ts) for poll in batch.polls) and dice.random() < 0.5:
            whole.extend(batch)
            continue
        await feed.writer.write(batch, late=dice.random() < 0.5)
    if whole.polls:
        await feed.writer.write(whole, late=True)
    assert await counted_twice(feed.pool) == 0
    rows = await feed.pool.fetch("SELECT ts, seconds FROM meter.poll WHERE ok")
    assert rows
    # Each successful poll has its sample, with the same time.
    samples = await feed.pool.fetch("SELECT ts, seconds FROM meter.sample")
    assert sorted(map(tuple, samples)) == sorted(map(tuple, rows))


async def test_a_batch_with_two_intervals_keeps_the_first(feed: Feed) -> None:
    """A spool holds both sides of a change: of two polls that overlap, the earlier one counts."""
    run = Run("bbb1", "arts", "r", T - HOUR, T + HOUR, 3)
    batch = Batch()
    for interval_s, since, until in ((60, 0, 60), (10, 20, 80)):
        feed.interval_s = interval_s
        ticks = feed.ticks(T + since * SECOND, T + until * SECOND)
        batch.extend(feed.batch(["bbb1", "bbb2"], ticks, [run]))
    await feed.writer.write(batch, late=True)
    rows = await feed.pool.fetch(
        "SELECT server_id, count(*) AS polls, sum(seconds) AS seconds FROM meter.poll GROUP BY 1"
    )
    assert [(row["polls"], row["seconds"]) for row in rows] == [(3, 80), (3, 80)]
    assert await counted_twice(feed.pool) == 0


async def present(pool: asyncpg.Pool) -> datetime:
    """Return a tick that is so young that a writer does not take it for late."""
    tick: datetime = await pool.fetchval(
        "SELECT to_timestamp(10 * floor(extract(EPOCH FROM now()) / 10))"
    )
    return tick


async def test_the_time_around_a_change_is_looked_at_again(feed: Feed) -> None:
    """Polls of the present are not late, unless stored ones of another interval are near."""
    tick = await present(feed.pool)
    feed.interval_s = 20
    await feed.play(["bbb1"], [tick])
    assert await feed.pool.fetch("SELECT * FROM meter.late") == []
    feed.interval_s = 10
    await feed.play(["bbb1"], [tick + 20 * SECOND])
    rows = await feed.pool.fetch("SELECT since, until FROM meter.late")
    assert [tuple(row) for row in rows] == [(tick, tick + 20 * SECOND)]


@pytest.mark.parametrize("goes_on", [True, False])
async def test_two_connections_at_once(
    feed: Feed,
    goes_on: bool,  # noqa: FBT001
    _embedded_dsn: str | None,  # noqa: PT019 - its value says which engine it is
) -> None:
    """The next batch notes what two transactions stored; without one, `verify` finds it."""
    if _embedded_dsn is not None:
        pytest.skip("the embedded engine runs one transaction at a time")
    tick = await present(feed.pool)
    run = Run("bbb1", "arts", "r", tick - HOUR, tick + HOUR, 3)
    await feed.due(tick - 60 * SECOND, bbb1=None)
    await feed.play(["bbb1"], [tick - 60 * SECOND], [run])
    await feed.pool.execute("DELETE FROM meter.late")
    feed.interval_s = 20
    long = feed.batch(["bbb1"], [tick], [run])
    feed.interval_s = 10
    short = feed.batch(["bbb1"], [tick + 10 * SECOND], [run])
    # The first one waits for a transaction that stores its poll, but is never committed.
    async with feed.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(
            "INSERT INTO meter.poll SELECT x.* FROM meter.poll AS p, "
            "jsonb_populate_record(p, jsonb_build_object('ts', $1::timestamptz)) AS x",
            tick,
        )
        first = asyncio.create_task(feed.writer.write(long))
        while not await feed.pool.fetchval(WAITS):  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)
        await feed.writer.write(short)
        await transaction.rollback()
    await first
    assert await counted_twice(feed.pool) == 2
    assert await feed.pool.fetch("SELECT * FROM meter.late") == []
    settings = make_settings(server=[make_server("bbb1")])
    if goes_on:
        await feed.play(["bbb1"], [tick + 20 * SECOND], [run])
        await settle(feed.pool, timedelta(0))
    else:
        found = await look(feed, settings, until=tick + HOUR)
        assert found["overlaps"].total == 2
        await repair(feed.pool, settings, list(found.values()))
    assert await counted_twice(feed.pool) == 0
    assert (await look(feed, settings, until=tick + HOUR))["overlaps"].ok


async def test_two_writers_at_once_do_not_see_each_other(feed: Feed) -> None:
    """Both store, and the next batch notes it: the later of two polls that overlap is deleted."""
    run = Run("bbb1", "arts", "r", T - HOUR, T + HOUR, 3)
    feed.interval_s = 60
    await feed.play(["bbb1"], [T], [run])
    # What a transaction stores that began before the other one was committed.
    for table in ("poll", "sample"):
        await feed.pool.execute(
            f"INSERT INTO meter.{table} SELECT x.* FROM meter.{table} AS t, "  # noqa: S608
            "jsonb_populate_record(t, jsonb_build_object("
            "'seconds', 10, 'ts', t.ts + interval '30 seconds')) AS x"
        )
    assert await counted_twice(feed.pool) == 2
    feed.interval_s = 10
    await feed.play(["bbb1"], [T + 40 * SECOND], [run])  # refused
    await settle(feed.pool, timedelta(0))
    assert await counted_twice(feed.pool) == 0
    assert await feed.pool.fetchval("SELECT sum(seconds) FROM meter.sample") == 60
    assert await feed.pool.fetchval("SELECT sum(session_seconds) FROM meter.usage_1m") == 60


async def test_a_failed_poll_stays_if_its_successful_one_is_refused(feed: Feed) -> None:
    """Of two polls that take the place of failed ones, one overlaps a stored one."""
    run = Run("bbb1", "arts", "r", T - HOUR, T + HOUR, 3)
    feed.interval_s = 10
    ticks = [T + 50 * SECOND, T + 60 * SECOND]
    await feed.play(["bbb1"], ticks, failed={("bbb1", tick) for tick in ticks})
    feed.interval_s = 60
    await feed.play(["bbb1"], [T], [run])
    feed.interval_s = 10
    stored = await feed.writer.write(feed.batch(["bbb1"], ticks, [run]), late=True)
    assert stored.polls == {("bbb1", ticks[1])}
    rows = await feed.pool.fetch("SELECT ts, ok, seconds FROM meter.poll ORDER BY ts")
    assert [tuple(row) for row in rows] == [
        (T, True, 60),
        (ticks[0], False, 10),
        (ticks[1], True, 10),
    ]


async def test_filled_samples_of_another_interval_give_way(feed: Feed) -> None:
    """A real minute replaces six filled samples; of filled ones that overlap, the first stays."""
    run = Run("bbb1", "arts", "r", T - HOUR, T + HOUR, 3)
    feed.interval_s = 10
    end = T + 240 * SECOND
    batch = feed.batch(["bbb1"], [T, end], [run])
    filled = [feed.sample(run, tick, poll_ts=end) for tick in feed.ticks(T + 10 * SECOND, end)]
    batch.samples += filled
    await feed.writer.write(batch)
    feed.interval_s = 60
    late = feed.batch(["bbb1"], [T + 60 * SECOND, T + 300 * SECOND], [run])
    late.samples.append(feed.sample(run, T + 120 * SECOND, poll_ts=T + 300 * SECOND))
    # The guard of the writer compares equal ticks only.
    await feed.pool.execute("DELETE FROM meter.sample WHERE filled AND ts = $1", T + 120 * SECOND)
    await feed.writer.write(late, late=True)
    await settle(feed.pool, timedelta(0))
    assert await counted_twice(feed.pool) == 0
    rows = await feed.pool.fetch(
        "SELECT ts, seconds, filled FROM meter.sample WHERE ts >= $1 AND ts < $2 ORDER BY ts",
        T + 50 * SECOND,
        T + 190 * SECOND,
    )
    assert [(int((row["ts"] - T).total_seconds()), *tuple(row)[1:]) for row in rows] == [
        (50, 10, True),
        (60, 60, False),
        (120, 60, True),
        (180, 10, True),
    ]
