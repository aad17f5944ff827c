"""Time, as the collector sees it: ticks, clocks that are wrong, and one that tests can turn."""

import time
from datetime import UTC, datetime
from typing import Protocol

# A server's clock that is off by more is corrected for, and told: a session's start, which is by
# that clock, would be off by a tick or more.
MAX_SKEW_S = 10.0


class Clock(Protocol):
    """Where the present comes from."""

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
    """Return the last tick at or before `instant`: a multiple of `interval_s` since the epoch."""
    epoch_s = int(instant.timestamp())
    return utc(epoch_s - epoch_s % interval_s)


class StepDetector:
    """Tells by how much the wall clock has stepped against the monotonic one.

    It steps when NTP or somebody sets it, and when the machine wakes up: while that was
    suspended, the monotonic clock stood still (on Linux). A drift, as of a clock that NTP slews,
    stays below the tolerance between two questions and is none.
    """

    def __init__(self, tolerance_s: float = 1.0) -> None:
        """Take for no step what is `tolerance_s` or less."""
        self._tolerance_s = tolerance_s
        self._offset_s: float | None = None

    def step_s(self, wall: datetime, monotonic_s: float) -> float:
        """Return the step, in seconds, since last asked; 0 where there is none.

        `wall` and `monotonic_s` are the two clocks' present, read together. A step forward is
        positive.
        """
        offset_s = wall.timestamp() - monotonic_s
        before_s = offset_s if self._offset_s is None else self._offset_s
        self._offset_s = offset_s
        step_s = offset_s - before_s
        return step_s if abs(step_s) > self._tolerance_s else 0.0
