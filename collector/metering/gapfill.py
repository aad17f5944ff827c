"""Fills short gaps: a session in the polls before and after a gap also ran between them."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from collector.model import COUNTS, LATER_COUNTS, Sample


def fill_gap(
    before: list[Sample], after: list[Sample], interval_s: int, max_gap_s: int
) -> Iterator[Sample]:
    """Yield a filled sample for each missed tick and each session in both `before` and `after`.

    `before` and `after` are the samples of two successful polls of one server, each of one tick.
    Counts are interpolated linearly between the two, and rounded to whole people. Nothing is
    filled if the missed ticks together last longer than `max_gap_s` seconds.
    """
    if not before or not after:
        return
    start, end = before[0].ts, after[0].ts
    missed = missed_ticks(start, end, interval_s)
    if not missed or len(missed) * interval_s > max_gap_s:
        return
    earlier = {sample.session_id: sample for sample in before}
    whole_s = (end - start).total_seconds()
    for late in after:
        early = earlier.get(late.session_id)
        if early is None:
            continue
        for ts in missed:
            share = (ts - start).total_seconds() / whole_s
            counts: dict[str, Any] = {
                count: _between(getattr(early, count), getattr(late, count), share)
                for count in (*COUNTS, *LATER_COUNTS)
            }
            yield late._replace(ts=ts, filled=True, **counts)


def missed_ticks(start: datetime, end: datetime, interval_s: int) -> list[datetime]:
    """Return the ticks strictly between two ticks; none if `end` is not after `start`."""
    count = int((end - start).total_seconds()) // interval_s
    return [start + timedelta(seconds=interval_s * n) for n in range(1, count)]


def _between(early: int | None, late: int | None, share: float) -> int | None:
    """Interpolate at `share` (0 to 1) of the way, rounded to a whole number, halves up.

    None where either count is unknown.
    """
    if early is None or late is None:
        return None
    return int(early + (late - early) * share + 0.5)
