"""The month so far, edges of time ranges, and the minutes of sessions, as dashboards read them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from tests.support.feed import Feed, MakeFeed, Run
from tests.support.reports import HOUR, MINUTE, at, by, report
from tests.support.settings import make_settings

DAY = timedelta(days=1)


async def month(pool: asyncpg.Pool, instant: datetime) -> dict[str, Any]:
    """Return what meter.month_to_date says of the only tenant with sessions."""
    row = await pool.fetchrow("SELECT * FROM meter.month_to_date($1) WHERE tenant = 'law'", instant)
    assert row is not None
    return dict(row)


@pytest.mark.parametrize(("since", "share"), [("2026-01-21 23:00", 10 / 31), ("2025-12-01", 1)])
async def test_a_part_of_a_month_is_not_compared(feed: Feed, since: str, share: float) -> None:
    """`change` is empty if polls were not due throughout the month before."""
    begin = at("2026-01-30 10:00")
    runs = [
        Run("bbb1", "law", "a", day + 10 * HOUR, day + 11 * HOUR, 10)
        for day in (at("2026-01-30 00:00"), at("2026-02-03 00:00"))
    ]
    await feed.due(datetime.fromisoformat(since).replace(tzinfo=UTC), bbb1=None)
    await feed.play(["bbb1"], feed.ticks(begin, begin + HOUR), runs)
    second = at("2026-02-03 10:00")
    await feed.play(["bbb1"], feed.ticks(second, second + HOUR), runs)
    await feed.refresh()
    row = await month(feed.pool, at("2026-02-03 23:00"))
    assert row["participant_minutes"] == row["last_month_minutes"] == 600
    assert row["last_month_metered_share"] == pytest.approx(share, abs=0.01)
    assert (row["change"] is None) == (share < 1)


@pytest.mark.parametrize(
    ("instant", "is_end", "edge"),
    [
        ("10:00:00", False, "10:00"),
        ("10:00:00", True, "10:00"),
        ("10:00:00.001", False, "10:00"),
        ("10:00:00.001", True, "10:01"),
        ("22:59:59.999", True, "23:00"),
        ("22:59:59", True, "23:00"),
    ],
)
async def test_a_range_is_widened_to_minutes(
    feed: Feed,
    instant: str,
    is_end: bool,  # noqa: FBT001 - a parameter of the test
    edge: str,
) -> None:
    """Grafana ends "yesterday" at 23:59:59.999, and a date picker at 23:59:59."""
    day = "2026-01-30T"
    found = await feed.pool.fetchval(
        "SELECT meter.report_edge($1, $2)",
        datetime.fromisoformat(day + instant).replace(tzinfo=UTC),
        is_end,
    )
    assert found == datetime.fromisoformat(day + edge).replace(tzinfo=UTC)


async def test_edges_are_those_of_what_is_kept(make_feed: MakeFeed) -> None:
    """Hours where minutes may be gone, days of the billing zone where hours may be gone."""
    kept = {"sample": 9, "poll": 9, "usage_1m": 20, "usage_1h": 40, "session": 50}
    feed = await make_feed(make_settings(retention=kept))
    now = datetime.now(UTC)

    async def edges(instant: datetime) -> tuple[datetime, datetime]:
        query = "SELECT meter.report_edge($1), meter.report_edge($1, TRUE)"
        ((lo, hi),) = await feed.pool.fetch(query, instant)
        return lo, hi

    for age, width in ((7, MINUTE), (10, HOUR)):
        instant = (now - age * DAY).replace(minute=31, second=7)
        lo, hi = await edges(instant)
        assert lo <= instant < hi == lo + width
        assert await edges(lo) == (lo, lo)
    instant = now - 41 * DAY
    lo, hi = await edges(instant)
    assert lo <= instant < hi
    assert (hi - lo) / HOUR in {23, 24, 25}
    assert await edges(lo) == (lo, lo)


async def test_session_minutes_mean_one_thing(feed: Feed) -> None:
    """The time that was seen or filled, in reports, lists and rooms; the length is another one."""
    begin = at("2026-03-02 10:00")
    run = Run("bbb1", "law", "a", begin, begin + HOUR, 4, created_at=begin - 17 * MINUTE)
    await feed.due(begin - DAY, bbb1=None)
    await feed.play(["bbb1"], feed.ticks(begin, begin + 2 * HOUR), [run])
    await feed.pool.execute("SELECT meter.update_sessions(120)")
    await feed.refresh()
    span = (begin - HOUR, begin + 2 * HOUR)
    wanted = (await report(feed, *span))["law"]
    assert wanted["session_minutes"] == 60
    (room,) = await by(feed, *span, "room")
    listed = await feed.pool.fetchrow("SELECT * FROM meter.session_list($1, $2)", *span)
    used = await feed.pool.fetchrow("SELECT * FROM meter.room_usage($1, $2)", *span)
    assert listed is not None
    assert used is not None
    for row in (room, listed, used):
        assert row["session_minutes"] == wanted["session_minutes"]
    assert listed["length_minutes"] == wanted["avg_session_minutes"] == pytest.approx(76.75)
