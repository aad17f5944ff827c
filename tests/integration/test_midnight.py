"""Edges of days and months are one instant everywhere, also where midnight occurs twice or never.

If midnight occurs twice, a day begins at the second one.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, available_timezones

import asyncpg
import pytest

from collector.reports.usage import Request, fetch_report, local_instant, month_begin
from tests.support.feed import Feed, MakeFeed, Run
from tests.support.reports import HOUR, MINUTE
from tests.support.settings import KEEP_ALL, make_settings

FIRST, LAST = date(2020, 1, 1), date(2030, 12, 31)
DAY = timedelta(days=1)


def transitions(zone: ZoneInfo) -> Iterator[datetime]:
    """Yield the hours in which the clocks of `zone` change, in UTC."""
    at = datetime(FIRST.year, 1, 1, tzinfo=UTC)
    end = datetime(LAST.year, 12, 31, tzinfo=UTC)
    offset = at.astimezone(zone).utcoffset()
    while at < end:
        later = (at + DAY).astimezone(zone).utcoffset()
        if later != offset:
            for hour in range(25):
                if (at + hour * HOUR).astimezone(zone).utcoffset() == later:
                    yield at + hour * HOUR
                    break
        at, offset = at + DAY, later


def midnights(zone: ZoneInfo) -> Iterator[date]:
    """Yield the first of each month, and the days around each change of the clocks."""
    for year in range(FIRST.year, LAST.year + 1):
        for month in range(1, 13):
            yield date(year, month, 1)
    for change in transitions(zone):
        local = change.astimezone(zone).date()
        yield from (local - DAY, local, local + DAY)


async def same_clocks(pool: asyncpg.Pool, days: list[tuple[str, date]]) -> set[str]:
    """Return the zones whose clocks are the same in Python's and PostgreSQL's time zone data."""
    at = [
        (name, datetime(day.year, day.month, day.day, tzinfo=UTC) + hours * HOUR)
        for name, day in days
        for hours in (-24, 0, 24)
    ]
    rows = await pool.fetch(
        "SELECT x.at AT TIME ZONE x.zone AS local "
        "FROM unnest($1::text[], $2::timestamptz[]) WITH ORDINALITY AS x (zone, at, n) "
        "ORDER BY x.n",
        [name for name, _ in at],
        [instant for _, instant in at],
    )
    other = {
        name
        for (name, instant), row in zip(at, rows, strict=True)
        if instant.astimezone(ZoneInfo(name)).replace(tzinfo=None) != row["local"]
    }
    return {name for name, _ in days} - other


async def test_python_and_sql_agree_on_every_midnight(pool: asyncpg.Pool) -> None:
    """In all zones, 2020 to 2030: a day begins at one instant, and each instant is in one day."""
    known = {row["name"] for row in await pool.fetch("SELECT name FROM pg_timezone_names")}
    days = [
        (name, day)
        for name in sorted(available_timezones() & known)
        for day in sorted(set(midnights(ZoneInfo(name))))
    ]
    zones = await same_clocks(pool, days)
    assert len(zones) > 400
    assert {"America/Havana", "Africa/Cairo", "Atlantic/Azores", "Europe/Dublin"} <= zones
    days = [(name, day) for name, day in days if name in zones]
    begins = [local_instant(datetime.combine(day, time.min), ZoneInfo(name)) for name, day in days]
    rows = await pool.fetch(
        """
        SELECT d.zone, d.day, d.begin, x.instant, x.day_before, x.bucket
        FROM unnest($1::text[], $2::date[], $3::timestamptz[]) AS d (zone, day, begin)
        CROSS JOIN LATERAL (
            SELECT
                d.begin - make_interval(mins => m) AS instant,
                meter.trunc_in('day', d.begin - make_interval(mins => m), d.zone) AS day_before,
                public.time_bucket('1 day', d.begin - make_interval(mins => m), d.zone) AS bucket
            FROM unnest(ARRAY[1, 15, 59, 60, 61, 121]) AS m
        ) AS x
        WHERE NOT (
            d.day::timestamp AT TIME ZONE d.zone = d.begin
            AND meter.trunc_in('day', d.begin, d.zone) = d.begin
            AND meter.trunc_in('month', d.begin, d.zone) <= d.begin
            AND x.day_before < d.begin AND x.day_before >= d.begin - interval '27 hours'
            -- A rollup by day has each instant in the day that it belongs to. If midnight occurs
            -- twice, TimescaleDB before 2.29 has it in the next day, and meter.day_tiles sees that.
            AND (
                meter.trunc_in('day', x.bucket, d.zone) = x.day_before
                OR (
                    x.bucket = d.begin
                    AND public.time_bucket('1 day', d.begin - interval '1 minute', d.zone)
                    = d.begin
                )
            )
        )
        ORDER BY d.zone, d.day
        """,
        [name for name, _ in days],
        [day for _, day in days],
        begins,
    )
    assert [tuple(row) for row in rows[:10]] == []


def test_the_month_of_an_instant() -> None:
    """The default period begins with the month; the first of two midnights is in the last one."""
    havana = ZoneInfo("America/Havana")
    begin = datetime(2026, 11, 1, 5, tzinfo=UTC)
    assert month_begin(begin, havana) == begin
    assert month_begin(begin + 20 * DAY, havana) == begin
    assert month_begin(begin - MINUTE, havana) == datetime(2026, 10, 1, 4, tzinfo=UTC)


# The zone, the day whose midnight is special, and in which instant it begins.
EDGES = [
    ("America/Havana", date(2026, 11, 1), datetime(2026, 11, 1, 5, tzinfo=UTC)),  # twice
    ("America/Havana", date(2026, 3, 8), datetime(2026, 3, 8, 5, tzinfo=UTC)),  # never
    ("Africa/Cairo", date(2026, 10, 30), datetime(2026, 10, 29, 22, tzinfo=UTC)),  # 23:00 twice
]


@pytest.fixture
async def edged(make_feed: MakeFeed, request: pytest.FixtureRequest) -> Feed:
    """Four days around a special midnight, with one participant all the time."""
    zone, _, begin = request.param
    feed = await make_feed(make_settings(billing_timezone=zone, retention=KEEP_ALL))
    feed.interval_s = 60
    assert begin + 3 * DAY < datetime.now(UTC)  # steps that are not over have no row
    since, until = begin - 2 * DAY, begin + 2 * DAY
    await feed.due(since, bbb1=None)
    await feed.play(["bbb1"], feed.ticks(since, until), [Run("bbb1", "arts", "r", since, until)])
    await feed.due(until)
    return feed


@pytest.mark.parametrize(("edged", "edge"), [(e, e) for e in EDGES], indirect=["edged"])
async def test_every_surface_has_the_same_edge(
    edged: Feed, edge: tuple[str, date, datetime]
) -> None:
    """Dates of a report, days, months, steps of charts and the month to date: one instant."""
    name, day, begin = edge
    zone = ZoneInfo(name)
    assert local_instant(datetime.combine(day, time.min), zone) == begin
    since, until = begin - 2 * DAY, begin + 2 * DAY
    for refreshed in (False, True):
        if refreshed:
            await edged.refresh()
        async with edged.pool.acquire() as connection:
            before, after = [
                (await fetch_report(connection, Request(*period)))[0]
                for period in ((since, begin), (begin, until))
            ]
            days = await fetch_report(connection, Request(since, until, by="day"))
            months = await fetch_report(connection, Request(since, until, by="month"))
        assert (before["participant_minutes"], after["participant_minutes"]) == (2880, 2880)
        assert (before["coverage"], after["coverage"]) == (1, 1)
        assert sum(row["participant_minutes"] for row in days) == 5760
        lengths = {row["day"]: row["participant_minutes"] for row in days}
        # The days before the edge and after it, each with its own minutes.
        assert sum(m for at, m in lengths.items() if at < begin) == 2880
        assert {row["coverage"] for row in days} == {1}
        if day.day == 1:
            assert [row["participant_minutes"] for row in months] == [2880, 2880]
            assert months[1]["month"] == begin
        (month,) = await edged.pool.fetch(
            "SELECT * FROM meter.month_to_date($1)", begin + 30 * HOUR
        )
        assert month["participant_minutes"] == (1800 if day.day == 1 else 2880 + 1800)
        steps = await edged.pool.fetch("SELECT * FROM meter.steps($1, $2, '1 day')", since, until)
        ends = [step["hi"] for step in steps]
        assert begin in {step["ts"] for step in steps}
        assert begin in ends
        assert [step["ts"] for step in steps[1:]] == ends[:-1]
        # The older TimescaleDB of the embedded engine begins a day at the first midnight.
        bucket = "SELECT public.time_bucket('1 day', $1::timestamptz, $2)"
        first = await edged.pool.fetchval(bucket, begin - MINUTE, name) == begin
        for chart in ("usage_steps", "fleet_steps"):
            shown = await edged.pool.fetch(
                f"SELECT ts, participant_seconds FROM meter.{chart}($1, $2, '1 day')",  # noqa: S608
                since,
                until,
            )
            seconds = {row["ts"]: row["participant_seconds"] for row in shown}
            assert seconds.keys() == {step["ts"] for step in steps}, chart
            assert sum(seconds.values()) == 4 * 86_400, chart
            before_s = sum(s for at, s in seconds.items() if at < begin)
            assert before_s == 2 * 86_400 - (3600 if first else 0), chart


@pytest.mark.parametrize("edged", EDGES[:1], indirect=True)
async def test_a_period_can_begin_between_two_midnights(edged: Feed) -> None:
    """The minutes between the two midnights count once, for the day and month before."""
    _, _, begin = EDGES[0]
    for refreshed in (False, True):
        if refreshed:
            await edged.refresh()
        for since, until in (
            (begin - 30 * MINUTE, begin + 3 * HOUR),
            (begin - 3 * HOUR, begin - 30 * MINUTE),
            (begin - 50 * HOUR + 2 * HOUR, begin - HOUR),
        ):
            minutes = (until - since) / MINUTE
            for per in ("total", "day", "month"):
                rows = await edged.pool.fetch(
                    "SELECT * FROM meter.tenant_usage($1, $2, $3)", since, until, per
                )
                assert sum(row["participant_minutes"] for row in rows) == minutes, (since, per)
                assert all(row["coverage"] == 1 for row in rows)
            months = await edged.pool.fetch(
                "SELECT * FROM meter.tenant_usage($1, $2, 'month')", since, until
            )
            assert months[0]["participant_minutes"] == min(minutes, (begin - since) / MINUTE)
