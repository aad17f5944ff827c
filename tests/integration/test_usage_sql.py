"""What was used: reports say the same as the samples, peaks and sizes included."""

import random
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tests.support.feed import Feed, MakeFeed, Run
from tests.support.reports import (
    ADDITIVE,
    AUTUMN,
    HOUR,
    MINUTE,
    SPRING,
    Figures,
    at,
    by,
    local,
    report,
    usage,
)
from tests.support.settings import KEEP_ALL, make_settings


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
