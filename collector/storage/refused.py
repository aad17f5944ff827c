"""Polls that were dropped for lack of room: their data are lost, but they are recorded."""

from collections import deque
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from collector.model import PollRow
from collector.outcomes import Outcome


class _Span(NamedTuple):
    """Consecutive ticks of one server."""

    first: datetime
    last: datetime
    seconds: int


class Refused:
    """The dropped polls, as spans of ticks: a day of a thousand servers takes some kilobytes.

    They are stored as failed polls once the database is back, so that the gap in the coverage has
    a reason.
    """

    def __init__(self) -> None:
        """Begin without any."""
        self._spans: dict[str, deque[_Span]] = {}
        self.count = 0

    def add(self, poll: PollRow) -> None:
        """Remember a poll. The polls of one server must be added in the order of their ticks."""
        spans = self._spans.setdefault(poll.server, deque())
        step = timedelta(seconds=poll.seconds)
        if spans and spans[-1].seconds == poll.seconds and spans[-1].last + step == poll.ts:
            spans[-1] = spans[-1]._replace(last=poll.ts)
        else:
            spans.append(_Span(poll.ts, poll.ts, poll.seconds))
        self.count += 1

    def oldest(self, most: int) -> list[PollRow]:
        """Return at most `most` of them as failed polls; they stay remembered."""
        rows: list[PollRow] = []
        for server, spans in self._spans.items():
            for span in spans:
                ts = span.first
                while ts <= span.last:
                    if len(rows) == most:
                        return rows
                    rows.append(PollRow(ts, server, False, Outcome.SPOOL_FULL, 0, span.seconds))  # noqa: FBT003
                    ts += timedelta(seconds=span.seconds)
        return rows

    def remove(self, rows: Iterable[PollRow]) -> None:
        """Forget `rows`, which `oldest` returned, in the same order."""
        for row in rows:
            spans = self._spans[row.server]
            span = spans.popleft()
            if row.ts < span.last:
                spans.appendleft(span._replace(first=row.ts + timedelta(seconds=span.seconds)))
            elif not spans:
                del self._spans[row.server]
            self.count -= 1
