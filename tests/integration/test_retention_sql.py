"""Reports on periods whose data is partly deleted."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from collector.errors import ReportError
from collector.reports.usage import Request, fetch_report
from tests.support.feed import MakeFeed, Run
from tests.support.reports import BERLIN, HOUR, MINUTE, by, local, report
from tests.support.settings import make_settings


async def test_a_period_is_refused_when_its_edges_are_gone(make_feed: MakeFeed) -> None:
    """Whole days are answered from rollups that are kept; a missing edge is an error."""
    kept = {"sample": 5, "poll": 5, "usage_1m": 5, "usage_1h": 6, "server_1h": 6, "session_1h": 5}
    settings = make_settings(retention=kept | {"session": 0})
    feed = await make_feed(settings)
    today = datetime.now(BERLIN).date()
    old, young = local(today - timedelta(days=60), hour=10), local(today, hour=0) - 2 * HOUR
    await feed.due(old, bbb1=None)
    runs = [
        Run("bbb1", "arts", "r", old, old + HOUR, 5),
        Run("bbb1", "arts", "r", young, young + HOUR, 7),
    ]
    ticks = [*feed.ticks(old, old + HOUR), *feed.ticks(young, young + HOUR)]
    await feed.play(["bbb1"], ticks, runs)
    await feed.pool.execute("SELECT meter.update_sessions(120)")
    await feed.refresh()
    day = (local(today - timedelta(days=60)), local(today - timedelta(days=59)))
    full = await report(feed, *day)
    for relation in kept:
        await feed.pool.execute(
            "SELECT public.drop_chunks($1::regclass, older_than => $2::timestamptz)",
            f"meter.{relation}",
            datetime.now(UTC) - timedelta(days=10),
        )

    assert (await report(feed, *day)) == full
    assert full["arts"]["participant_minutes"] == 300
    refused = [
        (Request(old, old + 10 * MINUTE), "usage_1m is kept for 5 days"),
        (Request(day[0], old + HOUR), "usage_1h is kept for 6 days"),
        (Request(*day, by="room"), "session_1h is kept for 5 days"),
    ]
    for request, said in refused:
        async with feed.pool.acquire() as connection:
            with pytest.raises(ReportError, match=f"{said} and no longer reaches back.*whole days"):
                await fetch_report(connection, request)
    with pytest.raises(asyncpg.InvalidParameterValueError, match="server_1h is kept for 6 days"):
        await feed.pool.fetch("SELECT * FROM meter.server_coverage($1, $2)", day[0], old + HOUR)
    recent = (await report(feed, young, young + 30 * MINUTE))["arts"]
    assert recent["participant_minutes"] == 210


async def test_peaks_of_groups_are_unknown_without_samples(make_feed: MakeFeed) -> None:
    """Rooms and servers have no rollup by the minute: without samples their peak is NULL."""
    feed = await make_feed(make_settings(retention={"sample": 5, "session_1h": 0}))
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    old, young = now - timedelta(days=20), now - 2 * HOUR
    await feed.due(old, bbb1=None)
    runs = [
        Run("bbb1", "arts", "r", old, old + HOUR, 5),
        Run("bbb1", "arts", "r", young, young + HOUR, 7),
    ]
    await feed.play(["bbb1"], feed.ticks(old, old + HOUR), runs)
    await feed.play(["bbb1"], feed.ticks(young, young + HOUR), runs)
    await feed.refresh()
    (before,) = await by(feed, old, old + HOUR, "room")
    await feed.pool.execute(
        "SELECT public.drop_chunks('meter.sample', older_than => $1::timestamptz)",
        now - timedelta(days=10),
    )
    (after,) = await by(feed, old, old + HOUR, "room")
    assert (before["peak_participants"], before["peak_sessions"]) == (5, 1)
    assert (after["peak_participants"], after["peak_sessions"]) == (None, None)
    assert after["peak_participants_at"] is None
    assert after["participant_minutes"] == before["participant_minutes"] == 300
    (recent,) = await by(feed, young, young + HOUR, "room")
    assert recent["peak_participants"] == 7


async def test_a_period_is_refused_when_all_rows_are_gone(make_feed: MakeFeed) -> None:
    """An empty table may have lost the minutes of the period: nothing newer has to be stored."""
    kept = {"sample": 5, "poll": 5, "usage_1m": 5, "session": 0}
    feed = await make_feed(make_settings(retention=kept))
    old = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=20)
    await feed.due(old, bbb1=None)
    run = Run("bbb1", "arts", "r", old, old + HOUR, 5)
    await feed.play(["bbb1"], feed.ticks(old, old + HOUR), [run])
    await feed.refresh()
    for relation in ("sample", "poll", "usage_1m"):
        await feed.pool.execute(
            "SELECT public.drop_chunks($1::regclass, older_than => now() - interval '10 days')",
            f"meter.{relation}",
        )
    with pytest.raises(asyncpg.InvalidParameterValueError, match="no longer reaches back"):
        await report(feed, old, old + 10 * MINUTE)
