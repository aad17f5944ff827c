"""The simulator: its fleet's answers are BigBlueButton's, and its truth is the truth about them."""

import json
import random
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from lxml import etree

from collector.metering.attribution import Attribution
from collector.model import Place
from collector.settings import AttributionSettings, ServerSettings
from collector.simulator import Fleet, FleetPlan, Rhythm, SimTenant, Truth
from collector.simulator.marks import attribution_rules
from collector.simulator.meeting import Meeting, Span, Stay
from collector.simulator.people import Person
from collector.simulator.plan import MARKS, epoch_ms, instant_of, sim_tenants
from collector.simulator.render import NO_MEETINGS, MeetingView, get_meetings
from collector.simulator.truth import measure
from collector.sources.polling.parser import parse_meetings
from tests.support.repository import SAMPLES

START = datetime(2026, 3, 2, 8, tzinfo=UTC)
TENANTS = sim_tenants(6)
MILLISECOND = timedelta(milliseconds=1)


def plan(seed: int = 1, **changes: object) -> FleetPlan:
    """Return a plan of a busy little fleet with everything in it."""
    given: dict[str, object] = {
        "start": START,
        "end": START + timedelta(days=1),
        "tenants": TENANTS,
        "servers": 3,
        "concurrent_sessions": 15,
        "mean_length_s": 900,
        "max_length_s": 7200,
        "large_share": 0.02,
        "breakout_share": 0.4,
        "dialin_share": 0.4,
        **changes,
    }
    return FleetPlan(seed=seed, **given)  # type: ignore[arg-type]


def meetings_at(fleet: Fleet, at: datetime) -> list[tuple[str, etree._Element]]:
    """Return (server, `<meeting>`) of the whole fleet at `at`, parsed strictly."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    return [
        (server, meeting)
        for server in fleet.plan.server_names
        for meeting in etree.fromstring(fleet.answer(server, at), parser).iter("meeting")
    ]


def text(element: etree._Element, tag: str) -> str:
    """Return the text of a child that must be there."""
    found = element.findtext(tag)
    assert found is not None
    return found


def count(meeting: etree._Element, tag: str) -> int:
    """Return a count, thousands separators taken out."""
    return int(text(meeting, tag).replace(",", ""))


def speakers(meeting: etree._Element) -> set[str]:
    """Return the user ids of those who are in the voice conference."""
    attendees = meeting.iter("attendee")
    return {text(a, "userID") for a in attendees if text(a, "hasJoinedVoice") == "true"}


def moments(seed: int, number: int, within: timedelta) -> list[datetime]:
    """Return random instants, whole milliseconds, in their order."""
    rng = random.Random(seed)
    most_ms = int(within / MILLISECOND)
    return sorted(START + rng.randrange(most_ms) * MILLISECOND for _ in range(number))


class TestAnswers:
    """`Fleet.answer`."""

    def test_same_seed_same_answers(self) -> None:
        """Two fleets of one plan answer alike, byte by byte; another seed's fleet does not."""
        at = START + timedelta(hours=1)
        one, two, other = Fleet(plan()), Fleet(plan()), Fleet(plan(seed=2))
        assert [one.answer(s, at) for s in one.plan.server_names] == [
            two.answer(s, at) for s in two.plan.server_names
        ]
        assert one.answer("sim01", at) != other.answer("sim01", at)

    def test_order_of_calls_does_not_matter(self) -> None:
        """Going back in time, or asking the truth first, gives the same answers."""
        instants = moments(3, 40, timedelta(hours=2))
        fleet = Fleet(plan())
        forward = {at: fleet.answer("sim02", at) for at in instants}
        shuffled = random.Random(4).sample(instants, len(instants))
        other = Fleet(plan())
        other.truth(START, START + timedelta(hours=3))
        assert {at: other.answer("sim02", at) for at in shuffled} == forward

    def test_unchanged_meetings_are_not_rendered_again(self) -> None:
        """Between two events a meeting's bytes are the very same object."""
        (meeting, *_) = Fleet(plan()).meetings(START, START + timedelta(hours=1))
        view = MeetingView(meeting)
        edges = sorted({edge for s in meeting.stays for edge in (s.join_ms, s.left_ms)})
        before_ms, after_ms = max(pairwise(edges), key=lambda pair: pair[1] - pair[0])
        # Voice and webcams may change in between, the second half of the gap is quiet enough.
        quiet_ms = after_ms - 2
        assert view.at(before_ms)
        quiet = view.at(quiet_ms)
        assert view.at(quiet_ms + 1) is quiet
        assert view.at(after_ms) != quiet

    def test_what_cannot_be_answered(self) -> None:
        """Unknown servers and instants before the plan's start are errors of the caller."""
        fleet = Fleet(plan())
        with pytest.raises(KeyError):
            fleet.answer("sim99", START)
        with pytest.raises(ValueError, match="before the start"):
            fleet.answer("sim01", START - MILLISECOND)
        with pytest.raises(ValueError, match="since must be before until"):
            fleet.truth(START, START)

    def test_no_meetings(self) -> None:
        """A server without meetings answers as BigBlueButton does."""
        late = START + timedelta(days=3)
        assert Fleet(plan()).answer("sim01", late) == NO_MEETINGS
        assert (SAMPLES / "no-meetings.xml").read_bytes() == NO_MEETINGS


def person(user_id: str, name: str, role: str = "VIEWER", **more: object) -> Person:
    """Return a person of the sample."""
    return Person(user_id, name, role, **more)  # type: ignore[arg-type]


class TestTemplate:
    """The XML is laid out as BigBlueButton's template lays it out."""

    def test_byte_by_byte(self) -> None:
        """The sample, rendered from its facts by BigBlueButton's template, comes out the same."""
        created_ms = 1755772800000
        ever = Span(created_ms + 1, created_ms + 9_000_000)
        on = (ever,)
        metadata = {
            "bbb-context-id": "42",
            "bbb-context-name": 'Mathe 1 "A&B"',
            "bbb-origin": "Moodle",
            "bbb-origin-server-name": "lms.example.edu",
            "bbblb-tenant": "acme",
            "bbblb-uuid": "6c0b6c0e-2f1e-4a55-9d2f-0d2f4b6e1c11",
            "endcallbackurl": "https://lms.example.edu/cb?x=1&y=2",
        }
        style = ("bbb_custom_style", "a:focus{color:#0181eb}")
        ada = person("u-100", "Ada Lovelace", "MODERATOR", presenter=True, customdata=style)
        bob, left = person("u-101", "Bob"), person("u-102", "Left User")
        caller = person("v_abcdef123456", "49301234567", "DIAL-IN-USER")
        guest = person("w_k961xjhcwvn2-1", "Ada Lovelace", "MODERATOR", presenter=True)
        common = {"tenant": "acme", "server": "s", "old": True, "room": "r", "voice_bridge": 70123}
        room_1 = Meeting(
            **common,  # type: ignore[arg-type]
            name="Room 1",
            external_id="b3912cda0e6a71788b0262532283a85e36336e2e-1755773400000",
            start_ms=1755773400000,
            end_ms=ever.end_ms,
            metadata=metadata,
            stays=(Stay(guest, *ever, ever.end_ms, voice=on),),
            duration_min=15,
            sequence=1,
            parent_internal_id="f029f947dcc2f6b1df95cddc19eb4a82a598556c-1755772800000",
        )
        main = Meeting(
            **common,  # type: ignore[arg-type]
            name="Analysis I & <b>Übung</b>",
            external_id="course-42-bbblb-acme",
            start_ms=created_ms,
            end_ms=ever.end_ms,
            metadata=metadata,
            stays=(
                Stay(ada, *ever, ever.end_ms, voice=on, video=on * 2),
                Stay(bob, *ever, ever.end_ms, listening=on),
                Stay(left, ever.start_ms, ever.start_ms + 1, ever.end_ms),
                Stay(caller, *ever, ever.end_ms, voice=on),
                Stay(bob, *ever, ever.end_ms, voice=on, video=on),
            ),
            duration_min=90,
            max_users=1500,
            recording=True,
            breakouts=(room_1,),
        )
        empty = Meeting(
            **common,  # type: ignore[arg-type]
            name="Empty",
            external_id="empty-room-bbblb-beta",
            start_ms=1755773700000,
            end_ms=ever.end_ms,
            metadata={"bbblb-tenant": "beta"},
            stays=(),
        )
        at_ms = 1755773800000
        answer = get_meetings([MeetingView(m).at(at_ms) for m in (main, room_1, empty)])
        sample = (SAMPLES / "bbb-3.0-tenants-breakout-dialin.xml").read_bytes()
        assert answer.decode().splitlines() == sample.decode().splitlines()
        assert answer == sample

    def test_counts_without_separator(self) -> None:
        """The BBB 3 template writes large counts plainly, the old one as the sample has it."""
        stays = tuple(Stay(person(f"w_{n}", "X"), 1, 9, 9) for n in range(1202))
        new = Meeting(*("acme", "sim01", False), *("big", "Big", "big"), 0, 10, {}, stays, 70123)
        assert b"<participantCount>1202</participantCount>" in MeetingView(new).at(5)
        separated = b"<participantCount>1,202</participantCount>"
        assert separated in MeetingView(replace(new, old=True)).at(5)
        assert separated in (SAMPLES / "1202-participants-comma.xml").read_bytes()

    def test_elements_of_a_whole_fleet(self) -> None:
        """Every meeting of a fleet has the sample's elements in the sample's order."""
        sample = etree.parse(SAMPLES / "bbb-3.0-tenants-breakout-dialin.xml")
        main, breakout, empty = (
            [child.tag for child in meeting] for meeting in sample.iter("meeting")
        )
        attendee = [child.tag for child in next(sample.iter("attendee"))]
        fleet = Fleet(plan())
        for at in moments(5, 20, timedelta(hours=3)):
            for _, meeting in meetings_at(fleet, at):
                assert [child.tag for child in meeting] in (main, breakout, empty)
                for person_ in meeting.iter("attendee"):
                    assert [child.tag for child in person_] in (attendee, attendee[:-1])

    def test_awkward_texts_are_escaped(self) -> None:
        """Names with markup, quotes, umlauts and emoji arrive as they were meant."""
        at = START + timedelta(hours=1)
        fleet = Fleet(plan(concurrent_sessions=60))
        names = {
            a.findtext("fullName") for _, m in meetings_at(fleet, at) for a in m.iter("attendee")
        }
        rooms = {text(meeting, "meetingName") for _, meeting in meetings_at(fleet, at)}
        assert {"<b>Max</b> Power", "O'Neil & Sons", "Ada 🐝 Bee", "]]> CDATA"} <= names
        assert "spaced out" in names
        assert any("<b>Übung</b>" in room for room in rooms)

    def test_thousands_separator_and_listeners_on_the_old_server_only(self) -> None:
        """Huge sessions run on the BBB 2.x server, as `1,202`; BBB 3 counts listeners as voice."""
        fleet = Fleet(plan(huge_share=0.05, concurrent_sessions=30))
        separated, listening = set(), set()
        for at in moments(6, 10, timedelta(hours=3)):
            for server, meeting in meetings_at(fleet, at):
                if "," in text(meeting, "participantCount"):
                    assert count(meeting, "participantCount") >= 1000
                    separated.add(server)
                else:
                    assert count(meeting, "participantCount") < 1000
                if count(meeting, "listenerCount"):
                    listening.add(server)
        assert separated == listening == {"sim03"}


class TestSessions:
    """What sessions do, as their servers list them."""

    def test_breakouts(self) -> None:
        """A breakout runs beside its parent, with its metadata, and its people are in both."""
        fleet = Fleet(plan())
        seen = 0
        for at in moments(7, 30, timedelta(hours=3)):
            listed = meetings_at(fleet, at)
            mains = {(s, text(m, "internalMeetingID")): m for s, m in listed}
            for server, meeting in listed:
                if text(meeting, "isBreakout") == "false":
                    continue
                parent = mains[server, text(meeting, "parentMeetingID")]
                assert text(parent, "isBreakout") == "false"
                metadata = [(e.tag, e.text) for e in meeting.iterfind("metadata/*")]
                assert metadata == [(e.tag, e.text) for e in parent.iterfind("metadata/*")]
                ids = [e.text for e in parent.iterfind("breakoutRooms/breakout")]
                assert text(meeting, "meetingID") in ids
                assert len(text(meeting, "meetingID").split("-")[0]) == 40
                inside = {u.text.rpartition("-")[0] for u in meeting.iter("userID") if u.text}
                assert inside <= {u.text for u in parent.iter("userID")}
                moved = {user.rpartition("-")[0] for user in speakers(meeting)}
                assert not moved & speakers(parent)
                seen += len(moved)
        assert seen > 50

    def test_a_parent_lists_its_breakouts_while_they_run(self) -> None:
        """`breakoutRooms` appears with the first breakout and goes with the last."""
        meetings = list(Fleet(plan()).meetings(START, START + timedelta(hours=6)))
        parents = [meeting for meeting in meetings if meeting.breakouts]
        for parent in parents:
            view = MeetingView(parent)
            first_ms = min(breakout.start_ms for breakout in parent.breakouts)
            last_ms = max(breakout.end_ms for breakout in parent.breakouts)
            assert b"<breakoutRooms>" not in view.at(first_ms - 1)
            assert view.at(first_ms).count(b"<breakout>") == 1
            assert view.at(last_ms - 1).count(b"<breakout>") == len(parent.breakouts)
            assert b"<breakoutRooms>" not in view.at(last_ms)
        assert parents

    def test_a_room_has_one_session_at_a_time(self) -> None:
        """On the whole fleet a room's sessions follow each other, and rooms are used again."""
        by_room = defaultdict(list)
        for session in Fleet(plan()).truth(START, START + timedelta(days=1)).sessions:
            if not session.breakout:
                by_room[session.tenant, session.room].append(session)
        for sessions in by_room.values():
            sessions.sort(key=lambda session: session.start)
            assert all(one.end <= two.start for one, two in pairwise(sessions))
        assert max(map(len, by_room.values())) > 3

    def test_empty_sessions_linger(self) -> None:
        """A meeting stays listed 5 minutes if nobody joins, 1 minute after the last one left."""
        unjoined, ended, lingering = 0, 0, 0
        for meeting in Fleet(plan()).meetings(START, START + timedelta(days=1)):
            last_left_ms = max((stay.left_ms for stay in meeting.stays), default=None)
            if meeting.sequence:
                continue
            if last_left_ms is None:
                assert meeting.end_ms - meeting.start_ms == 300_000
                unjoined += 1
            elif last_left_ms == meeting.end_ms:
                ended += 1
            else:
                assert meeting.end_ms - last_left_ms == 60_000
                lingering += 1
                view = MeetingView(meeting)
                xml = view.at(meeting.end_ms - 1)
                assert b"<participantCount>0<" in xml
                assert not view.at(meeting.end_ms)
        assert min(unjoined, ended, lingering) > 10

    def test_stays_are_consistent(self) -> None:
        """Nobody is in a meeting before or after it, nor speaks while not listed."""
        for meeting in Fleet(plan()).meetings(START, START + timedelta(hours=6)):
            joins = [stay.join_ms for stay in meeting.stays]
            assert joins == sorted(joins)
            for stay in meeting.stays:
                assert meeting.start_ms < stay.join_ms < stay.left_ms <= stay.gone_ms
                assert stay.gone_ms <= meeting.end_ms
                for start_ms, end_ms in (*stay.voice, *stay.listening, *stay.video):
                    assert stay.join_ms <= start_ms <= end_ms <= stay.gone_ms

    def test_sizes_and_lengths(self) -> None:
        """Concurrency is as planned; lengths and sizes have their short, long and large ones."""
        fleet = Fleet(plan(concurrent_sessions=60, mean_length_s=1800, max_length_s=28_800))
        truth = fleet.truth(START, START + timedelta(days=1))
        mean = sum(t.session_seconds for t in truth.tenants.values()) / 86_400
        assert mean == pytest.approx(60, rel=0.15)
        mains = [session for session in truth.sessions if not session.breakout]
        minutes = [(session.end - session.start).total_seconds() / 60 for session in mains]
        assert sum(m < 0.5 for m in minutes) > 10
        assert sum(m > 120 for m in minutes) > 10
        assert sum(session.max_participants > 100 for session in mains) > 10

    def test_placement_spreads_the_load(self) -> None:
        """Servers get about as many participants each, and tenants about their shares."""
        truth = Fleet(plan(large_share=0, huge_share=0)).truth(START, START + timedelta(days=1))
        load: Counter[str] = Counter()
        for session in truth.sessions:
            load[session.server] += int(session.participant_seconds)
        assert max(load.values()) < 1.3 * min(load.values())
        sessions = [truth.tenants[tenant.name].sessions for tenant in TENANTS]
        assert sessions[0] > 1.5 * sessions[1] > sessions[5] > 0

    def test_rhythm(self) -> None:
        """Days are busier than nights in the time zone, and weekends are quiet."""
        rhythm = Rhythm(amplitude=0.9, time_zone="Europe/Berlin", weekend=0.2)
        hours = [START + timedelta(hours=hour) for hour in range(168)]
        factors = [rhythm.at(epoch_ms(hour)) for hour in hours]
        assert sum(factors) / 168 == pytest.approx(1, rel=0.01)
        assert max(factors) <= rhythm.highest
        assert hours[factors.index(max(factors))].hour == 12  # 13 h in Berlin's winter
        fleet = Fleet(plan(end=START + timedelta(days=7), rhythm=rhythm))
        monday = fleet.truth(START, START + timedelta(hours=8))
        sunday = fleet.truth(START + timedelta(days=6), START + timedelta(days=6, hours=8))
        assert len(monday.sessions) > 2 * len(sunday.sessions)

    def test_lively_within_80_seconds(self) -> None:
        """The demo's plan shows every kind of event within 80 seconds."""
        until = START + timedelta(seconds=80)
        lively = FleetPlan.lively(seed=1, start=START, end=until, tenants=TENANTS)
        fleet = Fleet(lively)
        whole = [m for m in fleet.meetings(START, until) if m.start_ms >= epoch_ms(START)]
        over = [meeting for meeting in whole if meeting.end_ms < epoch_ms(until)]
        assert len(over) > 5
        assert any(meeting.sequence for meeting in whole)
        truth = fleet.truth(START, until)
        assert all(tenant.participant_seconds > 0 for tenant in truth.tenants.values())
        assert sum(tenant.dialin_seconds for tenant in truth.tenants.values()) > 0
        mean = sum(t.session_seconds for t in truth.tenants.values()) / 80
        assert mean == pytest.approx(lively.concurrent_sessions, rel=0.4)


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
                    ("session_seconds", 1),
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
            meeting(30_000, 30_001),  # on a tick, for a millisecond
            meeting(30_001, 60_000),  # between the ticks
            meeting(60_000, 90_000),  # after the period
        ]
        listed = [m for m in meetings if m.start_ms < until_ms]
        truth = measure(["acme"], listed, instant_of(since_ms), instant_of(until_ms))
        figures = truth.tenants["acme"]
        assert figures.max_session_size == 3
        assert figures.participant_seconds == 9 + 50 + 50 + 0.001
        assert figures.peak_participants == pytest.approx(109.001 / 60)
        assert figures.peak_minute == START
        assert (figures.sessions, truth.sessions_outliving(30)) == (2, {"acme": 1})
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
            for key in (*self.SUMS, "sessions"):
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
            seen |= {text(m, "internalMeetingID") for _, m in meetings_at(fleet, at)}
            at += timedelta(seconds=interval_s)
        expected = Counter(
            session.tenant
            for session in truth.sessions
            if session.internal_id in seen and session.start >= START and not session.breakout
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


class TestMarks:
    """Tenants can be told from the answers."""

    def test_the_collector_finds_tenant_and_room(self) -> None:
        """The collector's parser and rules give every meeting the truth's tenant and room."""
        tenants = (*TENANTS, SimTenant("north-2", "prefix"))
        assert {tenant.mark for tenant in tenants} == set(MARKS)
        fleet = Fleet(plan(tenants=tenants, concurrent_sessions=60))
        at = START + timedelta(hours=1)
        true = {s.internal_id: s for s in fleet.truth(at, at + MILLISECOND).sessions}
        rules = AttributionSettings.model_validate({"rules": attribution_rules(tenants)})
        attribution = Attribution(rules)
        found: dict[str, Place] = {}
        for name in fleet.plan.server_names:
            server = ServerSettings.model_validate(
                {"name": name, "url": "http://127.0.0.1/", "secret": "s"}
            )
            answer = parse_meetings(fleet.answer(name, at), metadata_keys=attribution.metadata_keys)
            assert not answer.skipped
            for meeting in answer.meetings:
                found[meeting.internal_id] = attribution.place(
                    meeting, server, found.get(meeting.parent_internal_id or "")
                )
                ours = true[meeting.internal_id]
                if ours.tenant == "acme" and not meeting.breakout:
                    assert meeting.external_id == f"{ours.room}-bbblb-acme"
        assert found == {key: Place(s.tenant, s.room) for key, s in true.items()}
        assert {place.tenant for place in found.values()} == {t.name for t in tenants}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"start": START.replace(tzinfo=None)}, "start must have a time zone"),
        ({"end": START}, "end must be after start"),
        ({"servers": 0}, "servers must be 1"),
        ({"tenants": ()}, "tenants must be 1"),
        ({"tenants": TENANTS * 2}, "differ in name"),
        ({"tenants": (SimTenant("a", "moodle", 0),)}, "share above 0"),
        ({"concurrent_sessions": 0}, "concurrent_sessions"),
        ({"mean_size": 0.5}, "mean_size"),
        ({"min_length_s": 100}, "empty_linger_s"),
    ],
)
def test_senseless_plans(changes: dict[str, object], problem: str) -> None:
    """A plan that makes no sense is refused with the field's name."""
    with pytest.raises(ValueError, match=problem):
        plan(seed=1, **changes)
