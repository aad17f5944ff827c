"""The figures beside the truth: hours of a simulated fleet on a virtual clock, down to the report.

Plan and failures come from fixed seeds, so a run always gives the same figures. The volumes are
such that other seeds pass as well: with polls every 10 s no tenant of five other plans was off by
more than 0.06 % in its minutes and 0.3 % in its peak.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from collector.simulator import Fleet, FleetPlan, SimTenant
from tests.support.feed import MakeFeed
from tests.support.rehearsal import Rehearsal, rehearse, settings_for
from tests.support.settings import make_settings

# The night, so that a day of the billing time zone ends in it.
START = datetime(2026, 3, 2, 21, tzinfo=UTC)
HOURS = timedelta(hours=3)
TENANTS = (
    SimTenant("acme", "bbblb"),
    SimTenant("law", "moodle"),
    SimTenant("music", "prefix"),
)


async def run(
    pool: asyncpg.Pool,
    interval_s: int,
    views: dict[str, tuple[str, ...]] | None = None,
    **faults: Any,  # noqa: ANN401 - of rehearse
) -> Rehearsal:
    """Meter six servers with 60 sessions at a time, polled every `interval_s` seconds.

    There is no lecture of hundreds: all leave it within seconds, and what that does to the peak
    minute is a matter of where the ticks fall, not of the collector.
    """
    plan = FleetPlan(
        seed=1,
        start=START,
        end=START + HOURS,
        tenants=TENANTS,
        servers=6,
        concurrent_sessions=60,
        mean_size=25,
        large_share=0,
        huge_share=0,
        breakout_share=0.1,
    )
    fleet = Fleet(plan)
    settings = settings_for(fleet, *(views or ()), poll_interval_s=interval_s)
    return await rehearse(pool, settings, fleet, views=views, **faults)


def require_near_the_truth(done: Rehearsal, tolerance: float) -> None:
    """Minutes of participants, voice and sessions, and peaks, are so near; BBBLB's are less so."""
    assert done.report.keys() == done.truth.tenants.keys()
    for name, true in done.truth.tenants.items():
        row = done.report[name]
        for key, true_s in (
            ("participant_minutes", true.participant_seconds),
            ("voice_minutes", true.voice_seconds),
            ("session_minutes", true.session_seconds),
        ):
            assert row[key] * 60 == pytest.approx(true_s, rel=tolerance), (name, key)
        assert row["peak_participants"] == pytest.approx(true.peak_participants, rel=0.01), name
        assert row["peak_sessions"] == pytest.approx(true.peak_sessions, rel=0.01), name
        off = abs(row["participant_minutes"] * 60 / true.participant_seconds - 1)
        bbblb = done.bbblb[name]["participant_minutes"] * 60 / true.participant_seconds - 1
        # It loses an interval a session.
        assert bbblb < -off, name


async def test_every_poll_answered(pool: asyncpg.Pool) -> None:
    """Minutes are within 0.5 %, peaks within 1 %, sessions and coverage are exact."""
    done = await run(pool, interval_s=10)
    assert (done.polls, done.failed) == (6 * HOURS.total_seconds() / 10, 0)
    require_near_the_truth(done, tolerance=0.005)
    expected = done.truth.sessions_outliving(done.interval_s)
    assert {name: row["sessions"] for name, row in done.report.items()} == expected
    # Enough for the comparison to mean something, and BBBLB's counts those from before, too.
    for name, sessions in expected.items():
        assert 50 < sessions < done.bbblb[name]["sessions"], name
    for name, row in done.report.items():
        assert (row["coverage"], row["filled_share"]) == (1, 0), name
        true = done.truth.tenants[name]
        assert 0 < row["max_session_size"] <= true.max_session_size, name
        assert row["breakout_minutes"] * 60 == pytest.approx(
            true.breakout_participant_seconds, rel=0.03
        ), name


async def test_three_percent_of_polls_failing(pool: asyncpg.Pool) -> None:
    """Minutes and peaks are within 1 % still, and coverage shows every single miss."""
    done = await run(pool, interval_s=10, fail_share=0.03)
    assert done.failed > 150
    require_near_the_truth(done, tolerance=0.01)
    expected = done.truth.sessions_outliving(done.interval_s)
    for name, row in done.report.items():
        assert row["coverage"] == pytest.approx(1 - done.failed / done.polls, rel=1e-12), name
        # What was filled is said: most of what failed, for most holes are between two sights.
        assert row["filled_share"] == pytest.approx(done.failed / done.polls, abs=0.01), name
        # A session that only failed polls could have seen is unknown, and none is made up.
        assert 0.98 * expected[name] <= row["sessions"] <= expected[name], name


async def test_polls_every_30_s(pool: asyncpg.Pool) -> None:
    """At the default interval sessions are exact too, and minutes within 0.5 %."""
    done = await run(pool, interval_s=30)
    expected = done.truth.sessions_outliving(30)
    for name, true in done.truth.tenants.items():
        row, bbblb = done.report[name], done.bbblb[name]
        assert row["sessions"] == expected[name], name
        assert row["coverage"] == 1, name
        assert row["participant_minutes"] * 60 == pytest.approx(
            true.participant_seconds, rel=0.005
        ), name
        # Here the interval that it loses a session weighs a percent.
        assert bbblb["participant_minutes"] * 60 < 0.992 * true.participant_seconds, name


async def test_answers_with_faults(pool: asyncpg.Pool) -> None:
    """What answers lack, repeat, or say wrongly costs coverage, and hardly a minute."""
    faults = ("hidden", "unread", "twice", "repeated", "unjoined", "huge")
    done = await run(pool, interval_s=10, fault_share=0.05, faults=faults)
    assert done.faults > 250
    assert done.failed > 40
    require_near_the_truth(done, tolerance=0.01)
    expected = done.truth.sessions_outliving(done.interval_s)
    for name, row in done.report.items():
        assert 0.98 * expected[name] <= row["sessions"] <= expected[name], name
        # An answer that is not believed covers nothing, one that lacks a meeting the others.
        assert 0.97 < row["coverage"] < 1 - done.failed / done.polls, name
        assert 0 < row["filled_share"] < 0.02, name


async def test_a_load_balancer_and_its_servers(make_feed: MakeFeed) -> None:
    """Meetings that two more servers of the settings show count once."""
    views = {"lb": ("sim01", "sim02", "sim03"), "again": ("sim04",)}
    # Samples that may have been dropped are not changed.
    feed = await make_feed(make_settings(retention={"sample": 0}))
    done = await run(feed.pool, interval_s=30, views=views)
    expected = done.truth.sessions_outliving(30)
    for name, true in done.truth.tenants.items():
        row = done.report[name]
        assert (row["sessions"], row["coverage"]) == (expected[name], 1), name
        assert row["participant_minutes"] * 60 == pytest.approx(
            true.participant_seconds, rel=0.005
        ), name
        assert row["peak_participants"] == pytest.approx(true.peak_participants, rel=0.03), name
