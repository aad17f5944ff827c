"""What was used: the functions in schema/current that cut time, add up and tell coverage."""

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from collector.errors import ReportError
from collector.report import FIGURES, Request, fetch_report
from tests.support.feed import Feed, MakeFeed, Run
from tests.support.settings import KEEP_ALL, make_settings

Figures = list[dict[str, Any]]

BERLIN = ZoneInfo("Europe/Berlin")
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
# Clocks go forward on 29 March and back on 25 October 2026.
SPRING, AUTUMN = date(2026, 3, 29), date(2026, 10, 25)


def at(text: str) -> datetime:
    """Return the instant of a UTC time such as `2026-03-02 10:00`."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def local(day: date, zone: ZoneInfo = BERLIN, hour: int = 0) -> datetime:
    """Return an hour of a day in `zone`, in UTC."""
    return datetime(day.year, day.month, day.day, hour, tzinfo=zone).astimezone(UTC)


async def report(feed: Feed, since: datetime, until: datetime) -> dict[str, dict[str, Any]]:
    """Return the report of all tenants, by name."""
    rows = await feed.pool.fetch("SELECT * FROM meter.tenant_report($1, $2)", since, until)
    return {row["tenant"]: dict(row) for row in rows}


async def usage(feed: Feed, since: datetime, until: datetime, per: str) -> Figures:
    """Return meter.tenant_usage."""
    query = "SELECT * FROM meter.tenant_usage($1, $2, $3)"
    return [dict(row) for row in await feed.pool.fetch(query, since, until, per)]


async def by(
    feed: Feed, since: datetime, until: datetime, group: str, server: str | None = None
) -> Figures:
    """Return meter.usage_by."""
    query = "SELECT * FROM meter.usage_by($1, $2, $3, $4)"
    return [dict(row) for row in await feed.pool.fetch(query, since, until, group, server)]


async def everything(feed: Feed, periods: list[tuple[datetime, datetime]]) -> list[Figures]:
    """Return all that is reported for `periods`, floats rounded: they add up in any order."""
    answers = []
    for since, until in periods:
        answers.append(await usage(feed, since, until, "day"))
        answers.append(await by(feed, since, until, "room"))
    return [[{k: rounded(v) for k, v in row.items()} for row in rows] for rows in answers]


def rounded(value: object) -> object:
    """Return a float with nine digits, all else as it is."""
    return float(f"{value:.9g}") if isinstance(value, float) else value


# The same figures, straight from the samples and sessions.
_RAW = """
WITH minutes AS (
    SELECT
        a.tenant_id, date_trunc('minute', a.ts) AS minute,
        sum(a.participants::integer * a.seconds) FILTER (WHERE NOT a.breakout) AS people,
        sum(a.voice::integer * a.seconds) FILTER (WHERE NOT a.breakout) AS voice,
        sum(a.video::integer * a.seconds) FILTER (WHERE NOT a.breakout) AS video,
        sum(a.dialins::integer * a.seconds) FILTER (WHERE NOT a.breakout) AS dialins,
        sum(a.seconds) FILTER (WHERE NOT a.breakout) AS sessions,
        sum(a.seconds) FILTER (WHERE a.filled AND NOT a.breakout) AS filled,
        sum(a.participants::integer * a.seconds) FILTER (WHERE a.breakout) AS breakouts,
        max(a.participants) FILTER (WHERE NOT a.breakout) AS largest
    FROM meter.sample AS a
    WHERE a.ts >= $1 AND a.ts < $2
    GROUP BY 1, 2
), used AS (
    SELECT
        m.tenant_id, sum(m.people) AS people, sum(m.voice) AS voice, sum(m.video) AS video,
        sum(m.dialins) AS dialins, sum(m.sessions) AS sessions, sum(m.filled) AS filled,
        sum(m.breakouts) AS breakouts, max(m.largest) AS largest, max(m.people) AS peak,
        (array_agg(m.minute ORDER BY m.people DESC NULLS LAST, m.minute))[1] AS peak_at,
        max(m.sessions) AS peak_sessions
    FROM minutes AS m
    GROUP BY m.tenant_id
), begun AS (
    SELECT s.tenant_id, count(*) AS sessions, max(s.duration_seconds) AS longest
    FROM meter.session AS s
    WHERE s.started_at >= $1 AND s.started_at < $2 AND NOT s.breakout
    GROUP BY s.tenant_id
)
SELECT
    t.name AS tenant,
    (coalesce(u.people, 0) / 60.0)::double precision AS participant_minutes,
    (coalesce(u.voice, 0) / 60.0)::double precision AS voice_minutes,
    (coalesce(u.video, 0) / 60.0)::double precision AS video_minutes,
    (coalesce(u.dialins, 0) / 60.0)::double precision AS dialin_minutes,
    coalesce(b.sessions, 0) AS sessions,
    (coalesce(u.sessions, 0) / 60.0)::double precision AS session_minutes,
    b.longest / 60 AS max_session_minutes,
    coalesce(u.largest, 0) AS max_session_size,
    (coalesce(u.peak, 0) / 60.0)::double precision AS peak_participants,
    CASE WHEN u.peak > 0 THEN u.peak_at END AS peak_participants_at,
    (coalesce(u.peak_sessions, 0) / 60.0)::double precision AS peak_sessions,
    (coalesce(u.breakouts, 0) / 60.0)::double precision AS breakout_minutes,
    coalesce(u.filled, 0)::double precision / nullif(u.sessions, 0) AS filled_share
FROM meter.tenant AS t
LEFT JOIN used AS u ON t.id = u.tenant_id
LEFT JOIN begun AS b ON t.id = b.tenant_id
ORDER BY t.name
"""


def invented_runs(since: datetime, until: datetime, count: int, dice: random.Random) -> list[Run]:
    """Return sessions at random times of [since, until), some of them breakouts, on two servers."""
    minutes = int((until - since) / MINUTE)
    runs = []
    for number in range(count):
        begin = since + dice.randrange(2 * minutes) * MINUTE / 2
        people = dice.randrange(120)
        runs.append(
            Run(
                server=dice.choice(("bbb1", "bbb2")),
                tenant=dice.choice(("arts", "law")),
                room=f"room{number % 7}",
                begin=begin,
                end=min(begin + dice.randrange(1, 300) * MINUTE / 2, until),
                participants=people,
                voice=people // 2,
                video=people // 3,
                listeners=people // 4,
                dialins=people // 20,
                breakout=dice.random() < 0.2,
                created_at=begin - timedelta(seconds=dice.randrange(30)),
            )
        )
    return runs


def sometimes(
    feed: Feed, since: datetime, until: datetime, share: float, dice: random.Random
) -> set[tuple[str, datetime]]:
    """Return a share of the polls of two servers, by chance."""
    return {
        (server, ts)
        for server in ("bbb1", "bbb2")
        for ts in feed.ticks(since, until)
        if dice.random() < share
    }


# -- cutting time ----------------------------------------------------------------------------------


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
        assert is_part(grains, widths), grains
        assert spans["minute"] < 2 * HOUR
        assert spans["hour"] < timedelta(hours=52)
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


# -- figures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", SPRING, 23),
        ("Europe/Berlin", AUTUMN, 25),
        ("Australia/Adelaide", date(2026, 4, 5), 25),
        ("Africa/Cairo", date(2026, 4, 24), 23),
    ],
)
async def test_figures_are_those_of_the_samples(
    make_feed: MakeFeed, zone: str, day: date, hours: int
) -> None:
    """Reports say the same as a plain query on samples and sessions, and parts add up to wholes.

    So for any full minutes, before and after rollups are refreshed, in part and in whole, and
    after all chunks have become columns.
    """
    feed = await make_feed(
        make_settings(billing_timezone=zone, poll_interval_s=60, retention=KEEP_ALL)
    )
    place, dice = ZoneInfo(zone), random.Random(zone)
    days = [local(day + timedelta(days=n), place) for n in (-1, 0, 1, 2)]
    begin, end = days[1] - 3 * HOUR, days[2] + 3 * HOUR
    assert (days[2] - days[1]) / HOUR == hours
    await feed.due(begin, bbb1=None, bbb2="law")
    failed = sometimes(feed, begin, end, 0.01, dice)
    runs = invented_runs(begin, end, 80, dice)
    await feed.play(("bbb1", "bbb2"), feed.ticks(begin, end), runs, failed=failed)
    await feed.pool.execute("SELECT meter.update_sessions(120)")
    await feed.due(end)

    minutes = int((days[3] - days[0]) / MINUTE)
    periods = [(days[0], days[3]), (days[1], days[2]), (days[1] - 90 * MINUTE, days[2] + HOUR)]
    for _ in range(2):
        one, other = sorted(dice.sample(range(minutes), 2))
        periods.append((days[0] + one * MINUTE, days[0] + other * MINUTE))
    for since, until in periods:
        expected = await feed.pool.fetch(_RAW, since, until)
        reported = await report(feed, since, until)
        assert len(expected) == 2
        for row in expected:
            said = reported[row["tenant"]]
            # Where no poll succeeded all figures are unknown; the samples know nothing of that.
            assert said["coverage"] or not row["session_minutes"]
            assert {k: rounded(said[k]) or 0 for k in row.keys()} == {  # noqa: SIM118
                k: rounded(v) or 0 for k, v in row.items()
            }, (since, until)

    total = await usage(feed, days[0], days[3], "total")
    for per, count in (("day", 3), ("month", None)):
        parts = await usage(feed, days[0], days[3], per)
        assert count in {None, len({part["period"] for part in parts})}
        for whole in total:
            own = [part for part in parts if part["tenant"] == whole["tenant"]]
            for figure in ADDITIVE:
                assert sum(part[figure] or 0 for part in own) == pytest.approx(whole[figure])
            for figure in ("peak_participants", "peak_sessions", "max_session_size"):
                assert max(part[figure] or 0 for part in own) == whole[figure]
    (middle,) = (
        row
        for row in await usage(feed, days[0], days[3], "day")
        if row["period"] == days[1] and row["tenant"] == "law"
    )
    raw = {row["tenant"]: row for row in await feed.pool.fetch(_RAW, days[1], days[2])}
    assert middle["participant_minutes"] == raw["law"]["participant_minutes"] > 0

    sight = [periods[0], periods[3]]
    before = await everything(feed, sight)
    await feed.refresh(days[1] + 8 * HOUR)
    assert await everything(feed, sight) == before
    await feed.refresh()
    assert await everything(feed, sight) == before
    assert await feed.columnize() > 5
    assert await everything(feed, sight) == before


ADDITIVE = (
    "participant_minutes",
    "voice_minutes",
    "video_minutes",
    "dialin_minutes",
    "sessions",
    "session_minutes",
    "large_sessions",
    "breakout_minutes",
)


async def test_a_peak_is_of_all_servers_at_once(feed: Feed) -> None:
    """A tenant's peak is the highest mean of a minute of its sum, not a sum or maximum of peaks."""
    t = at("2026-03-02 10:00")
    await feed.due(t, bbb1=None, bbb2=None)

    def run(server: str, begin: int, end: int, people: int) -> Run:
        return Run(server, "arts", f"r{begin}", t + begin * MINUTE, t + end * MINUTE, people)

    runs = [
        run("bbb1", 0, 1, 10),  # the peak of bbb1 alone
        run("bbb2", 5, 6, 10),  # the peak of bbb2 alone
        run("bbb1", 10, 12, 7),
        run("bbb2", 11, 12, 7),  # 14 at once, at 10:11
    ]
    await feed.play(("bbb1", "bbb2"), feed.ticks(t, t + HOUR), runs)
    for since, until in ((t, t + HOUR), (t, t + 59 * MINUTE), (at("2026-03-01"), at("2026-03-04"))):
        figures = (await report(feed, since, until))["arts"]
        assert figures["peak_participants"] == 14
        assert figures["peak_participants_at"] == t + 11 * MINUTE
        assert figures["peak_sessions"] == 2
        assert figures["max_session_size"] == 10
    peaks = {r["server"]: r["peak_participants"] for r in await by(feed, t, t + HOUR, "server")}
    assert peaks == {"bbb1": 10, "bbb2": 10}


async def test_a_peak_is_a_mean_of_a_minute(feed: Feed) -> None:
    """Twenty people for half a minute are ten; the earliest of equal minutes is the peak's."""
    t = at("2026-03-02 10:00")
    await feed.due(t, bbb1=None)
    runs = [
        Run("bbb1", "arts", "half", t + 5 * MINUTE, t + 5.5 * MINUTE, 20),
        Run("bbb1", "arts", "whole", t + 9 * MINUTE, t + 10 * MINUTE, 10),
        Run("bbb1", "arts", "next day", t + 24 * HOUR, t + 24 * HOUR + MINUTE, 10),
    ]
    await feed.play(["bbb1"], feed.ticks(t, t + 25 * HOUR), runs)
    for since, until in (
        (t, t + HOUR),
        (t, t + 10 * MINUTE),
        (at("2026-03-01 23:00"), at("2026-03-03 23:00")),
    ):
        figures = (await report(feed, since, until))["arts"]
        assert figures["peak_participants"] == 10
        assert figures["peak_participants_at"] == t + 5 * MINUTE
        (group,) = await by(feed, since, until, "tenant")
        assert group["peak_participants"] == 10
        assert group["peak_participants_at"] == t + 5 * MINUTE
    later = (await report(feed, t + 6 * MINUTE, t + 25 * HOUR))["arts"]
    assert later["peak_participants_at"] == t + 9 * MINUTE


async def test_breakouts_are_left_out_and_shown(feed: Feed) -> None:
    """A breakout's users are in their parent's figures already, and in breakout_minutes apart."""
    t = at("2026-03-02 10:00")
    await feed.due(t, bbb1=None)
    runs = [
        Run("bbb1", "arts", "main", t, t + 10 * MINUTE, 8, voice=3, video=2),
        Run("bbb1", "arts", "main", t, t + 10 * MINUTE, 30, voice=5, video=5, breakout=True),
    ]
    await feed.play(["bbb1"], feed.ticks(t, t + HOUR), runs)
    await feed.pool.execute("SELECT meter.update_sessions(120)")
    figures = (await report(feed, t, t + HOUR))["arts"]
    (room,) = await by(feed, t, t + HOUR, "room")
    for row in (figures, room):
        assert row["participant_minutes"] == 80
        assert (row["voice_minutes"], row["video_minutes"]) == (30, 20)
        assert row["breakout_minutes"] == 300
        assert (row["sessions"], row["session_minutes"]) == (1, 10)
        assert (row["peak_participants"], row["peak_sessions"]) == (8, 1)
        assert (row["max_session_size"], row["avg_session_size"]) == (8, 8)
    hours = await feed.pool.fetch("SELECT breakout FROM meter.session_1h ORDER BY breakout")
    assert [row["breakout"] for row in hours] == [False, True]


async def test_large_sessions_have_more_than_the_settings_say(make_feed: MakeFeed) -> None:
    """A session with exactly large_session_participants is not large, one with one more is."""
    feed = await make_feed(make_settings(large_session_participants=5, retention=KEEP_ALL))
    t = at("2026-03-02 10:00")
    await feed.due(t, bbb1=None)
    runs = [Run("bbb1", "arts", f"r{people}", t, t + 10 * MINUTE, people) for people in (4, 5, 6)]
    await feed.play(["bbb1"], feed.ticks(t, t + HOUR), runs)
    await feed.pool.execute("SELECT meter.update_sessions(120)")
    whole_day = (at("2026-03-01 23:00"), at("2026-03-02 23:00"))
    for since, until in ((t, t + HOUR), whole_day):
        assert (await report(feed, since, until))["arts"]["large_sessions"] == 1
        (group,) = await by(feed, since, until, "tenant")
        assert group["large_sessions"] == 1


# -- by tenant, server and room --------------------------------------------------------------------


async def test_usage_by_room_and_server(feed: Feed) -> None:
    """Groups are the tenant's rooms or servers, and add up; `on_server` leaves the others out."""
    t = at("2026-03-02 10:00")
    await feed.due(t, bbb1=None, bbb2=None)
    runs = [
        Run("bbb1", "arts", "studio", t, t + 10 * MINUTE, 4),
        Run("bbb2", "arts", "studio", t + 20 * MINUTE, t + 30 * MINUTE, 6),
        Run("bbb2", "arts", "stage", t, t + 10 * MINUTE, 5),
        Run("bbb2", "law", "studio", t, t + 10 * MINUTE, 9),
    ]
    await feed.play(
        ("bbb1", "bbb2"), feed.ticks(t, t + HOUR), runs, failed={("bbb1", t + 40 * MINUTE)}
    )
    await feed.pool.execute("SELECT meter.update_sessions(120)")
    await feed.due(t + HOUR)

    async def groups(group: str, server: str | None = None) -> dict[tuple[Any, ...], float]:
        rows = await by(feed, t, t + HOUR, group, server)
        return {(r["tenant"], r["server"], r["room"]): r["participant_minutes"] for r in rows}

    assert await groups("room") == {
        ("arts", None, "studio"): 100,
        ("arts", None, "stage"): 50,
        ("law", None, "studio"): 90,
    }
    assert await groups("server") == {
        ("arts", "bbb1", None): 40,
        ("arts", "bbb2", None): 110,
        ("law", "bbb2", None): 90,
    }
    assert await groups("tenant") == {("arts", None, None): 150, ("law", None, None): 90}
    assert await groups("room", "bbb1") == {("arts", None, "studio"): 40}
    assert await groups("tenant", "bbb2") == {("arts", None, None): 110, ("law", None, None): 90}
    assert await groups("tenant", "bbb9") == {}
    coverage = {
        (r["tenant"], r["server"]): r["coverage"] for r in await by(feed, t, t + HOUR, "server")
    }
    assert coverage == {
        ("arts", "bbb1"): pytest.approx(119 / 120),
        ("arts", "bbb2"): 1,
        ("law", "bbb2"): 1,
    }
    (studio,) = await by(feed, t, t + HOUR, "room", "bbb1")
    assert studio["coverage"] == pytest.approx(119 / 120)
    (_, studio, _) = await by(feed, t, t + HOUR, "room")
    assert studio["coverage"] == pytest.approx(239 / 240)
    with pytest.raises(asyncpg.InvalidParameterValueError, match="not by planet"):
        await by(feed, t, t + HOUR, "planet")


async def test_usage_by_adds_up_to_the_report(feed: Feed) -> None:
    """Groups have the report's sum, also where sessions lie on the edges of the period.

    That is one that began before midnight and was first seen after it, one whose tenant changed
    while it ran, and one without a room.
    """
    midnight = local(date(2026, 3, 3))
    begin, end = midnight - 2 * HOUR, midnight + 2 * HOUR
    await feed.due(begin, bbb1=None)
    late = Run(
        "bbb1",
        "arts",
        "late",
        midnight,
        midnight + 9 * MINUTE,
        3,
        created_at=midnight - timedelta(seconds=10),
    )
    moved = Run("bbb1", "arts", "moved", midnight - HOUR, midnight + HOUR, 10)
    lost = Run("bbb1", "arts", None, midnight - HOUR, midnight - HOUR / 2, 4)
    await feed.play(["bbb1"], feed.ticks(begin, midnight), [late, moved, lost])
    # Settings were changed meanwhile, and the collector was away for too long to remember.
    moved_on = Run("bbb1", "law", "moved", moved.begin, moved.end, 10)
    await feed.play(["bbb1"], feed.ticks(midnight, end), [late, moved_on])
    await feed.pool.execute("SELECT meter.update_sessions(120)")
    await feed.due(end)
    for since, until in ((begin, midnight), (midnight, end), (begin, end)):
        expected = {
            tenant: [row[figure] for figure in ADDITIVE]
            for tenant, row in (await report(feed, since, until)).items()
        }
        for group in ("tenant", "server", "room"):
            said = {tenant: [0.0] * len(ADDITIVE) for tenant in expected}
            for row in await by(feed, since, until, group):
                own = said[row["tenant"]]
                said[row["tenant"]] = [
                    old + row[figure] for old, figure in zip(own, ADDITIVE, strict=True)
                ]
            assert said == expected, (group, since, until)
    (first, *_) = await by(feed, begin, midnight, "room")
    assert (first["room"], first["sessions"], first["participant_minutes"]) == ("late", 1, 0)


# -- coverage --------------------------------------------------------------------------------------


async def test_coverage_counts_failed_and_missing_polls(feed: Feed) -> None:
    """A server that fails and a collector that is down are holes alike; filling hides neither."""
    t = at("2026-03-02 10:00")
    await feed.due(t, bbb1=None)
    failed = {("bbb1", ts) for ts in feed.ticks(t, t + 6 * MINUTE)}
    missed = {("bbb1", ts) for ts in feed.ticks(t + 30 * MINUTE, t + 42 * MINUTE)}
    steady = Run("bbb1", "arts", "r", t, t + HOUR, 2)
    batch = feed.batch(["bbb1"], feed.ticks(t, t + HOUR), [steady], failed=failed, missed=missed)
    batch.samples += [
        feed.sample(steady, ts, poll_ts=t + 42 * MINUTE)
        for ts in feed.ticks(t + 40 * MINUTE, t + 42 * MINUTE)
    ]
    await feed.writer.write(batch)
    await feed.due(t + HOUR)
    figures = (await report(feed, t, t + HOUR))["arts"]
    assert figures["coverage"] == pytest.approx(42 / 60)
    assert figures["participant_minutes"] == 2 * 44
    assert figures["filled_share"] == pytest.approx(2 / 44)
    (server,) = await feed.pool.fetch("SELECT * FROM meter.server_coverage($1, $2)", t, t + HOUR)
    assert (server["due_seconds"], server["covered_seconds"]) == (3600, 42 * 60)


async def test_coverage_begins_and_ends_with_a_server(feed: Feed) -> None:
    """No poll is due before a server is there or when it has gone, and again when it is back."""
    t = at("2026-03-02 10:00")
    await feed.due(t, bbb1=None)
    await feed.due(t + 30 * MINUTE, bbb1=None, bbb2=None)
    await feed.due(t + 40 * MINUTE, bbb2=None)
    await feed.due(t + 50 * MINUTE, bbb1=None, bbb2=None)
    await feed.play(["bbb1"], feed.ticks(t, t + 40 * MINUTE))
    await feed.play(["bbb1"], feed.ticks(t + 50 * MINUTE, t + 55 * MINUTE))
    await feed.play(["bbb2"], feed.ticks(t + 30 * MINUTE, t + HOUR))
    await feed.due(t + HOUR)
    query = "SELECT * FROM meter.server_coverage($1, $2)"
    rows = {row["server"]: row for row in await feed.pool.fetch(query, t, t + 2 * HOUR)}
    assert (rows["bbb1"]["due_seconds"], rows["bbb1"]["coverage"]) == (50 * 60, 45 / 50)
    assert (rows["bbb2"]["due_seconds"], rows["bbb2"]["coverage"]) == (30 * 60, 1)
    assert await feed.pool.fetch(query, t - HOUR, t) == []
    (one,) = await feed.pool.fetch(query, t + 40 * MINUTE, t + 50 * MINUTE)
    assert one["server"] == "bbb2"


async def test_a_server_that_is_back_at_the_same_tick_is_due(feed: Feed) -> None:
    """Taking a server out and putting it back within one tick leaves it due all along."""
    t = at("2026-03-02 10:00")
    for tick in (t, t + HOUR):
        await feed.due(tick, bbb1=None)
        await feed.due(tick)
        await feed.due(tick, bbb1=None)
    spans = await feed.pool.fetch("SELECT since, until FROM meter.server_due")
    assert [tuple(span) for span in spans] == [(t, None)]


async def test_coverage_of_a_tenant_is_that_of_its_servers(feed: Feed) -> None:
    """Shared servers count for who has no server, and for who has one but was on a shared one."""
    t = at("2026-03-02 10:00")
    await feed.due(t, shared1=None, shared2=None, own="arts", theirs="law")
    failed = {("shared1", ts) for ts in feed.ticks(t, t + 30 * MINUTE)}
    failed |= {("own", ts) for ts in feed.ticks(t, t + 15 * MINUTE)}
    runs = [
        Run("shared2", "law", "r", t, t + MINUTE),
        Run("shared2", "music", "r", t, t + MINUTE),
    ]
    servers = ("shared1", "shared2", "own", "theirs")
    await feed.play(servers, feed.ticks(t, t + HOUR), runs, failed=failed)
    await feed.due(t + HOUR)
    figures = await report(feed, t, t + HOUR)
    assert {tenant: row["coverage"] for tenant, row in figures.items()} == {
        "arts": pytest.approx(0.75),
        "law": pytest.approx((0.5 + 1 + 1) / 3),
        "music": pytest.approx((0.5 + 1) / 2),
    }


async def test_unknown_is_not_zero(feed: Feed) -> None:
    """Figures are NULL where no poll of the tenant's servers succeeded, and 0 where one did."""
    t = at("2026-03-02 10:00")
    await feed.due(t, dead="arts", idle="law")
    failed = {("dead", ts) for ts in feed.ticks(t, t + HOUR)}
    await feed.play(("dead", "idle"), feed.ticks(t, t + HOUR), failed=failed)
    await feed.due(t + HOUR)
    names = {name for name, _, _ in FIGURES}
    figures = await report(feed, t, t + HOUR)
    assert {k for k in names if figures["arts"][k] is not None} == {"coverage"}
    assert figures["arts"]["coverage"] == 0
    nothing_to_tell = {
        "avg_session_minutes",
        "max_session_minutes",
        "avg_session_size",
        "peak_participants_at",
        "filled_share",
    }
    assert {k for k in names if figures["law"][k] is None} == nothing_to_tell
    assert figures["law"]["coverage"] == 1
    assert all(figures["law"][k] == 0 for k in names - nothing_to_tell - {"coverage"})
    before = await report(feed, t - HOUR, t)
    assert all(row[k] is None for row in before.values() for k in names)
    days = await usage(feed, t - 24 * HOUR, t + HOUR, "day")
    assert [row["participant_minutes"] for row in days if row["tenant"] == "law"] == [None, 0]


async def test_a_report_can_end_in_the_future(feed: Feed) -> None:
    """What is still to come is neither due nor counted."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    begin = now - 30 * MINUTE
    await feed.due(begin, bbb1=None)
    # Some more than has passed, so that the test may take its time.
    run = Run("bbb1", "arts", "r", begin, begin + 10 * MINUTE, 3)
    await feed.play(["bbb1"], feed.ticks(begin, now + 10 * MINUTE), [run])
    for until in (now + 20 * MINUTE, now + timedelta(days=40)):
        for figures in (
            (await report(feed, begin, until))["arts"],
            (await by(feed, begin, until, "tenant"))[0],
        ):
            assert figures["coverage"] == 1
            assert figures["participant_minutes"] == 30
    ahead = await report(feed, now + timedelta(days=1), now + timedelta(days=2))
    assert ahead["arts"]["coverage"] is None
    assert ahead["arts"]["participant_minutes"] is None


# -- what is no longer kept ------------------------------------------------------------------------


async def test_a_period_is_refused_when_its_edges_are_gone(make_feed: MakeFeed) -> None:
    """Whole days are answered from what is kept for ever; edges that are gone are an error."""
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
