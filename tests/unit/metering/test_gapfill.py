"""Filling short holes between successful polls."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from collector.metering.gapfill import fill_gap, missed_ticks
from collector.model import Sample

START = datetime(2026, 2, 2, 8, tzinfo=UTC)
INTERVAL_S = 30


def sample(session: int, at_s: int, participants: int, *, breakout: bool = False) -> Sample:
    """Return a sample of a session `at_s` seconds after START."""
    ts = START + timedelta(seconds=at_s)
    return Sample(
        poll_ts=ts,
        server="bbb1",
        ts=ts,
        tenant="acme",
        session_id=session,
        participants=participants,
        voice=participants // 2,
        video=0,
        listeners=0,
        dialins=0,
        seconds=INTERVAL_S,
        breakout=breakout,
        filled=False,
    )


def test_missed_ticks_are_filled_on_a_straight_line() -> None:
    """Three missed ticks between 2 and 10 participants are 4, 6 and 8."""
    filled = list(fill_gap(sample(1, 0, 2), sample(1, 120, 10), 300))
    assert [(s.ts - START).seconds for s in filled] == [30, 60, 90]
    assert [s.participants for s in filled] == [4, 6, 8]
    assert [s.voice for s in filled] == [2, 3, 4]
    assert all(s.filled and s.seconds == INTERVAL_S for s in filled)


def test_filled_samples_are_committed_with_the_poll_that_ended_the_gap() -> None:
    """A filled sample belongs to the later poll, without which it is not stored."""
    late = sample(1, 120, 10)
    filled = list(fill_gap(sample(1, 0, 2), late, 300))
    assert {s.poll_ts for s in filled} == {late.ts}


def test_nothing_to_fill_between_neighbours() -> None:
    """No tick was missed, none is filled."""
    assert not list(fill_gap(sample(1, 0, 2), sample(1, 30, 2), 300))


def test_the_longest_gap_is_filled_and_no_longer_one() -> None:
    """A hole of exactly max_gap is filled; one tick more, and nothing is invented."""
    before = sample(1, 0, 2)
    assert len(list(fill_gap(before, sample(1, 330, 2), 300))) == 10
    assert not list(fill_gap(before, sample(1, 360, 2), 300))


def test_a_session_keeps_what_it_is() -> None:
    """Breakouts stay breakouts when they are filled."""
    after = sample(1, 60, 2, breakout=True)
    filled = list(fill_gap(sample(1, 0, 2, breakout=True), after, 300))
    assert [s.breakout for s in filled] == [True]


def test_nothing_is_filled_between_two_intervals() -> None:
    """The first filled ticks could lie within the time of the earlier sample."""
    late = sample(1, 120, 2)
    assert not list(fill_gap(sample(1, 0, 2)._replace(seconds=60), late, 300))


def test_a_clock_that_went_back_fills_nothing() -> None:
    """When the later poll is not later, there is no hole."""
    assert not list(fill_gap(sample(1, 60, 2), sample(1, 0, 2), 300))
    assert missed_ticks(START, START, INTERVAL_S) == []


@given(
    early=st.integers(0, 2000),
    late=st.integers(0, 2000),
    ticks=st.integers(1, 30),
    interval_s=st.sampled_from([5, 10, 15, 20, 30, 60]),
    max_gap_s=st.integers(0, 600),
)
def test_filled_time_is_all_or_nothing(
    early: int, late: int, ticks: int, interval_s: int, max_gap_s: int
) -> None:
    """Every missed tick is filled once or none is; counts stay between the two ends."""
    before = sample(1, 0, early)._replace(seconds=interval_s)
    after = sample(1, ticks * interval_s, late)._replace(seconds=interval_s)
    filled = list(fill_gap(before, after, max_gap_s))
    missed = missed_ticks(before.ts, after.ts, interval_s)
    assert len(missed) == ticks - 1
    assert [s.ts for s in filled] in ([], missed)
    assert bool(filled) == (0 < len(missed) * interval_s <= max_gap_s)
    assert all(min(early, late) <= s.participants <= max(early, late) for s in filled)


@given(st.integers(0, 500), st.integers(0, 500), st.integers(2, 11))
def test_filling_is_right_on_average(early: int, late: int, ticks: int) -> None:
    """The mean of the filled counts is that of the straight line, to half a person."""
    after = sample(1, ticks * INTERVAL_S, late)
    filled = list(fill_gap(sample(1, 0, early), after, 300))
    mean = sum(s.participants for s in filled) / len(filled)
    assert abs(mean - (early + late) / 2) <= 0.5


def test_people_who_are_counted_elsewhere_are_not_filled() -> None:
    """At the tick 30, 15 of 20 are counted in breakouts: 5 are filled, and a quarter of voices."""
    ts = START + timedelta(seconds=30)
    early, late = sample(1, 0, 20), sample(1, 90, 20)
    filled = list(fill_gap(early, late, 300, {ts: 15}))
    assert [(s.participants, s.voice) for s in filled] == [(5, 3), (20, 10)]
    nobody, _ = fill_gap(early, late, 300, {ts: 25})
    assert (nobody.participants, nobody.voice) == (0, 0)
