"""Finds the session of each meeting of an answer, and remembers those that later answers lack.

A session is the same as long as its internal id and its createTime are the same. A session that is
missing in an answer has not ended: if it comes back, it is the one that was there before.
"""

from collections import deque
from collections.abc import Container
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from collector.metering.attribution import Attribution
from collector.model import (
    Absent,
    Answer,
    LastPoll,
    Meeting,
    Place,
    PollResult,
    Sample,
    Seen,
    session_id,
)
from collector.settings import ServerSettings

# How long an absent session is remembered at least. If it comes back later, the answers without it
# are not told as unseen; the gap shows in the session.
REMEMBERED = timedelta(minutes=10)


@dataclass(slots=True)
class View:
    """What one answer shows: the session of each meeting, by internal id.

    `nested` has the breakouts of each parent that count through it, both by internal id. `begun`
    are the sessions that begin to count now, although their meeting is older. `undecided` are
    breakouts of which nobody knows the tenant: their parent could not be read, and is not known.
    """

    sessions: dict[str, Seen] = field(default_factory=dict)
    nested: dict[str, list[str]] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)
    undecided: set[str] = field(default_factory=set)


def view_of(
    answer: Answer,
    server: ServerSettings,
    last: LastPoll | None,
    attribution: Attribution,
    elsewhere: Container[str] = (),
) -> View:
    """Return the sessions of `answer`, given the last successful poll of `server` before it.

    `elsewhere` are the internal ids of meetings that another server shows too. They count through
    the session there.
    """
    return _Viewer(answer, server, last, attribution, elsewhere).view()


class _Viewer:
    def __init__(
        self,
        answer: Answer,
        server: ServerSettings,
        last: LastPoll | None,
        attribution: Attribution,
        elsewhere: Container[str],
    ) -> None:
        self._answer = answer
        self._server = server
        self._last = last
        self._attribution = attribution
        self._elsewhere = elsewhere
        self._view = View()

    def view(self) -> View:
        sessions, elsewhere = self._view.sessions, self._elsewhere
        before = self._last.sessions if self._last else {}
        breakouts = []
        for meeting in self._answer.meetings:
            if meeting.breakout:
                breakouts.append(meeting)
                continue
            seen = before.get(meeting.internal_id)
            nested = meeting.internal_id in elsewhere
            # Nearly all meetings were in the last answer.
            if (
                seen is None
                or seen.created_ms != meeting.created_ms
                or seen.nested != nested
                or seen.empty
            ):
                known = self._known(meeting)
                place = self._place(meeting, known, None)
                seen = self._session(meeting, known, place, nested=nested)
            sessions[meeting.internal_id] = seen
        parents = dict(sessions) if breakouts else {}
        for meeting in breakouts:
            self._breakout(meeting, parents)
        return self._view

    def _breakout(self, meeting: Meeting, parents: dict[str, Seen]) -> None:
        """Decide whether a breakout counts through its parent; anybody can name a parent.

        It does if the parent is in the same answer, or counts through another server, has people,
        and belongs to the same tenant.
        """
        parent_id = meeting.parent_internal_id or ""
        parent = parents.get(parent_id)
        if parent is None and self._last is not None:
            parent = self._last.known(parent_id)
        counts_elsewhere = parent_id in self._elsewhere
        if parent and parent.nested and not counts_elsewhere:
            parent = None
        known = self._known(meeting)
        place = self._place(meeting, known, parent.place if parent else None)
        if (
            parent_id in self._answer.unread
            and parent is None
            and known is None
            and place.tenant == self._attribution.default_tenant
        ):
            self._view.undecided.add(meeting.internal_id)
            return
        nested = (
            parent is not None
            and not parent.empty
            and parent.place.tenant == place.tenant
            and (parent_id in parents or counts_elsewhere)
        )
        if nested and parent_id in parents:
            self._view.nested.setdefault(parent_id, []).append(meeting.internal_id)
        seen = self._session(meeting, known, place, nested=nested)
        self._view.sessions[meeting.internal_id] = seen

    def _known(self, meeting: Meeting) -> Seen | None:
        """Return the session of `meeting` if it was seen before."""
        known = self._last.known(meeting.internal_id) if self._last else None
        if known is None:
            return None
        if known.created_ms is None:
            # It was read from the database, which has the time by our clock only.
            same = known.session_id == self._identity(meeting, known.place, nested=known.nested)
        else:
            same = known.created_ms == meeting.created_ms
        return known._replace(created_ms=meeting.created_ms) if same else None

    def _place(self, meeting: Meeting, known: Seen | None, parent: Place | None) -> Place:
        return known.place if known else self._attribution.place(meeting, self._server, parent)

    def _session(self, meeting: Meeting, known: Seen | None, place: Place, *, nested: bool) -> Seen:
        """Return the session of `meeting`, which may begin to count only now."""
        joined = meeting.joined
        if joined is None and known and known.empty and not meeting.participants:
            # An answer that does not say whether somebody has joined does not change what is known.
            joined = False
        empty = joined is False and not nested and (known is None or known.empty)
        if known and known.nested == nested and known.empty == empty:
            return known
        if known:
            self._view.begun.add(meeting.internal_id)
        identity = self._identity(meeting, place, nested=nested)
        return Seen(identity, place, meeting.created_ms, nested, empty)

    def _identity(self, meeting: Meeting, place: Place, *, nested: bool) -> int:
        return session_id(
            self._server.name, place.tenant, meeting.internal_id, meeting.created_ms, nested=nested
        )


def remembered(max_gap: timedelta) -> timedelta:
    """Return for how long absent sessions are remembered, with the poll before the gap."""
    return max(REMEMBERED, max_gap + timedelta(minutes=1))


def remember(
    result: PollResult,
    samples: list[Sample],
    view: View,
    last: LastPoll | None,
    interval_s: int,
    max_gap: timedelta,
) -> LastPoll:
    """Return what is remembered after a successful poll: `last`, continued by `result`.

    Absent sessions are remembered for some minutes (`remembered`), as their time may be filled.
    """
    now = LastPoll(result.ts, interval_s, samples, view.sessions)
    if last is None:
        return now
    oldest = result.ts - remembered(max_gap)
    now.earlier = _continued(last, oldest)
    now.absent = {
        internal_id: absent
        for internal_id, absent in last.absent.items()
        if internal_id not in view.sessions and absent.ts >= oldest
    }
    gone = last.sessions.keys() - view.sessions.keys()
    if gone:
        samples_before = {sample.session_id: sample for sample in last.samples}
        for internal_id in gone:
            seen = last.sessions[internal_id]
            now.absent[internal_id] = Absent(seen, last.ts, samples_before.get(seen.session_id))
    for internal_id in result.answer.unread & now.absent.keys():
        now.absent[internal_id].unread |= {result.ts}
    if now.absent and any(meeting.breakout for meeting in result.answer.meetings):
        _note_apart(now, result, view)
    return now


def _note_apart(now: LastPoll, result: PollResult, view: View) -> None:
    """Note at absent parents the people of their breakouts that are counted by themselves now.

    If the parent comes back, they are not counted again in its filled samples.
    """
    for meeting in result.answer.meetings:
        absent = now.absent.get(meeting.parent_internal_id or "")
        seen = view.sessions.get(meeting.internal_id)
        if absent and seen and not seen.nested and seen.place.tenant == absent.seen.place.tenant:
            before = absent.counted.get(result.ts, 0)
            absent.counted = {**absent.counted, result.ts: before + meeting.participants}


def _continued(last: LastPoll, oldest: datetime) -> deque[tuple[datetime, int]]:
    """Return the polls since `oldest`; the deque of `last` is used on."""
    earlier = last.earlier
    earlier.append((last.ts, last.seconds))
    while earlier and earlier[0][0] < oldest:
        earlier.popleft()
    return earlier
