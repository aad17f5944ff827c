"""A simulated fleet: the answer of each server at any instant, and the exact usage."""

from collections.abc import Iterator
from datetime import datetime

from collector.simulator.meeting import Meeting, meetings_of
from collector.simulator.plan import FleetPlan, epoch_ms
from collector.simulator.render import MeetingView, get_meetings
from collector.simulator.schedule import Schedule, Session
from collector.simulator.truth import Truth, measure


class Fleet:
    """The fleet of a plan. The same plan gives the same answers, in any order of calls.

    Only running sessions are kept in detail. All sessions so far need a few hundred bytes each.
    """

    def __init__(self, plan: FleetPlan) -> None:
        """Prepare the fleet of `plan`."""
        self.plan = plan
        self._schedule = Schedule(plan)
        self._servers = {
            name: _Server(plan, self._schedule.by_server[number])
            for number, name in enumerate(plan.server_names)
        }

    def answer(self, server: str, at: datetime) -> bytes:
        """Return the getMeetings XML of a server at an instant, not before the plan's start.

        Events at `at` itself have happened. Calls for a server are fast while `at` does not
        decrease. Raises KeyError for an unknown server, and ValueError for an instant before the
        plan's start.
        """
        view = self._servers[server]
        if at < self.plan.start:
            msg = f"{at} is before the start of the plan"
            raise ValueError(msg)
        instant_ms = epoch_ms(at)
        self._schedule.extend(instant_ms)
        return view.answer(instant_ms)

    def truth(self, since: datetime, until: datetime) -> Truth:
        """Return the exact usage in [since, until).

        Raises ValueError if the period is empty or begins before the plan's start.
        """
        if not self.plan.start <= since < until:
            msg = "since must be before until, and not before the start of the plan"
            raise ValueError(msg)
        names = [tenant.name for tenant in self.plan.tenants]
        return measure(names, self.meetings(since, until), since, until)

    def meetings(self, since: datetime, until: datetime) -> Iterator[Meeting]:
        """Yield all meetings, also breakouts, that are listed at some time in [since, until)."""
        since_ms, until_ms = epoch_ms(since), epoch_ms(until)
        self._schedule.extend(until_ms)
        for sessions in self._schedule.by_server:
            for session in sessions:
                if session.start_ms < until_ms and session.end_ms > since_ms:
                    for meeting in meetings_of(self.plan, session):
                        if meeting.start_ms < until_ms and meeting.end_ms > since_ms:
                            yield meeting


class _Server:
    """The meetings of one server. It moves forward in time; for an earlier time it starts over."""

    def __init__(self, plan: FleetPlan, sessions: list[Session]) -> None:
        self._plan = plan
        self._sessions = sessions  # the schedule appends to this list
        self._started = 0
        self._views: list[MeetingView] = []
        self._at_ms = 0

    def answer(self, instant_ms: int) -> bytes:
        if instant_ms < self._at_ms:
            self._started, self._views = 0, []
        self._at_ms = instant_ms
        while self._started < len(self._sessions):
            session = self._sessions[self._started]
            if session.start_ms > instant_ms:
                break
            self._started += 1
            if session.end_ms > instant_ms:
                self._views += map(MeetingView, meetings_of(self._plan, session))
        self._views = [view for view in self._views if view.end_ms > instant_ms]
        return get_meetings([xml for view in self._views if (xml := view.at(instant_ms))])
