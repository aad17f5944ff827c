"""Time in the collector: ticks, steps of the clock, and a clock that tests can replace."""

import time
from datetime import UTC, datetime
from typing import Protocol

# Seconds by which a server's clock may differ from ours. The server's clock sets the start of a
# session. Beyond this limit, starts are corrected and the skew is reported.
MAX_SKEW_S = 10.0


class Clock(Protocol):
    """Returns the current time."""

    def now(self) -> datetime:
        """Return the present, aware UTC."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the present, aware UTC."""
        return datetime.fromtimestamp(time.time(), UTC)


def utc(epoch_s: float) -> datetime:
    """Return the aware UTC instant `epoch_s` seconds after 1970."""
    return datetime.fromtimestamp(epoch_s, UTC)


def tick_at(instant: datetime, interval_s: int) -> datetime:
    """Return the last tick at or before `instant`: a multiple of `interval_s` since 1970."""
    epoch_s = int(instant.timestamp())
    return utc(epoch_s - epoch_s % interval_s)


class StepDetector:
    """Detects steps of the wall clock, by comparing it with the monotonic clock.

    The wall clock steps when NTP or an administrator sets it, and when the machine wakes up: on
    Linux, the monotonic clock stands still while the machine is suspended. A slow drift, for
    example a correction by NTP, stays below the tolerance between two calls and is not a step.
    """

    def __init__(self, tolerance_s: float = 1.0) -> None:
        """Ignore differences of up to `tolerance_s` seconds."""
        self._tolerance_s = tolerance_s
        self._offset_s: float | None = None

    def step_s(self, wall: datetime, monotonic_s: float) -> float:
        """Return the step since the last call in seconds, 0 if there was none.

        `wall` and `monotonic_s` are the current times of both clocks, read together. A step
        forward is positive.
        """
        offset_s = wall.timestamp() - monotonic_s
        before_s = offset_s if self._offset_s is None else self._offset_s
        self._offset_s = offset_s
        step_s = offset_s - before_s
        return step_s if abs(step_s) > self._tolerance_s else 0.0
