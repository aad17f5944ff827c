"""meter.update_sessions: a session's figures, its end and its coming back."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from collector.model import Batch
from tests.support.feed import Feed, Run

MINUTE, TICK = timedelta(minutes=1), timedelta(seconds=30)
T = datetime(2026, 3, 2, 10, tzinfo=UTC)
CLOSE_AFTER_S = 120
DERIVED = (
    "last_seen_at",
    "ended_at",
    "duration_seconds",
    "session_seconds",
    "participant_seconds",
    "voice_seconds",
    "video_seconds",
    "dialin_seconds",
    "filled_seconds",
    "max_participants",
    "mean_participants",
)


async def update(feed: Feed, close_after_s: int = CLOSE_AFTER_S) -> int:
    """Bring sessions up to date; return how many were open."""
    touched: int = await feed.pool.fetchval("SELECT meter.update_sessions($1)", close_after_s)
    return touched


async def seen(
    feed: Feed, since: int, until: int, *runs: Run, failed: tuple[int, ...] = ()
) -> None:
    """Poll bbb1 at the ticks [since, until) after T; `failed` names ticks that fail."""
    ticks = [T + n * TICK for n in range(since, until)]
    await feed.play(["bbb1"], ticks, runs, failed={("bbb1", T + n * TICK) for n in failed})


def a_run(begin: int, end: int, people: int = 1, **changes: object) -> Run:
    """Return a session that is there at the ticks [begin, end) after T."""
    return Run(
        "bbb1",
        "arts",
        "r",
        T + begin * TICK,
        T + end * TICK,
        people,
        **changes,  # type: ignore[arg-type]
    )


async def test_figures_are_those_of_the_samples(feed: Feed) -> None:
    """Sums, maximum and mean come from the samples; what was filled counts, and is told."""
    await feed.due(T, bbb1=None)
    run = a_run(1, 5, 10, voice=4, video=3, dialins=2, created_at=T + TICK - MINUTE / 6)
    batch = feed.batch(["bbb1"], [T + n * TICK for n in (0, 1, 2, 4, 5)], [run])
    batch.samples.append(
        feed.sample(run, T + 3 * TICK, poll_ts=T + 4 * TICK)._replace(participants=20)
    )
    await feed.writer.write(batch)
    row = await feed.session(run)
    assert {row[column] for column in DERIVED} == {None}
    assert await update(feed) == 1
    row = await feed.session(run)
    assert {column: row[column] for column in DERIVED} == {
        "last_seen_at": T + 4 * TICK,
        "ended_at": None,
        "duration_seconds": 10 + 3 * 30 + 15,
        "session_seconds": 120,
        "participant_seconds": 3 * 300 + 600,
        "voice_seconds": 480,
        "video_seconds": 360,
        "dialin_seconds": 240,
        "filled_seconds": 30,
        "max_participants": 20,
        "mean_participants": 12.5,
    }


@pytest.mark.parametrize(("close_after_s", "polls"), [(120, 4), (90, 3), (100, 4), (0, 1)])
async def test_a_session_ends_when_polls_have_missed_it_for_long_enough(
    feed: Feed, close_after_s: int, polls: int
) -> None:
    """It is closed by `close_after_s` seconds of polls, and ended half an interval after it."""
    await feed.due(T, bbb1=None)
    run = a_run(0, 10)
    await seen(feed, 0, 10, run)
    for missed in range(polls):
        assert await update(feed, close_after_s) == 1
        assert (await feed.session(run))["ended_at"] is None, missed
        await seen(feed, 10 + missed, 11 + missed, run)
    await update(feed, close_after_s)
    row = await feed.session(run)
    assert row["ended_at"] == T + 9.5 * TICK
    assert row["duration_seconds"] == 285
    assert await update(feed, close_after_s) == 0


async def test_a_server_that_fails_closes_nothing(feed: Feed) -> None:
    """Failed polls and missing polls say nothing; only successful ones count, also after them."""
    await feed.due(T, bbb1=None)
    run = a_run(0, 5)
    await seen(feed, 0, 5, run)
    await seen(feed, 5, 105, failed=tuple(range(5, 105)))
    await update(feed)
    assert (await feed.session(run))["ended_at"] is None
    # The collector is down from 105 to 204.
    await seen(feed, 205, 208)
    await update(feed)
    assert (await feed.session(run))["ended_at"] is None
    await seen(feed, 208, 209)
    await update(feed)
    assert (await feed.session(run))["ended_at"] == T + 4.5 * TICK


async def test_another_servers_polls_close_nothing(feed: Feed) -> None:
    """What counts are the polls of the session's own server."""
    await feed.due(T, bbb1=None, bbb2=None)
    run = a_run(0, 5)
    await seen(feed, 0, 5, run)
    await feed.play(["bbb2"], [T + n * TICK for n in range(50)])
    await update(feed)
    assert (await feed.session(run))["ended_at"] is None


async def test_a_session_that_comes_back_is_open_again(feed: Feed) -> None:
    """It keeps its one row. Its length leaves out the time that no sample stands for."""
    await feed.due(T, bbb1=None)
    first = a_run(0, 5, 4)
    await seen(feed, 0, 15, first)
    await update(feed)
    assert (await feed.session(first))["ended_at"] == T + 4.5 * TICK
    back = Run("bbb1", "arts", "r", first.begin, T + 20 * TICK, 4)
    await seen(feed, 15, 20, back)
    assert (await feed.session(back))["ended_at"] is None
    await update(feed)
    assert (await feed.session(back))["ended_at"] is None
    await seen(feed, 20, 30)
    await update(feed)
    row = await feed.session(back)
    assert row["ended_at"] == T + 19.5 * TICK
    assert row["first_seen_at"] == T
    assert row["session_seconds"] == 10 * 30
    assert row["duration_seconds"] == 10 * 30 - 15
    assert row["mean_participants"] == 4


@pytest.mark.parametrize("ahead", [timedelta(seconds=20), timedelta(hours=3)])
async def test_a_server_whose_clock_is_ahead_gives_no_negative_duration(
    feed: Feed, ahead: timedelta
) -> None:
    """Where createTime is later than the first sight, the duration counts from that."""
    await feed.due(T, bbb1=None)
    run = a_run(0, 1, created_at=T + ahead)
    await seen(feed, 0, 10, run)
    await update(feed)
    row = await feed.session(run)
    assert row["started_at"] == T + ahead
    assert row["duration_seconds"] == 15
    assert row["ended_at"] == T + TICK / 2


async def test_a_removed_server_closes_its_sessions(feed: Feed) -> None:
    """Nobody polls it any more: its sessions end where they were last seen, others go on."""
    await feed.due(T, bbb1=None, bbb2=None)
    gone = a_run(0, 5)
    stays = Run("bbb2", "arts", "r", T, T + 5 * TICK)
    await feed.play(("bbb1", "bbb2"), [T + n * TICK for n in range(5)], [gone, stays])
    await feed.due(T + 5 * TICK, bbb2=None)
    await update(feed)
    assert (await feed.session(gone))["ended_at"] == T + 4.5 * TICK
    assert (await feed.session(stays))["ended_at"] is None


async def test_updates_and_replays_change_nothing(feed: Feed) -> None:
    """Any number of updates and of replays of the same batches leaves the same sessions."""
    await feed.due(T, bbb1=None)
    ended, running = a_run(0, 5, 3), Run("bbb1", "law", "x", T, T + 20 * TICK, 7)
    batches = [
        feed.batch(["bbb1"], [T + n * TICK for n in span], [ended, running])
        for span in (range(10), range(10, 20))
    ]

    async def sessions() -> list["asyncpg.Record"]:
        return await feed.pool.fetch("SELECT * FROM meter.session ORDER BY session_id")

    for batch in batches:
        await feed.writer.write(batch)
    await update(feed)
    once = await sessions()
    assert [
        row["ended_at"] is None for row in sorted(once, key=lambda r: r["session_seconds"])
    ] == [
        False,
        True,
    ]
    for batch in (*batches, batches[0], Batch()):
        await feed.writer.write(batch)
        await update(feed)
        await update(feed)
    assert await sessions() == once


async def test_sessions_in_columns_can_come_back(feed: Feed) -> None:
    """A session whose chunk has become columns is opened, computed and closed as any other."""
    await feed.due(T, bbb1=None)
    first = a_run(0, 5)
    await seen(feed, 0, 15, first)
    await update(feed)
    assert await feed.columnize() >= 3
    back = Run("bbb1", "arts", "r", first.begin, T + 20 * TICK)
    await seen(feed, 15, 30, back)
    await update(feed)
    assert (await feed.session(back))["ended_at"] == T + 19.5 * TICK
