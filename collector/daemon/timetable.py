"""The schedule of ticks and jobs, which also handles steps of the clock."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import datetime
from typing import Any

import structlog
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from collector.clock import Clock, StepDetector
from collector.errors import BbbmeterError, MigrationError
from collector.metrics import Metrics

log = structlog.get_logger(__name__)

Work = Callable[[], Coroutine[Any, Any, None]]
CLOCK_EVERY_S = 1.0


class Timetable:
    """Runs ticks and jobs by the clock.

    Plans use the wall clock, and waiting uses the monotonic clock. After a step of the wall clock
    (by NTP, or because the machine was suspended) `plan` is called, which must plan everything
    again.
    """

    def __init__(
        self,
        clock: Clock,
        metrics: Metrics,
        *,
        plan: Callable[[], None],
        give_up: Callable[[BbbmeterError], None],
    ) -> None:
        """Begin empty; `give_up` gets the error of a job after which the daemon must stop."""
        self._clock = clock
        self._metrics = metrics
        self._plan = plan
        self._give_up = give_up
        self._scheduler = AsyncIOScheduler(timezone="UTC")
        self._jobs: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the planned ticks and jobs in the background; cancel the jobs at the end."""
        self._scheduler.start()
        watch = asyncio.create_task(self._watch_clock(), name="clock")
        try:
            yield
        finally:
            self._scheduler.pause()
            for task in (watch, *self._jobs):
                task.cancel()
            await asyncio.wait({watch, *self._jobs})
            # Let the coroutines that waited for these tasks finish.
            await asyncio.sleep(0)
            self._scheduler.shutdown(wait=False)

    def pause(self) -> None:
        """Start no further tick or job."""
        self._scheduler.pause()

    def ticks(self, interval_s: int, first: datetime, work: Work) -> None:
        """Run `work` every `interval_s` seconds, beginning at `first`."""
        self._scheduler.add_job(
            work,
            IntervalTrigger(seconds=interval_s, start_date=first),
            id="tick",
            name="tick",
            replace_existing=True,
            coalesce=True,
            max_instances=1,
            misfire_grace_time=max(1, interval_s - 2),
        )

    def every(self, seconds: float, name: str, work: Work, at: datetime | None = None) -> None:
        """Run the job `name` every `seconds` seconds; a failure is logged and counted.

        With `at`, an instant in the past, the job runs at whole intervals from that instant.
        """

        async def guarded() -> None:
            # A separate task: at the end it is cancelled here, and not by the scheduler, for which
            # that would be an error.
            task = asyncio.create_task(work(), name=name)
            self._jobs.add(task)
            await asyncio.wait({task})
            self._jobs.discard(task)
            error = None if task.cancelled() else task.exception()
            if isinstance(error, MigrationError):
                self._give_up(error)
            elif isinstance(error, BbbmeterError):
                self._metrics.job_failures.labels(name).inc()
                log.error("job_failed", job=name, error=str(error))
            elif error is not None:
                raise error

        self._scheduler.add_job(
            guarded,
            IntervalTrigger(seconds=seconds, start_date=at),
            id=name,
            name=name,
            replace_existing=True,
            coalesce=True,
            max_instances=1,
            misfire_grace_time=None,
        )

    def now(self, name: str) -> None:
        """Run the job `name` now, if it is planned already."""
        with contextlib.suppress(JobLookupError):
            self._scheduler.modify_job(name, next_run_time=self._clock.now())

    async def _watch_clock(self) -> None:
        detector = StepDetector()
        while True:
            step_s = detector.step_s(self._clock.now(), time.monotonic())
            if step_s:
                self._metrics.clock_steps.inc()
                log.warning("clock_stepped", step_s=round(step_s, 1))
                self._plan()
            await asyncio.sleep(CLOCK_EVERY_S)
