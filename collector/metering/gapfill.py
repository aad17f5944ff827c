"""Fills short gaps: a session before and after a gap also ran in it."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from collector.model import ALL_COUNTS, NO_COUNTS, Sample


def fill_gap(
    early: Sample,
    late: Sample,
    max_gap_s: int,
    counted: Mapping[datetime, int] = NO_COUNTS,
) -> Iterator[Sample]:
    """Yield a filled sample for each tick between two samples of a session.

    Polls of these ticks failed, are missing, or did not show the session. Counts are interpolated
    linearly, and rounded to whole people. At a tick in `counted`, this number of the participants
    is counted elsewhere already, and the sample has only the others. Nothing is filled if the
    ticks together last longer than `max_gap_s` seconds, or if the interval was changed: the first
    ones could lie within the time of `early`.
    """
    interval_s = late.seconds
    if early.seconds != interval_s:
        return
    missed = missed_ticks(early.ts, late.ts, interval_s)
    if len(missed) * interval_s > max_gap_s:
        return
    whole_s = (late.ts - early.ts).total_seconds()
    for ts in missed:
        share = (ts - early.ts).total_seconds() / whole_s
        counts: dict[str, Any] = {
            count: _between(getattr(early, count), getattr(late, count), share)
            for count in ALL_COUNTS
        }
        if ts in counted:
            counts = _without(counts, counted[ts])
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


def _without(counts: dict[str, Any], participants: int) -> dict[str, Any]:
    """Return `counts` without this many of the participants, and less of the others alike."""
    whole = counts["participants"]
    left = max(whole - participants, 0) / whole if whole else 0
    return {
        count: None if value is None else int(value * left + 0.5) for count, value in counts.items()
    }
