"""Data that come late or twice: what hangs on them is seen to, on the database's side."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from collector.database.upkeep import settle, update_sessions
from tests.support.feed import Feed, Run

TICK = timedelta(seconds=30)
T = datetime(2026, 3, 2, 10, tzinfo=UTC)
AT_ONCE = timedelta(0)
ROLLUPS = (
    *("usage_1m", "usage_1h", "usage_1d", "session_1h", "server_1h", "server_1d"),
    *("fleet_1m", "fleet_1h"),
)


async def minutes(feed: Feed, since: datetime) -> dict[str, float]:
    """Return the participant minutes since then: of the samples, and of each rollup."""
    found = {
        "sample": await feed.pool.fetchval(
            "SELECT sum(participants * seconds) FROM meter.sample WHERE ts >= $1", since
        )
    }
    for rollup in ROLLUPS:
        found[rollup] = await feed.pool.fetchval(
            f"SELECT sum(participant_seconds) FROM meter.{rollup} WHERE bucket >= $1",  # noqa: S608
            since,
        )
    return {name: int(value or 0) / 60 for name, value in found.items()}


async def test_a_real_sample_takes_the_place_of_a_filled_one(feed: Feed) -> None:
    """Another collector filled ticks which this one had polled and brings only now."""
    run = Run("bbb1", "arts", "r", T, T + 10 * TICK, participants=4)
    await feed.play(["bbb1"], [T], [run])
    batch = feed.batch(["bbb1"], [T + 4 * TICK], [run])
    batch.samples += [feed.sample(run, T + n * TICK, poll_ts=T + 4 * TICK) for n in (1, 2, 3)]
    await feed.writer.write(batch)
    late = feed.batch(["bbb1"], [T + 2 * TICK], [replace(run, participants=9)])
    await feed.writer.write(late, late=True)
    assert await feed.pool.fetchval("SELECT count(*) FROM meter.sample") == 6
    for columns in (False, True):
        if columns:
            await feed.columnize()
            again = feed.batch(["bbb1"], [T + 3 * TICK], [replace(run, participants=9)])
            await feed.writer.write(again, late=True)
        await settle(feed.pool, AT_ONCE)
        rows = await feed.pool.fetch(
            "SELECT ts, participants, filled FROM meter.sample ORDER BY ts"
        )
        nine = (2, 3) if columns else (2,)
        assert [tuple(row) for row in rows] == [
            (T + n * TICK, 9 if n in nine else 4, n in {1, 3} - set(nine)) for n in range(5)
        ]


async def test_a_late_poll_that_did_not_show_the_session(feed: Feed) -> None:
    """Another collector filled its tick, and could not know this. It is noted."""
    run = Run("bbb1", "arts", "r", T, T + 10 * TICK, participants=4)
    await feed.due(T, bbb1="arts")
    batch = feed.batch(["bbb1"], [T, T + 2 * TICK, T + 3 * TICK], [run])
    batch.samples.append(feed.sample(run, T + TICK, poll_ts=T + 2 * TICK))
    await feed.writer.write(batch)
    await feed.due(T + 4 * TICK)
    await feed.writer.write(feed.batch(["bbb1"], [T + TICK]), late=True)
    for _ in range(2):
        await settle(feed.pool, AT_ONCE)
        rows = await feed.pool.fetch("SELECT ts, session_id, sessions, seconds FROM meter.unseen")
        assert [tuple(row) for row in rows] == [(T + TICK, run.session_id, 1, 30)]
        (row,) = await feed.pool.fetch("SELECT * FROM meter.tenant_report($1, $2)", T, T + 4 * TICK)
        assert (row["participant_minutes"], row["coverage"]) == (8, 0.75)
        await feed.pool.execute("INSERT INTO meter.late VALUES ($1, $2)", T, T + 4 * TICK)


async def test_of_two_filled_samples_one_stays(feed: Feed) -> None:
    """Two collectors filled the same tick at once, not seeing each other."""
    run = Run("bbb1", "arts", "r", T, T + 10 * TICK, participants=4)
    await feed.play(["bbb1"], [T], [run])
    batch = feed.batch(["bbb1"], [T + 2 * TICK], [run])
    batch.samples += [feed.sample(run, T + TICK, poll_ts=T + 2 * TICK)] * 2
    await feed.writer.write(batch)
    other = feed.batch(["bbb1"], [T + 3 * TICK], [run])
    other.samples += [feed.sample(run, T + TICK, poll_ts=T + 3 * TICK)]
    await feed.writer.write(other)
    filled = "SELECT count(*) FROM meter.sample WHERE filled"
    assert await feed.pool.fetchval(filled) == 2  # the third saw that the tick was filled already
    await settle(feed.pool, AT_ONCE)
    assert await feed.pool.fetchval(filled) == 1


async def test_what_was_noted_just_now_waits_for_writers_that_may_cross_it(feed: Feed) -> None:
    """Nothing is settled before no writer can be at work any more that did not see it."""
    await feed.writer.write(feed.batch(["bbb1"], [T]), late=True)
    assert await settle(feed.pool) == 0
    assert await feed.pool.fetchval("SELECT count(*) FROM meter.late") == 1
    assert await settle(feed.pool, AT_ONCE) == 1
    assert await feed.pool.fetchval("SELECT count(*) FROM meter.late") == 0


async def test_late_data_reach_exactly_the_rollups_they_touch(feed: Feed) -> None:
    """Days old, stored after the policies were there: every level shows them after settling."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    since = today - timedelta(days=4)
    late, other = since + timedelta(hours=8), since + timedelta(hours=32)
    since -= timedelta(hours=2)  # a day in Berlin begins before one of UTC
    run = Run("bbb1", "arts", "r", late, late + 6 * TICK, participants=4)
    later = Run("bbb1", "arts", "r", other, other + 6 * TICK, participants=7)
    await feed.play(["bbb1"], feed.ticks(other, other + 6 * TICK), [later])
    await settle(feed.pool, AT_ONCE)
    await feed.refresh(today)
    await feed.play(["bbb1"], feed.ticks(late, late + 6 * TICK), [run])
    assert await minutes(feed, since) == dict.fromkeys(ROLLUPS, 21.0) | {"sample": 33.0}
    # As nobody should; it shows that what was not touched is not refreshed.
    await feed.pool.execute("DELETE FROM meter.sample WHERE ts >= $1", other)
    assert await settle(feed.pool, AT_ONCE) == 1
    assert await minutes(feed, since) == dict.fromkeys(ROLLUPS, 33.0) | {"sample": 12.0}


async def test_a_session_that_had_ended_is_computed_again(feed: Feed) -> None:
    """Its last ticks came from a spool, after polls that did not see it any more."""
    run = Run("bbb1", "arts", "r", T, T + 4 * TICK, participants=4)
    await feed.play(["bbb1"], [T, T + TICK], [run])
    await feed.play(["bbb1"], feed.ticks(T + 10 * TICK, T + 20 * TICK))
    await update_sessions(feed.pool, 120)
    ended = await feed.session(run)
    assert (ended["session_seconds"], ended["ended_at"] is None) == (60, False)
    batch = feed.batch(["bbb1"], [T + 2 * TICK, T + 3 * TICK], [run])
    batch.sessions.clear()  # known when they were polled
    await feed.writer.write(batch, late=True)
    await settle(feed.pool, AT_ONCE)
    await update_sessions(feed.pool, 120)
    again = await feed.session(run)
    assert (again["session_seconds"], again["participant_seconds"]) == (120, 480)
    assert again["ended_at"] == T + 3 * TICK + TICK / 2


async def test_a_failed_poll_in_columns_makes_room_for_a_successful_one(feed: Feed) -> None:
    """What was refused for its content, and mended, is stored days later."""
    ticks = [T + n * TICK for n in range(20)]
    run = Run("bbb1", "arts", "r", T, T + 20 * TICK, participants=2)
    failed = {("bbb1", T + n * TICK) for n in (3, 4)}
    await feed.play(["bbb1"], ticks, [run], failed=failed)
    await feed.columnize()
    stored = await feed.writer.write(feed.batch(["bbb1"], ticks, [run]), late=True)
    assert stored.polls == failed
    assert await feed.pool.fetchval("SELECT count(*) FROM meter.poll WHERE ok") == 20
    assert await feed.pool.fetchval("SELECT count(*) FROM meter.sample") == 20


async def seen(feed: Feed, collector: str, *spans: tuple[int, int, int]) -> None:
    """Let a collector have been seen in spans of ticks: since, until, and safe until."""
    for since, until, safe_until in spans:
        await feed.pool.execute(
            "INSERT INTO meter.collector (id, host, since, until, safe_until) "
            "VALUES ($1, 'host', $2, $3, $4)",
            collector,
            T + since * TICK,
            T + until * TICK,
            T + safe_until * TICK,
        )


async def test_missing_polls_say_why(feed: Feed) -> None:
    """Whether nobody polled, or a collector had just gone, or nothing explains it."""
    await feed.due(T, bbb1=None, bbb2=None)
    # All are away from tick 20 to 30; `b` dies at 60, with the ticks since 57 in memory; `a` is
    # there all the time.
    await seen(feed, "a", (0, 20, 20), (30, 100, 100))
    await seen(feed, "b", (0, 20, 20), (30, 60, 57))
    gone = {
        "bbb1": {*range(21, 30), *range(57, 63), 80},
        "bbb2": {*range(22, 25), *range(90, 95)},
    }
    for server, holes in gone.items():
        await feed.play([server], [T + n * TICK for n in range(100) if n not in holes])
    rows = await feed.pool.fetch(
        "SELECT v.name, m.* FROM meter.missing_polls($1, $2) AS m "
        "INNER JOIN meter.server AS v ON m.server_id = v.id ORDER BY v.name, m.missing_since",
        T,
        T + 100 * TICK,
    )
    found = [
        (r["name"], (r["missing_since"] - T) // TICK, (r["missing_until"] - T) // TICK, r["reason"])
        for r in rows
    ]
    assert found == [
        ("bbb1", 21, 30, "no collector"),
        ("bbb1", 57, 63, "handover"),
        ("bbb1", 80, 81, "unexplained"),
        ("bbb2", 22, 25, "no collector"),
        ("bbb2", 90, 95, "unexplained"),
    ]
    assert [row["polls"] for row in rows] == [9, 6, 1, 3, 5]


async def test_a_failed_poll_is_not_missing_and_a_new_interval_leaves_no_hole(
    feed: Feed,
) -> None:
    """Failures have rows; the new grid may begin a part of an interval later."""
    await feed.due(T, bbb1=None)
    await feed.play(["bbb1"], [T, T + TICK], failed=[("bbb1", T + TICK)])
    feed.interval_s = 20
    later = T + timedelta(seconds=80)
    await feed.play(["bbb1"], [later, later + timedelta(seconds=20)])
    until = later + timedelta(seconds=40)
    assert await feed.pool.fetch("SELECT * FROM meter.missing_polls($1, $2)", T, until) == []


async def test_signs_of_life(feed: Feed) -> None:
    """One that was silent for two periods, or was started anew, begins another span."""
    period = timedelta(seconds=1)

    async def beat(
        collector: str, *, anew: bool = False, unsafe_since: datetime | None = None
    ) -> list[str]:
        found: list[str] = await feed.pool.fetchval(
            "SELECT meter.beat($1, 'host', $2, $3, $4, $5)",
            collector,
            period,
            6 * period,
            anew,
            unsafe_since,
        )
        return found

    assert await beat("a", anew=True) == ["a"]
    assert await beat("b", anew=True, unsafe_since=T) == ["a", "b"]
    safe = "SELECT safe_until, until FROM meter.collector ORDER BY id"
    spans = await feed.pool.fetch(safe)
    assert [span["safe_until"] for span in spans] == [spans[0]["until"], T]
    await feed.pool.execute("UPDATE meter.collector SET since = since - $1::interval", period)
    assert await beat("a") == ["a", "b"]
    assert await feed.pool.fetchval("SELECT count(*) FROM meter.collector") == 2
    await feed.pool.execute("SELECT meter.leave('b', $1)", period)
    assert await beat("a") == ["a"]
    await feed.pool.execute(
        "UPDATE meter.collector SET since = since - $1::interval, until = until - $1::interval",
        5 * period,
    )
    assert await beat("a") == ["a"]
    spans = await feed.pool.fetch("SELECT id FROM meter.collector ORDER BY id")
    assert [span["id"] for span in spans] == ["a", "a", "b"]
