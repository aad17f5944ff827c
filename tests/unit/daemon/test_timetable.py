"""What is done when, and what becomes of it when the clock steps."""

import asyncio
from datetime import UTC, datetime, timedelta

from collector.daemon import timetable
from collector.daemon.timetable import Timetable
from collector.errors import BbbmeterError, DatabaseError, MigrationError
from collector.metrics import Metrics


class SteppedClock:
    """A wall clock that a test can set."""

    offset = timedelta(0)

    def now(self) -> datetime:
        """Return what it shows."""
        return datetime.now(UTC) + self.offset


async def until(flag: asyncio.Event) -> None:
    """Wait for a flag; only a test that hangs waits longer."""
    await asyncio.wait_for(flag.wait(), 30)


async def test_a_step_of_the_clock_has_everything_planned_anew() -> None:
    """Back by an hour: what was planned for the old time would wait for that long."""
    clock, metrics = SteppedClock(), Metrics()
    planned = asyncio.Event()
    table = Timetable(clock, metrics, plan=planned.set, give_up=lambda _: None)
    async with table.running():
        await asyncio.sleep(timetable.CLOCK_EVERY_S * 1.5)
        assert not planned.is_set()
        clock.offset = timedelta(hours=-1)
        await until(planned)
    assert metrics.registry.get_sample_value("bbbmeter_clock_steps_total") == 1


async def test_a_job_that_fails_is_counted_and_comes_again() -> None:
    """One failure says nothing about the next time."""
    metrics = Metrics()
    runs = 0
    twice = asyncio.Event()

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs == 2:
            twice.set()
        raise DatabaseError

    table = Timetable(SteppedClock(), metrics, plan=lambda: None, give_up=lambda _: None)
    table.every(0.05, "job", work)
    async with table.running():
        await until(twice)
    failures = metrics.registry.get_sample_value("bbbmeter_job_failures_total", {"job": "job"})
    assert failures is not None
    assert failures >= 1


async def test_a_job_that_makes_going_on_pointless_says_so() -> None:
    """As when the database turns out to be of another version."""
    given_up: list[BbbmeterError] = []
    ended = asyncio.Event()

    def give_up(error: BbbmeterError) -> None:
        given_up.append(error)
        ended.set()

    async def work() -> None:
        raise MigrationError

    table = Timetable(SteppedClock(), Metrics(), plan=lambda: None, give_up=give_up)
    table.every(0.05, "job", work)
    async with table.running():
        await until(ended)
    assert isinstance(given_up[0], MigrationError)


async def test_a_job_can_be_done_at_once_and_entered_anew() -> None:
    """Without waiting for its time; the same name replaces what was entered."""
    done = asyncio.Event()

    async def nothing() -> None:
        pass

    async def work() -> None:
        done.set()

    table = Timetable(SteppedClock(), Metrics(), plan=lambda: None, give_up=lambda _: None)
    table.now("job")
    table.every(3600, "job", nothing)
    table.every(3600, "job", work)
    async with table.running():
        table.now("job")
        await until(done)
