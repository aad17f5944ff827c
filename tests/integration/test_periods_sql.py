"""How SQL cuts time: tiles of days, hours and minutes, and the periods of the billing time zone."""

import random
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from tests.support.feed import Feed, MakeFeed
from tests.support.reports import AUTUMN, HOUR, MINUTE, SPRING, at, local
from tests.support.settings import make_settings


@pytest.mark.parametrize(
    "zone",
    [
        "Europe/Berlin",
        "Asia/Kolkata",  # 5:30
        "Australia/Adelaide",  # 9:30 and 10:30: one half hour comes twice
        "Asia/Kathmandu",  # 5:45
        "Africa/Cairo",  # clocks go forward at midnight: a day begins at 01:00
        "Atlantic/Azores",  # midnight comes twice, or not at all
    ],
)
async def test_tiles_cover_every_period_exactly(make_feed: MakeFeed, zone: str) -> None:
    """Tiles have no hole and no overlap, with days in the middle, then hours, then minutes."""
    feed = await make_feed(make_settings(billing_timezone=zone))
    dice = random.Random(zone)
    edges = []
    for day in (SPRING, AUTUMN, date(2026, 4, 5), date(2026, 4, 24), date(2026, 10, 29)):
        begin = local(day, ZoneInfo(zone))
        edges += [begin, begin + HOUR, begin - HOUR, begin + 24 * HOUR]
        edges += [begin + dice.randrange(-3000, 3000) * MINUTE for _ in range(30)]
    periods = [sorted(dice.sample(edges, 2)) for _ in range(400)]
    periods += [sorted((edge, edge + dice.randrange(200) * MINUTE)) for edge in edges]
    rows = await feed.pool.fetch(
        """
        SELECT p.n, t.grain, t.lo, t.hi, meter.billing_trunc('day', t.lo) AS day
        FROM unnest($1::timestamptz[], $2::timestamptz[]) WITH ORDINALITY AS p (since, until, n)
        CROSS JOIN LATERAL meter.tiles(p.since, p.until) AS t
        ORDER BY p.n, t.lo
        """,
        [since for since, _ in periods],
        [until for _, until in periods],
    )
    tiles: dict[int, list[asyncpg.Record]] = {n: [] for n in range(1, len(periods) + 1)}
    for row in rows:
        tiles[row["n"]].append(row)
    widths = ("minute", "hour", "day", "hour", "minute")
    for (since, until), pieces in zip(periods, tiles.values(), strict=True):
        edge = since
        for piece in pieces:
            assert piece["lo"] == edge < piece["hi"], (since, until, pieces)
            edge = piece["hi"]
        assert edge == until, (since, until, pieces)
        grains = [piece["grain"] for piece in pieces]
        spans = {
            g: sum((p["hi"] - p["lo"] for p in pieces if p["grain"] == g), timedelta())
            for g in widths
        }
        if zone != "Atlantic/Azores":  # see meter.day_tiles
            assert is_part(grains, widths), grains
        assert spans["minute"] < 2 * HOUR
        assert spans["hour"] < timedelta(hours=80)
        assert all(piece["day"] == piece["lo"] for piece in pieces if piece["grain"] == "day")


def is_part(part: list[str], whole: tuple[str, ...]) -> bool:
    """Say whether `part` is `whole` with some left out."""
    rest = iter(whole)
    return all(item in rest for item in part)


@pytest.mark.parametrize(
    ("since", "until", "said"),
    [
        (at("2026-03-02"), at("2026-03-01"), "before it begins"),
        (at("2026-03-02 10:00:30"), at("2026-03-03"), "full minute"),
        (at("2026-03-02"), at("2026-03-03") + timedelta(microseconds=1), "full minute"),
        (None, at("2026-03-03"), "must not end"),
    ],
)
async def test_tiles_refuse_what_is_no_period(
    feed: Feed, since: datetime | None, until: datetime, said: str
) -> None:
    """A period that ends before it begins, or not on full minutes, is an error that says so."""
    with pytest.raises(asyncpg.InvalidParameterValueError, match=said):
        await feed.pool.fetch("SELECT * FROM meter.tiles($1, $2)", since, until)


async def test_periods_are_local_days_and_months(feed: Feed) -> None:
    """Days have 23 and 25 hours when clocks change; the first and the last period are cut."""

    async def periods(since: datetime, until: datetime, per: str) -> list[asyncpg.Record]:
        return await feed.pool.fetch("SELECT * FROM meter.periods($1, $2, $3)", since, until, per)

    days = await periods(local(date(2026, 3, 28)), local(date(2026, 3, 31)), "day")
    assert [(day["hi"] - day["lo"]) / HOUR for day in days] == [24, 23, 24]
    assert [day["period"] for day in days] == [day["lo"] for day in days]
    days = await periods(local(date(2026, 10, 24)), local(date(2026, 10, 27)), "day")
    assert [(day["hi"] - day["lo"]) / HOUR for day in days] == [24, 25, 24]

    months = await periods(local(date(2026, 2, 10)), local(date(2026, 4, 2), hour=5), "month")
    assert [tuple(month) for month in months] == [
        (local(date(2026, 2, 1)), local(date(2026, 2, 10)), local(date(2026, 3, 1))),
        (local(date(2026, 3, 1)), local(date(2026, 3, 1)), local(date(2026, 4, 1))),
        (local(date(2026, 4, 1)), local(date(2026, 4, 1)), local(date(2026, 4, 2), hour=5)),
    ]
    since, until = at("2026-03-02 10:00"), at("2026-03-02 10:01")
    assert [tuple(row) for row in await periods(since, until, "total")] == [(since, since, until)]
    for per in ("day", "month", "total"):
        assert await periods(since, since, per) == []
    with pytest.raises(asyncpg.InvalidParameterValueError, match="not per week"):
        await periods(since, until, "week")
