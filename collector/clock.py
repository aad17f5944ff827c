"""Time, as the collector sees it: ticks, and a clock that tests can turn."""

import time
from datetime import UTC, datetime
from typing import Protocol


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
