"""The XML of the simulator's answers is BigBlueButton's."""

from dataclasses import replace
from datetime import timedelta

from lxml import etree

from collector.simulator import Fleet
from collector.simulator.meeting import Meeting, Span, Stay
from collector.simulator.render import MeetingView, get_meetings
from tests.support.fleets import START, count, meetings_at, moments, person, plan, text
from tests.support.repository import SAMPLES


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
