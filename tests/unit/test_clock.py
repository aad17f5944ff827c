"""Instants and ticks."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st

from collector.clock import StepDetector, SystemClock, tick_at, utc

INTERVALS_S = [n for n in range(5, 61) if 60 % n == 0]


def test_the_present_is_aware_utc() -> None:
    """The system's clock gives aware UTC."""
    instant = datetime(2026, 3, 29, 1, 0, 0, 250_000, tzinfo=UTC)
    with time_machine.travel(instant, tick=False):
        now = SystemClock().now()
    assert now == instant
    assert now.tzinfo is UTC


def test_epoch_seconds() -> None:
    """An epoch time becomes aware UTC, fractions included."""
    assert utc(0) == datetime(1970, 1, 1, tzinfo=UTC)
    assert utc(1_770_000_000.5) == datetime(2026, 2, 2, 2, 40, 0, 500_000, tzinfo=UTC)
    assert utc(0).tzinfo is UTC


@pytest.mark.parametrize(
    ("time", "interval_s", "tick"),
    [
        ("08:00:00", 30, "08:00:00"),
        ("08:00:29.999999", 30, "08:00:00"),
        ("08:00:30", 30, "08:00:30"),
        ("08:00:59", 5, "08:00:55"),
        ("08:00:59", 60, "08:00:00"),
        ("08:00:12.5", 12, "08:00:12"),
    ],
)
def test_the_tick_of_an_instant(time: str, interval_s: int, tick: str) -> None:
    """It is the last one at or before the instant."""
    instant = datetime.fromisoformat(f"2026-02-02T{time}Z")
    assert tick_at(instant, interval_s) == datetime.fromisoformat(f"2026-02-02T{tick}Z")


@given(
    st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1)),  # noqa: DTZ001 - hypothesis wants it
    st.sampled_from(INTERVALS_S),
    st.integers(-14 * 4, 14 * 4),
)
def test_ticks_are_those_of_the_epoch(naive: datetime, interval_s: int, quarters: int) -> None:
    """Whatever the instant's offset, ticks are multiples of the interval since 1970, in UTC."""
    instant = naive.replace(tzinfo=timezone(timedelta(minutes=15 * quarters)))
    tick = tick_at(instant, interval_s)
    assert tick.tzinfo is UTC
    assert tick.timestamp() % interval_s == 0
    assert timedelta(0) <= instant - tick < timedelta(seconds=interval_s)
    assert tick_at(tick, interval_s) == tick


def test_steps_of_the_wall_clock() -> None:
    """A step is told once, with its sign and size; what passes on both clocks is none."""
    detector = StepDetector()
    wall_s, monotonic_s = 1_770_000_000.0, 5_000.0
    for passed_s, step_s, told_s in (
        (0.0, 0.0, 0.0),
        (30.0, 0.0, 0.0),
        (30.0, 3600.0, 3600.0),  # set forward, or asleep for an hour
        (30.0, 0.0, 0.0),
        (30.0, -7.5, -7.5),
        (0.0, 0.75, 0.0),
        (30.0, 0.75, 0.0),
        (86_400.0, 1.25, 1.25),
    ):
        wall_s += passed_s + step_s
        monotonic_s += passed_s
        assert detector.step_s(utc(wall_s), monotonic_s) == told_s


def test_the_first_reading_is_no_step() -> None:
    """Two clocks that were never compared may say what they like; the tolerance can be chosen."""
    detector = StepDetector(tolerance_s=5.0)
    assert detector.step_s(utc(1_770_000_000), 0.0) == 0.0
    assert detector.step_s(utc(1_770_000_005), 0.0) == 0.0
    assert detector.step_s(utc(1_770_000_011), 0.0) == 6.0


@given(
    st.lists(st.tuples(st.integers(0, 100_000), st.integers(-100_000, 100_000)), max_size=20),
)
def test_steps_add_up(readings: list[tuple[int, int]]) -> None:
    """What is told is all that the wall clock has stepped, but for steps within the tolerance."""
    detector = StepDetector()
    detector.step_s(utc(1_770_000_000), 0.0)
    wall_s = monotonic_s = told_s = small_s = 0
    for passed_s, step_s in readings:
        wall_s += passed_s + step_s
        monotonic_s += passed_s
        small_s += step_s if abs(step_s) <= 1 else 0
        told_s += round(detector.step_s(utc(1_770_000_000 + wall_s), monotonic_s))
    assert told_s + small_s == wall_s - monotonic_s
