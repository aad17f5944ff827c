"""The simulator's truth is the truth about its answers."""

import json
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from collector.simulator import Fleet, SimTenant, Truth
from collector.simulator.meeting import Meeting, Stay
from collector.simulator.plan import epoch_ms, instant_of
from collector.simulator.render import MeetingView
from collector.simulator.truth import measure
from tests.support.fleets import (
    MILLISECOND,
    START,
    TENANTS,
    count,
    meetings_at,
    moments,
    person,
    plan,
    text,
)


class TestTruth:
    """`Fleet.truth` against the XML."""

    def test_equals_the_integral_of_the_answers(self) -> None:
        """Asking at every event and integrating between gives the truth, figure by figure."""
        fleet = Fleet(plan(servers=2, concurrent_sessions=5, huge_share=0.01))
        since = START + timedelta(seconds=100.123)
        until = since + timedelta(seconds=1500.777)
        truth = fleet.truth(since, until)
        tenant_of = {session.internal_id: session.tenant for session in truth.sessions}
        sums: dict[tuple[str, str], float] = defaultdict(float)
        minutes: dict[tuple[str, str, int], float] = defaultdict(float)
        largest: Counter[str] = Counter()
        own: dict[str, float] = defaultdict(float)
        for at, length_s in self._steps(fleet, since, until):
            for _, meeting in meetings_at(fleet, at):
                internal_id = text(meeting, "internalMeetingID")
                tenant = tenant_of[internal_id]
                participants = count(meeting, "participantCount")
                own[internal_id] += participants * length_s
                if text(meeting, "isBreakout") == "true":
                    sums[tenant, "breakout_participant_seconds"] += participants * length_s
                    continue
                clients = [element.text for element in meeting.iter("clientType")]
                for key, value in (
                    ("participant_seconds", participants),
                    ("voice_seconds", count(meeting, "voiceParticipantCount")),
                    ("video_seconds", count(meeting, "videoCount")),
                    ("listener_seconds", count(meeting, "listenerCount")),
                    ("dialin_seconds", clients.count("DIAL-IN")),
                    ("session_seconds", text(meeting, "hasUserJoined") == "true"),
                ):
                    sums[tenant, key] += value * length_s
                    minutes[tenant, key, epoch_ms(at) // 60_000] += value * length_s / 60
                largest[tenant] = max(largest[tenant], participants)
        for tenant, figures in truth.tenants.items():
            for key in self.SUMS:
                assert getattr(figures, key) == pytest.approx(sums[tenant, key], abs=1e-6), key
            assert figures.max_session_size == largest[tenant]
            for key, peak in (
                ("participant_seconds", figures.peak_participants),
                ("session_seconds", figures.peak_sessions),
            ):
                means = {m: v for (t, k, m), v in minutes.items() if (t, k) == (tenant, key)}
                assert peak == pytest.approx(max(means.values(), default=0))
                if key == "participant_seconds" and peak:
                    assert figures.peak_minute is not None
                    assert means[epoch_ms(figures.peak_minute) // 60_000] == pytest.approx(peak)
        for session in truth.sessions:
            assert session.participant_seconds == pytest.approx(own[session.internal_id], abs=1e-6)
        assert all(sum(sums[t, key] for t in truth.tenants) > 0 for key in self.SUMS)

    SUMS = (
        "participant_seconds",
        "voice_seconds",
        "video_seconds",
        "listener_seconds",
        "dialin_seconds",
        "session_seconds",
        "breakout_participant_seconds",
    )

    @staticmethod
    def _steps(fleet: Fleet, since: datetime, until: datetime) -> list[tuple[datetime, float]]:
        """Return every instant at which anything changes or a minute begins, and how long until."""
        first_ms, last_ms = epoch_ms(since), epoch_ms(until)
        edges = {first_ms, last_ms, *range(-(-first_ms // 60_000) * 60_000, last_ms, 60_000)}
        for meeting in fleet.meetings(since, until):
            edges |= {meeting.start_ms, meeting.end_ms}
            for stay in meeting.stays:
                spans = (stay.present, *stay.voice, *stay.listening, *stay.video)
                edges |= {edge for span in spans for edge in span}
        inside = sorted(edge for edge in edges if first_ms <= edge <= last_ms)
        return [(instant_of(a), (b - a) / 1000) for a, b in pairwise(inside)]

    def test_equals_the_counts_at_any_instant(self) -> None:
        """The truth of one millisecond is what the servers report in it."""
        fleet = Fleet(plan())
        for at in moments(8, 25, timedelta(hours=6)):
            truth = fleet.truth(at, at + MILLISECOND)
            mains = [m for _, m in meetings_at(fleet, at) if text(m, "isBreakout") == "false"]
            for tag, figure in (
                ("participantCount", "participant_seconds"),
                ("voiceParticipantCount", "voice_seconds"),
                ("videoCount", "video_seconds"),
            ):
                total = sum(getattr(tenant, figure) for tenant in truth.tenants.values()) * 1000
                assert total == pytest.approx(sum(count(meeting, tag) for meeting in mains))
            sizes = {s.internal_id: s.max_participants for s in truth.sessions if not s.breakout}
            assert sizes == {
                text(m, "internalMeetingID"): count(m, "participantCount") for m in mains
            }

    def test_edges(self) -> None:
        """At an instant, who joins is there and who leaves is not; so at ticks and period ends."""
        since_ms = epoch_ms(START)
        until_ms = since_ms + 60_000

        def meeting(start_ms: int, end_ms: int, *stays: tuple[int, int]) -> Meeting:
            people = tuple(
                Stay(person("w_1", "X"), since_ms + join_ms, since_ms + left_ms, since_ms + left_ms)
                for join_ms, left_ms in stays
            )
            return Meeting(
                *("acme", "sim01", False, "room", "Room", f"room-{start_ms}"),
                *(since_ms + start_ms, since_ms + end_ms, {}, people, 70123),
            )

        meetings = [
            # Three are there at the beginning; one leaves as another joins: never four.
            meeting(
                -9000, 60_000, (-9, 0), (-9, 0), (0, 9000), (0, 50_000), (-9, 50_000), (9000, 9001)
            ),
            meeting(30_000, 30_001, (30_000, 30_001)),  # on a tick, for a millisecond
            meeting(30_001, 60_000, (30_001, 30_002)),  # between the ticks
            meeting(20_000, 60_000),  # nobody joins
            meeting(60_000, 90_000),  # after the period
        ]
        listed = [m for m in meetings if m.start_ms < until_ms]
        truth = measure(["acme"], listed, instant_of(since_ms), instant_of(until_ms))
        figures = truth.tenants["acme"]
        assert figures.max_session_size == 3
        assert figures.participant_seconds == 9 + 50 + 50 + 0.003
        assert figures.peak_participants == pytest.approx(109.003 / 60)
        assert figures.peak_minute == START
        assert (figures.sessions, truth.sessions_outliving(30)) == (2, {"acme": 1})
        assert figures.empty_sessions == 1
        shown = [MeetingView(meetings[0]).at(since_ms + at_ms) for at_ms in (0, 8999, 9000, 9001)]
        expected = [3, 3, 3, 2]
        assert [xml.count(b"<attendee>") for xml in shown] == expected

    def test_periods_add_up(self) -> None:
        """The truths of two adjoining periods sum up to that of both."""
        fleet = Fleet(plan())
        middle, end = START + timedelta(seconds=4321.5), START + timedelta(hours=3)
        whole = fleet.truth(START, end)
        parts = fleet.truth(START, middle), fleet.truth(middle, end)
        for tenant, figures in whole.tenants.items():
            for key in (*self.SUMS, "sessions", "empty_sessions"):
                total = sum(getattr(part.tenants[tenant], key) for part in parts)
                assert getattr(figures, key) == pytest.approx(total)

    @pytest.mark.parametrize("interval_s", [5, 30, 60])
    def test_sessions_outliving(self, interval_s: int) -> None:
        """The sessions that polls can see are those that are listed at one tick at least."""
        fleet = Fleet(plan(servers=2, short_share=0.3, mean_length_s=400))
        until = START + timedelta(minutes=30, seconds=7)
        truth = fleet.truth(START, until)
        seen = set()
        at = START
        while at < until:
            seen |= {
                text(m, "internalMeetingID")
                for _, m in meetings_at(fleet, at)
                if text(m, "hasUserJoined") == "true"
            }
            at += timedelta(seconds=interval_s)
        expected = Counter(
            session.tenant
            for session in truth.sessions
            if session.internal_id in seen
            and session.joined is not None
            and session.joined >= START
            and not session.breakout
        )
        assert Counter(truth.sessions_outliving(interval_s)) == expected
        assert expected.total() < sum(tenant.sessions for tenant in truth.tenants.values())

    def test_json(self) -> None:
        """The JSON holds all figures, and the sessions that each poll interval can see."""
        truth = Fleet(plan()).truth(START, START + timedelta(minutes=10))
        content = json.loads(truth.to_json())
        assert datetime.fromisoformat(content["until"]) == truth.until
        assert len(content["sessions"]) == len(truth.sessions)
        acme = content["tenants"]["acme"]
        assert acme["participant_seconds"] == truth.tenants["acme"].participant_seconds
        assert content["sessions_outliving"]["30"] == truth.sessions_outliving(30)

    def test_a_tenant_without_sessions(self) -> None:
        """A tenant that did nothing has zeros, and no peak minute."""
        quiet = SimTenant("quiet", "prefix", 1e-9)
        truth: Truth = Fleet(plan(tenants=(*TENANTS, quiet))).truth(START, START + MILLISECOND)
        assert truth.tenants["quiet"].participant_seconds == 0
        assert truth.tenants["quiet"].peak_minute is None
