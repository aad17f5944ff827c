"""The true usage of a simulated fleet: exact integrals, computed without sampling."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import accumulate
from typing import Any

from collector.simulator.meeting import Meeting, Span
from collector.simulator.plan import epoch_ms, instant_of

_MINUTE_MS = 60_000
# The poll intervals that bbbmeter accepts.
_INTERVALS_S = (5, 6, 10, 12, 15, 20, 30, 60)


@dataclass(frozen=True, slots=True)
class TenantTruth:
    """A tenant's usage in a period. Only `breakout_participant_seconds` includes breakouts.

    `*_seconds` are integrals over time of the figures in the servers' XML: participantCount,
    voiceParticipantCount, videoCount, listenerCount, dial-in attendees and listed sessions. A
    session begins when the first participant joins. `sessions` is the number of sessions that began
    in the period, and `empty_sessions` of those created in it that nobody ever joined; no other
    figure includes them. `max_session_size` is the largest
    participantCount of one session. The peaks are the highest means of a whole UTC minute, of the
    sum over all sessions on all servers; time outside the period counts as 0. `peak_minute` is the
    first minute with the peak of participants, None if there were no participants.
    """

    participant_seconds: float
    voice_seconds: float
    video_seconds: float
    listener_seconds: float
    dialin_seconds: float
    session_seconds: float
    breakout_participant_seconds: float
    sessions: int
    empty_sessions: int
    max_session_size: int
    peak_participants: float
    peak_minute: datetime | None
    peak_sessions: float


@dataclass(frozen=True, slots=True)
class SessionTruth:
    """One session that was listed in the period.

    `start` is its createTime, `joined` the instant of the first join (None if nobody joined), and
    `end` the instant at which it disappears. All can be outside the period; the figures are those
    inside. A breakout has the room of its parent.
    """

    tenant: str
    server: str
    internal_id: str
    room: str
    start: datetime
    joined: datetime | None
    end: datetime
    participant_seconds: float
    max_participants: int
    breakout: bool


@dataclass(frozen=True, slots=True)
class Truth:
    """The usage of a fleet in [since, until): of every tenant in the plan, and of every session."""

    since: datetime
    until: datetime
    tenants: dict[str, TenantTruth]
    sessions: tuple[SessionTruth, ...]

    def sessions_outliving(self, interval_s: int) -> dict[str, int]:
        """Return, for each tenant, the number of its `sessions` that polls can see.

        These are listed, with somebody who has joined, at one or more ticks in the period. A tick
        is a multiple of `interval_s` seconds since 1970.
        """
        interval_ms = interval_s * 1000
        since_ms, until_ms = epoch_ms(self.since), epoch_ms(self.until)
        seen = dict.fromkeys(self.tenants, 0)
        for session in self.sessions:
            if session.joined is None:
                continue
            start_ms = epoch_ms(session.joined)
            first_tick_ms = -(-start_ms // interval_ms) * interval_ms
            listed = first_tick_ms < min(epoch_ms(session.end), until_ms)
            if listed and start_ms >= since_ms and not session.breakout:
                seen[session.tenant] += 1
        return seen

    def to_json(self) -> str:
        """Return the truth as a JSON object, with times in ISO 8601.

        In addition to the fields, the object has `sessions_outliving`: poll interval in seconds →
        tenant → number, for every interval that bbbmeter accepts.
        """
        content: dict[str, Any] = asdict(self)
        content["sessions_outliving"] = {
            str(interval_s): self.sessions_outliving(interval_s) for interval_s in _INTERVALS_S
        }
        return json.dumps(content, default=datetime.isoformat, indent=1)


def measure(
    tenants: Sequence[str], meetings: Iterable[Meeting], since: datetime, until: datetime
) -> Truth:
    """Compute the truth. `meetings` must have each meeting listed in [since, until) once."""
    period = Span(epoch_ms(since), epoch_ms(until))
    sums = {tenant: _Sum(period) for tenant in tenants}
    sessions = tuple(sums[meeting.tenant].add(meeting) for meeting in meetings)
    return Truth(since, until, {name: total.truth() for name, total in sums.items()}, sessions)


class _Sum:
    """The sums of a tenant's figures, in milliseconds."""

    def __init__(self, period: Span) -> None:
        self._period = period
        self._participants = _Minutes(period)
        self._sessions = _Minutes(period)
        self._voice_ms = self._video_ms = self._listener_ms = 0
        self._dialin_ms = self._breakout_ms = 0
        self._started = self._empty = self._largest = 0

    def add(self, meeting: Meeting) -> SessionTruth:
        """Add a meeting and return its own truth."""
        present = [stay.present for stay in meeting.stays]
        joined_ms = min((span.start_ms for span in present), default=None)
        participant_ms = self._overlap_ms(present)
        largest = _highest(present, self._period)
        if meeting.sequence:
            self._breakout_ms += participant_ms
        else:
            for span in present:
                self._participants.add(span)
            if joined_ms is None:
                self._empty += self._has(meeting.start_ms)
            else:
                self._started += self._has(joined_ms)
                self._sessions.add(Span(joined_ms, meeting.end_ms))
            for stay in meeting.stays:
                self._voice_ms += self._overlap_ms(stay.voice)
                self._video_ms += self._overlap_ms(stay.video)
                self._listener_ms += self._overlap_ms(stay.listening)
                self._dialin_ms += self._overlap_ms([stay.present]) if stay.dialin else 0
            self._largest = max(self._largest, largest)
        return SessionTruth(
            tenant=meeting.tenant,
            server=meeting.server,
            internal_id=meeting.internal_id,
            room=meeting.room,
            start=instant_of(meeting.start_ms),
            joined=None if joined_ms is None else instant_of(joined_ms),
            end=instant_of(meeting.end_ms),
            participant_seconds=participant_ms / 1000,
            max_participants=largest,
            breakout=bool(meeting.sequence),
        )

    def truth(self) -> TenantTruth:
        """Return the sums, in seconds."""
        participants_ms, minute = self._participants.highest()
        sessions_ms, _ = self._sessions.highest()
        return TenantTruth(
            participant_seconds=self._participants.total_ms / 1000,
            voice_seconds=self._voice_ms / 1000,
            video_seconds=self._video_ms / 1000,
            listener_seconds=self._listener_ms / 1000,
            dialin_seconds=self._dialin_ms / 1000,
            session_seconds=self._sessions.total_ms / 1000,
            breakout_participant_seconds=self._breakout_ms / 1000,
            sessions=self._started,
            empty_sessions=self._empty,
            max_session_size=self._largest,
            peak_participants=participants_ms / _MINUTE_MS,
            peak_minute=minute,
            peak_sessions=sessions_ms / _MINUTE_MS,
        )

    def _has(self, instant_ms: int) -> bool:
        return self._period.start_ms <= instant_ms < self._period.end_ms

    def _overlap_ms(self, spans: Iterable[Span]) -> int:
        since_ms, until_ms = self._period
        return sum(max(0, min(end, until_ms) - max(start, since_ms)) for start, end in spans)


class _Minutes:
    """The time that spans cover in a period, in total and in each UTC minute."""

    def __init__(self, period: Span) -> None:
        self._period = period
        self._first = period.start_ms // _MINUTE_MS
        minutes = period.end_ms // _MINUTE_MS - self._first + 2
        # For each minute: a correction for spans that begin or end inside it, and how many spans
        # begin (+1) and end (-1) to cover whole minutes.
        self._edges_ms = [0] * minutes
        self._steps = [0] * minutes
        self.total_ms = 0

    def add(self, span: Span) -> None:
        """Add one span."""
        start_ms = max(span.start_ms, self._period.start_ms)
        end_ms = min(span.end_ms, self._period.end_ms)
        if start_ms >= end_ms:
            return
        self.total_ms += end_ms - start_ms
        # The steps count the minute of the start as whole and the minute of the end not at all. So
        # subtract the time before the start, and add the time of the last minute.
        start, before_ms = divmod(start_ms, _MINUTE_MS)
        end, beyond_ms = divmod(end_ms, _MINUTE_MS)
        self._edges_ms[start - self._first] -= before_ms
        self._edges_ms[end - self._first] += beyond_ms
        self._steps[start - self._first] += 1
        self._steps[end - self._first] -= 1

    def highest(self) -> tuple[int, datetime | None]:
        """Return the largest time of one minute in ms, and the first such minute."""
        whole = accumulate(self._steps)
        covered_ms = [
            edge_ms + count * _MINUTE_MS
            for edge_ms, count in zip(self._edges_ms, whole, strict=True)
        ]
        most_ms = max(covered_ms)
        if not most_ms:
            return 0, None
        return most_ms, instant_of((self._first + covered_ms.index(most_ms)) * _MINUTE_MS)


def _highest(spans: Iterable[Span], period: Span) -> int:
    """Return the largest number of `spans` at one instant of `period`."""
    edges = []
    for start_ms, end_ms in spans:
        if start_ms < period.end_ms and end_ms > period.start_ms and start_ms < end_ms:
            edges += [(start_ms, 1), (end_ms, -1)]
    # At the same instant, -1 (leave) sorts before +1 (join), which is the right order. All edges
    # belong to spans that overlap the period.
    before = sum(1 for edge in edges if edge[1] > 0 and edge[0] <= period.start_ms)
    inside = [step for at_ms, step in sorted(edges) if period.start_ms < at_ms < period.end_ms]
    return max(accumulate(inside, initial=before))
