"""Turns poll results into rows to store: attributes sessions, fills gaps, announces new sessions.

The pipeline remembers the last successful poll of each server. This memory only saves work and
fills gaps. After a restart, it is read back from the database. It can be wrong if another collector
polled the server in the meantime; the writer's SQL statement catches that.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from operator import attrgetter, itemgetter

from collector.clock import MAX_SKEW_S, utc
from collector.metering.attribution import Attribution, origin
from collector.metering.gapfill import fill_gap
from collector.model import (
    LATER_COUNTS,
    Batch,
    LastPoll,
    Meeting,
    PollResult,
    PollRow,
    Sample,
    Seen,
    SessionRow,
    session_id,
)
from collector.settings import ServerSettings, Settings

# Longest plausible age of a session in seconds (a year). A server that booted with a wrong clock
# reports older starts.
_MAX_AGE_S = 366 * 86_400
# Returns the later counts of a meeting, which are its last fields.
_later_counts = itemgetter(slice(len(Meeting._fields) - len(LATER_COUNTS), None))


class Pipeline:
    """Turns poll results into batches. Results of one server must come in the order of ticks."""

    def __init__(self, settings: Settings) -> None:
        """Read rules, interval and longest gap from `settings`."""
        self._last: dict[str, LastPoll] = {}
        self._known: dict[str, set[int]] = {}
        self._interval_s = settings.poll_interval_s
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Apply changed settings, and keep the memory of servers that are still enabled.

        If the interval changes, all memory is cleared: a gap between ticks of different intervals
        is not filled.
        """
        if settings.poll_interval_s != self._interval_s:
            self._last.clear()
            self._known.clear()
        self._attribution = Attribution(settings.attribution)
        self._interval_s = settings.poll_interval_s
        self._max_gap_s = settings.max_gap_s
        self._store_room_names = settings.store_room_names
        self._servers: Mapping[str, ServerSettings] = {s.name: s for s in settings.server}
        # Forget disabled servers too, as their sessions are closed in the meantime.
        for name in self._last.keys() - {server.name for server in settings.enabled_servers}:
            self.forget(name)

    def restore(self, server: str, last: LastPoll) -> None:
        """Remember a poll from the database, unless the server was polled in the meantime."""
        if server in self._last:
            return
        self._last[server] = last
        self._known[server] = {sample.session_id for sample in last.samples}

    def forget(self, server: str) -> None:
        """Forget a server: its sessions are announced again, and its next gap is not filled."""
        self._last.pop(server, None)
        self._known.pop(server, None)

    def forget_sessions(self, server: str) -> None:
        """Announce all sessions of a server again at its next poll, as a poll was not stored."""
        self._known.pop(server, None)

    def process(self, result: PollResult) -> Batch:
        """Return the rows for `result`: the poll, new sessions, samples and filled samples."""
        server = self._servers[result.server]
        if not result.ok:
            return Batch(polls=[self._poll_row(result, [])])
        last = self._last.get(server.name)
        sessions = self._sessions(result, server, last)
        samples = [
            self._sample(result, meeting, sessions[meeting.internal_id])
            for meeting in result.answer.meetings
        ]
        known = self._known.get(server.name, set())
        batch = Batch(
            polls=[self._poll_row(result, samples)],
            sessions=[
                self._session_row(result, meeting, sessions[meeting.internal_id])
                for meeting in result.answer.meetings
                if sessions[meeting.internal_id].session_id not in known
            ],
            samples=samples,
        )
        if last is not None and last.ts < result.ts - timedelta(seconds=self._interval_s):
            filled = fill_gap(last.samples, samples, self._interval_s, self._max_gap_s)
            batch.samples = [*samples, *filled]
        if last is None or last.ts < result.ts:
            self._last[server.name] = LastPoll(result.ts, samples, sessions)
            self._known[server.name] = {sample.session_id for sample in samples}
        return batch

    def _sessions(
        self, result: PollResult, server: ServerSettings, last: LastPoll | None
    ) -> dict[str, Seen]:
        """Return the session of each meeting by internal id, parents before breakouts."""
        before: dict[str, Seen] = last.sessions if last else {}
        now: dict[str, Seen] = {}
        for meeting in sorted(result.answer.meetings, key=attrgetter("breakout")):
            seen = before.get(meeting.internal_id)
            if seen is None:
                parent_id = meeting.parent_internal_id or ""
                parent = now.get(parent_id) or before.get(parent_id)
                seen = Seen(
                    session_id(server.name, meeting.internal_id),
                    self._attribution.place(meeting, server, parent and parent.place),
                )
            now[meeting.internal_id] = seen
        return now

    def _sample(self, result: PollResult, meeting: Meeting, seen: Seen) -> Sample:
        return Sample(
            result.ts,
            result.server,
            result.ts,
            seen.place.tenant,
            seen.session_id,
            meeting.participants,
            meeting.voice,
            meeting.video,
            meeting.listeners,
            meeting.dialins,
            self._interval_s,
            meeting.breakout,
            False,  # noqa: FBT003 - a row
            *_later_counts(meeting),
        )

    def _session_row(self, result: PollResult, meeting: Meeting, seen: Seen) -> SessionRow:
        return SessionRow(
            ts=result.ts,
            server=result.server,
            session_id=seen.session_id,
            internal_id=meeting.internal_id,
            started_at=self._started_at(result, meeting),
            tenant=seen.place.tenant,
            room=seen.place.room,
            # A breakout counts for its parent's room, so its own name would be wrong there.
            room_name=meeting.name if self._store_room_names and not meeting.breakout else None,
            parent_internal_id=meeting.parent_internal_id,
            breakout=meeting.breakout,
            recording=meeting.recording,
            origin=origin(meeting),
        )

    def _started_at(self, result: PollResult, meeting: Meeting) -> datetime:
        """Return when a meeting began by our clock; its createTime is by its server's clock.

        If the skew is more than `MAX_SKEW_S`, we assume that it was the same when the meeting
        began, and correct the start by it, in whole seconds like the Date header. If the start is
        still after the tick's end or more than a year ago, return the tick: the server's clock was
        changed since then, or it is wrong and the server does not send its time.
        """
        start_s = meeting.created_ms / 1000
        skew_s = result.clock_skew_s
        if skew_s is not None and abs(skew_s) > MAX_SKEW_S:
            start_s -= round(skew_s)
        tick_s = result.ts.timestamp()
        possible = tick_s - _MAX_AGE_S <= start_s <= tick_s + self._interval_s
        return utc(start_s) if possible else result.ts

    def _poll_row(self, result: PollResult, samples: list[Sample]) -> PollRow:
        row = PollRow(
            ts=result.ts,
            server=result.server,
            ok=result.ok,
            outcome=result.outcome,
            latency_ms=result.latency_ms,
            seconds=self._interval_s,
            skipped=result.answer.skipped,
        )
        if not result.ok:
            return row
        main = [sample for sample in samples if not sample.breakout]
        return row._replace(
            sessions=len(main),
            participants=sum(s.participants for s in main),
            voice=sum(s.voice for s in main),
            video=sum(s.video for s in main),
            listeners=sum(s.listeners for s in main),
            dialins=sum(s.dialins for s in main),
            breakouts=len(samples) - len(main),
        )
