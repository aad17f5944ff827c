"""Breakout rooms: who sits in one counts through the parent, as far as the parent counts them.

Any client of the API can call a meeting a breakout and name a parent. So a breakout counts through
its parent only up to the parent's own number of participants. The rest is added to the parent.
"""

from collections.abc import Sequence
from typing import Any

from collector.model import ALL_COUNTS, MAX_COUNT, Sample


def with_excess(parent: Sample, breakouts: Sequence[Sample]) -> Sample:
    """Return `parent` with the participants of its `breakouts` that it does not count itself.

    All are samples of one tick. If 40 people sit in breakouts of a parent that counts 1, 39 are
    added. Of the breakouts' other counts, the same share is added.
    """
    inside = sum(breakout.participants for breakout in breakouts)
    excess = inside - parent.participants
    if excess <= 0:
        return parent
    counts: dict[str, Any] = {}
    for count in ALL_COUNTS:
        known = [getattr(sample, count) for sample in (parent, *breakouts)]
        if None in known:
            counts[count] = None
            continue
        own, *others = known
        counts[count] = min(own + int(sum(others) * excess / inside + 0.5), MAX_COUNT)
    return parent._replace(**counts)
