"""Turns poll results into rows to store: attributes sessions, fills gaps, announces new sessions.

The pipeline remembers the last successful poll of each server, and the sessions of the minutes
before. This memory only saves work and fills gaps. After a restart, it is read back from the
database. It can be wrong if another collector polled the server in the meantime; the writer's SQL
statement catches that.
"""

from collections.abc import Collection, Container, Iterator, Mapping
from datetime import datetime, timedelta
from operator import itemgetter

from collector.clock import MAX_SKEW_S, utc
from collector.metering.attribution import Attribution, origin
from collector.metering.breakouts import with_excess
from collector.metering.gapfill import fill_gap
from collector.metering.sessions import View, remember, view_of
from collector.metering.tenants import KnownTenants
from collector.model import (
    LATER_COUNTS,
    Batch,
    EmptyRow,
    LastPoll,
    Meeting,
    PollResult,
    PollRow,
    Sample,
    Seen,
    SessionRow,
    Unseen,
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
        self.tenants = KnownTenants()
        # By server, the internal ids of meetings that count through another server's session.
        self.elsewhere: Mapping[str, Container[str]] = {}
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Apply changed settings, and keep the memory of servers that are still enabled."""
        self.tenants.most = settings.attribution.max_tenants
        self.tenants.add(tenant.name for tenant in settings.tenant)
        self._attribution = Attribution(settings.attribution, self.tenants)
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
        view = view_of(
            result.answer, server, last, self._attribution, self.elsewhere.get(server.name, ())
        )
        samples = self._samples(result, view)
        batch = Batch(polls=[self._poll_row(result, samples.values())], samples=[*samples.values()])
        announced = self._announce(batch, result, view)
        batch.unseen = [*self._not_read(result, view, last)]
        if last is not None and last.ts < result.ts:
            returned = samples.keys() & last.absent.keys()
            batch.unseen += self._missed(result, view, samples, last, returned)
            batch.samples += self._filled(result, samples, last, returned)
        if last is None or last.ts < result.ts:
            self._last[server.name] = remember(
                result,
                [*samples.values()],
                view,
                last,
                self._interval_s,
                timedelta(seconds=self._max_gap_s),
            )
            self._known[server.name] = announced
        return batch

    def _announce(self, batch: Batch, result: PollResult, view: View) -> set[int]:
        """Add the rows of sessions that are not announced yet; return what is announced now.

        An empty session is announced as the complement of its number: when somebody joins, it must
        be announced again.
        """
        now = {sample.session_id for sample in batch.samples}
        if len(now) < len(view.sessions):
            now.update(~seen.session_id for seen in view.sessions.values() if seen.empty)
        new = now - self._known.get(result.server, set())
        if not new:
            return now
        for meeting in result.answer.meetings:
            seen = view.sessions.get(meeting.internal_id)
            if seen is None:
                continue
            if seen.empty:
                if ~seen.session_id in new:
                    batch.empties.append(self._empty_row(result, meeting, seen))
            elif seen.session_id in new:
                row = self._session_row(result, meeting, seen)
                if meeting.internal_id in view.begun:
                    row = row._replace(started_at=result.ts)
                batch.sessions.append(row)
                if meeting.joined is None and not (meeting.participants or seen.nested):
                    batch.empties.append(self._empty_row(result, meeting, seen))
        return now

    def _samples(self, result: PollResult, view: View) -> dict[str, Sample]:
        """Return the samples of an answer by internal id, parents with their breakouts' excess."""
        sessions = view.sessions
        samples = {
            meeting.internal_id: self._sample(result, meeting, seen)
            for meeting in result.answer.meetings
            if (seen := sessions.get(meeting.internal_id)) and not seen.empty
        }
        for parent, breakouts in view.nested.items():
            samples[parent] = with_excess(samples[parent], [samples[x] for x in breakouts])
        return samples

    def _filled(
        self, result: PollResult, samples: Mapping[str, Sample], last: LastPoll, returned: set[str]
    ) -> Iterator[Sample]:
        """Yield filled samples of sessions after failed polls, and of those that came back."""
        if last.ts < result.ts - timedelta(seconds=self._interval_s):
            earlier = {sample.session_id: sample for sample in last.samples}
            for late in samples.values():
                if early := earlier.get(late.session_id):
                    yield from fill_gap(early, late, self._max_gap_s)
        for internal_id in returned:
            absent, late = last.absent[internal_id], samples[internal_id]
            if absent.sample is not None and absent.sample.session_id == late.session_id:
                yield from fill_gap(absent.sample, late, self._max_gap_s, absent.counted)

    def _not_read(self, result: PollResult, view: View, last: LastPoll | None) -> Iterator[Unseen]:
        """Yield what the answer has and does not tell: unread and contradictory meetings."""
        answer = result.answer
        if not (answer.skipped or answer.doubtful or view.undecided):
            return
        elsewhere = self.elsewhere.get(result.server, ())
        for internal_id in answer.unread | answer.doubtful | view.undecided:
            seen = view.sessions.get(internal_id)
            if seen is None and last is not None:
                seen = last.known(internal_id)
            if seen is None:
                # It is none of the known sessions, so they are not doubtful.
                unknown = session_id(result.server, "", internal_id, 0)
                yield self._unseen(result, result.ts, None, unknown)
            elif not (seen.empty or internal_id in elsewhere):
                yield self._unseen(result, result.ts, seen.place.tenant, seen.session_id)
        if anonymous := answer.skipped - len(answer.unread):
            yield self._unseen(result, result.ts, None, None)._replace(sessions=anonymous)

    def _missed(
        self,
        result: PollResult,
        view: View,
        samples: Mapping[str, Sample],
        last: LastPoll,
        returned: set[str],
    ) -> Iterator[Unseen]:
        """Yield the successful polls that did not show sessions which came back.

        Of breakouts, it does so only for those with more people than their parent has itself: the
        others count there all the time.
        """
        people = {meeting.internal_id: meeting.participants for meeting in result.answer.meetings}
        beyond = {
            breakout
            for parent, breakouts in view.nested.items()
            if samples[parent].participants > people[parent]
            for breakout in breakouts
        }
        for internal_id in returned:
            absent, late = last.absent[internal_id], samples[internal_id]
            before, now = absent.seen, view.sessions[internal_id]
            if before.empty or before.created_ms not in {None, now.created_ms}:
                continue
            if late.breakout and before.nested and internal_id not in beyond:
                continue
            session = late.session_id if before.nested else before.session_id
            for at, seconds in (*last.earlier, (last.ts, last.seconds)):
                if at > absent.ts and at not in absent.unread:
                    unseen = self._unseen(result, at, late.tenant, session)
                    yield unseen._replace(seconds=seconds)

    def _unseen(
        self, result: PollResult, at: datetime, tenant: str | None, session: int | None
    ) -> Unseen:
        return Unseen(result.ts, result.server, at, tenant, session, 1, self._interval_s)

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
            seen.nested,
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
            # Not NULL, as a client can have chosen its internal id.
            parent_internal_id=meeting.parent_internal_id or ("" if meeting.breakout else None),
            breakout=seen.nested,
            recording=meeting.recording,
            origin=origin(meeting),
        )

    def _empty_row(self, result: PollResult, meeting: Meeting, seen: Seen) -> EmptyRow:
        return EmptyRow(
            ts=result.ts,
            server=result.server,
            session_id=seen.session_id,
            started_at=self._started_at(result, meeting),
            tenant=seen.place.tenant,
            room=seen.place.room,
            is_known=seen.empty,
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

    def _poll_row(self, result: PollResult, samples: Collection[Sample]) -> PollRow:
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
