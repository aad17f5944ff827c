"""What a run really had: participant minutes of each server, tick and session."""

from collections import defaultdict
from collections.abc import Container, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from collector.clock import tick_at
from collector.model import session_id
from collector.simulator import Fleet
from collector.simulator.plan import epoch_ms
from tests.chaos.world import INTERVAL_S, Hit

INTERVAL = timedelta(seconds=INTERVAL_S)
# The default of `max_gap_s`, which the run uses: longer gaps are not filled.
_MAX_GAP_S = 300

# A server and a tick.
Cell = tuple[str, datetime]


class Part(NamedTuple):
    """A session at a tick. `parent` is the session of a breakout's parent, None for a main one."""

    tenant: str
    minutes: float
    parent: int | None


Truth = dict[Cell, dict[int, Part]]


def truth_of(fleet: Fleet, since: datetime, until: datetime) -> Truth:
    """Return the sessions of each cell in [since, until).

    The minutes are the number of participants at the instant of the tick, times the interval. The
    sessions of breakouts are those of breakouts that count by themselves.
    """
    truth: Truth = defaultdict(dict)
    ticks = [(ts, epoch_ms(ts)) for ts in ticks_of(since, until)]
    ids: dict[tuple[str, str], int] = {}
    for meeting in fleet.meetings(since, until):
        identity = session_id(meeting.server, meeting.tenant, meeting.internal_id, meeting.start_ms)
        ids[meeting.server, meeting.internal_id] = identity
        parent = ids.get((meeting.server, meeting.parent_internal_id))
        if meeting.sequence and parent is None:
            continue
        for ts, at_ms in ticks:
            if meeting.start_ms <= at_ms < meeting.end_ms:
                present = sum(stay.join_ms <= at_ms < stay.left_ms for stay in meeting.stays)
                part = Part(meeting.tenant, present * INTERVAL_S / 60, parent)
                truth[meeting.server, ts][identity] = part
    return truth


def faults_near(hits: Sequence[Hit], cell: Cell, *kinds: str) -> int:
    """Return how many faults of these kinds the server may have had when it answered."""
    server, ts = cell
    # It answers some seconds after the tick.
    since, until = ts.timestamp(), ts.timestamp() + INTERVAL_S
    return sum(
        hit.target == server and hit.kind in kinds and hit.began < until and hit.ended > since
        for hit in hits
    )


def gap_of(cell: Cell, session: int, shown: Container[tuple[Cell, int]]) -> list[Cell]:
    """Return the gap of a session around a tick, with the polls around it that showed it."""
    server, ts = cell
    gap = [cell]
    for step in (-INTERVAL, INTERVAL):
        for n in range(1, _MAX_GAP_S // INTERVAL_S + 1):
            gap.append((server, ts + n * step))
            if (gap[-1], session) in shown:
                break
    return gap


def minutes_of(truth: Truth, cell: Cell, session: int) -> float:
    """Return the session's participant minutes at a tick of its server."""
    part = truth[cell].get(session)
    return part.minutes if part else 0


def ticks_of(since: datetime, until: datetime) -> list[datetime]:
    """Return the ticks of [since, until)."""
    first = tick_at(since, INTERVAL_S)
    if first < since:
        first += INTERVAL
    count = -(-int((until - first).total_seconds()) // INTERVAL_S)
    return [first + n * INTERVAL for n in range(max(count, 0))]
