"""The parser of getMeetings answers: samples, rules, and each value that a server sends."""

import re
import unittest.mock
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.errors import NotXmlError
from collector.model import LATER_COUNTS, Answer, Meeting
from collector.sources.polling import parser
from collector.sources.polling.parser import parse_meetings
from tests.support.meetings import (
    CREATED_MS,
    ID,
    Person,
    answer_xml,
    as_text,
    identity,
    meeting_xml,
    only,
)
from tests.support.repository import SAMPLES

# -- the samples -------------------------------------------------------------------------------


# Counts that came later have tests of their own.
NOT_LOOKED_AT: dict[str, Any] = dict.fromkeys(LATER_COUNTS)


def test_sample_of_version_3() -> None:
    """Counts, breakout, dial-in, recording and tenant marks are read; passwords are not."""
    body = (SAMPLES / "bbb-3.0-tenants-breakout-dialin.xml").read_bytes()
    answer = parse_meetings(body, metadata_keys=frozenset({"bbblb-tenant"}), room_names=True)
    assert answer.skipped == 0
    lecture, breakout, empty = answer.meetings
    assert lecture._replace(**NOT_LOOKED_AT) == Meeting(
        internal_id="f029f947dcc2f6b1df95cddc19eb4a82a598556c-1755772800000",
        external_id="course-42-bbblb-acme",
        created_ms=CREATED_MS,
        participants=4,
        voice=3,
        video=3,
        listeners=1,
        dialins=1,
        breakout=False,
        parent_internal_id=None,
        recording=True,
        metadata={"bbblb-tenant": "acme"},
        name="Analysis I & <b>Übung</b>",
        joined=True,
    )
    assert (breakout.breakout, breakout.parent_internal_id) == (True, lecture.internal_id)
    assert breakout.external_id == "b3912cda0e6a71788b0262532283a85e36336e2e-1755773400000"
    assert (empty.participants, empty.dialins, empty.recording) == (0, 0, False)
    assert empty.joined is False


def test_sample_with_a_thousands_separator() -> None:
    """`1,202` participants are one thousand two hundred and two."""
    body = (SAMPLES / "1202-participants-comma.xml").read_bytes()
    assert only(parse_meetings(body)).participants == 1202


def test_sample_with_malformed_custom_data() -> None:
    """An element `<1st attr>` from a client costs nothing, not even its own meeting."""
    assert (
        only(parse_meetings((SAMPLES / "malformed-customdata.xml").read_bytes())).participants == 1
    )


def test_sample_without_meetings() -> None:
    """No meetings are an answer too."""
    assert parse_meetings((SAMPLES / "no-meetings.xml").read_bytes()) == Answer(())


# -- counts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "count"),
    [
        *(("0", 0), ("7", 7), ("1,202", 1202), ("1.202", 1202), ("1 202", 1202)),
        *(("1\u00a0202", 1202), ("1\u202f202", 1202), ("1\u2019202", 1202), ("32,767", 32767)),
        ("\u0661\u066c\u0662\u0660\u0662", 1202),
    ],
)
def test_counts_of_any_locale(text: str, count: int) -> None:
    """Every character but digits is stripped from a count."""
    meeting = only(parse_meetings(answer_xml(meeting_xml(participantCount=text, videoCount=text))))
    assert (meeting.participants, meeting.video) == (count, count)


@pytest.mark.parametrize("text", ["", "-1", "\u22121", "many", "32768", "9" * 30, "1" * 100_000])
@pytest.mark.parametrize(
    "element", ["participantCount", "voiceParticipantCount", "videoCount", "listenerCount"]
)
def test_unusable_count_skips_the_meeting(element: str, text: str) -> None:
    """A count that is none, or impossible, is unknown, and unknown is not zero."""
    other = meeting_xml(internalMeetingID=identity(2))
    changes: dict[str, Any] = {element: text}
    answer = parse_meetings(answer_xml(meeting_xml(**changes), other))
    assert [m.internal_id for m in answer.meetings] == [identity(2)]
    assert answer.skipped == 1


@pytest.mark.parametrize("element", ["voiceParticipantCount", "videoCount", "listenerCount"])
def test_absent_count_is_zero(element: str) -> None:
    """Other implementations leave counts out."""
    meeting = only(parse_meetings(answer_xml(meeting_xml(drop=element))))
    assert 0 in (meeting.voice, meeting.video, meeting.listeners)


def skipped(element: str) -> Answer:
    """Return the answer if the one meeting is unreadable because of `element`."""
    return Answer((), 1, frozenset() if element == "internalMeetingID" else frozenset({ID}))


@pytest.mark.parametrize("element", ["participantCount", "meetingID", "internalMeetingID"])
def test_absent_necessity_skips_the_meeting(element: str) -> None:
    """Without participants or identity there is no sample."""
    assert parse_meetings(answer_xml(meeting_xml(drop=element))) == skipped(element)


@pytest.mark.parametrize("attendees", ["9" * 5000, "40000", "x"])
def test_text_for_attendees_breaks_nothing(attendees: str) -> None:
    """Text in place of attendees is not taken for a number that the parser wrote."""
    body = answer_xml(meeting_xml().replace("<attendees>\n", f"<attendees>{attendees}"))
    assert parse_meetings(body).skipped in {0, 1}


# -- identity, time, state ---------------------------------------------------------------------


@pytest.mark.parametrize("element", ["meetingID", "internalMeetingID"])
def test_an_empty_id_skips_the_meeting(element: str) -> None:
    """Without identity there is no sample."""
    changes: dict[str, Any] = {element: ""}
    assert parse_meetings(answer_xml(meeting_xml(**changes))) == skipped(element)


@pytest.mark.parametrize("value", ["   ", "x" * 513, "x" * 10_000, "a\tb", "a\x85b", "a\x7fb"])
@pytest.mark.parametrize("element", ["meetingID", "internalMeetingID", "parentMeetingID"])
def test_an_odd_id_is_hashed(element: str, value: str) -> None:
    """Clients choose ids: a meeting is not hidden by its own."""
    changes: dict[str, Any] = {"isBreakout": "true", element: value}
    answer = parse_meetings(answer_xml(meeting_xml(**changes)))
    found = dict(
        zip(
            ("meetingID", "internalMeetingID", "parentMeetingID"),
            (only(answer).external_id, only(answer).internal_id, only(answer).parent_internal_id),
            strict=True,
        )
    )
    assert answer.skipped == 0
    odd = found.pop(element) or ""
    end = re.sub(r"[\x00-\x1f\x7f-\x9f]", "", " ".join(value.split()))[-64:]
    assert re.fullmatch(f"odd-[0-9a-f]{{40}}-{re.escape(end)}", odd)
    assert not any((text or "").startswith("odd-") for text in found.values())
    assert parse_meetings(answer_xml(meeting_xml(**changes))) == answer


@pytest.mark.parametrize("value", ["", "soon", "12", "99999999999999", "-1755772800000"])
def test_creation_from_the_internal_id(value: str) -> None:
    """An unusable createTime is read from the internal id."""
    for internal_id in (ID, f"a-b-{CREATED_MS}"):
        body = answer_xml(meeting_xml(createTime=value, internalMeetingID=internal_id))
        assert only(parse_meetings(body)).created_ms == CREATED_MS


def test_creation_in_milliseconds() -> None:
    """Milliseconds are kept: they tell sessions apart."""
    meeting = only(parse_meetings(answer_xml(meeting_xml(createTime=CREATED_MS + 47))))
    assert meeting.created_ms == CREATED_MS + 47


@pytest.mark.parametrize("internal_id", ["abc", "abc-", "abc-12", "abc-4102444800000"])
def test_no_creation_skips_the_meeting(internal_id: str) -> None:
    """A meeting of unknown age, or before 2010 or after 2099, is skipped."""
    body = answer_xml(meeting_xml(drop="createTime", internalMeetingID=internal_id))
    assert parse_meetings(body) == Answer((), 1, frozenset({internal_id}))


@pytest.mark.parametrize("change", [{"hasBeenForciblyEnded": "true"}, {"endTime": CREATED_MS}])
def test_ended_meeting_is_left_out(change: dict[str, Any]) -> None:
    """A meeting that has ended is not running, and not skipped either."""
    assert parse_meetings(answer_xml(meeting_xml(**change))) == Answer(())


def test_duplicate_element_skips_the_meeting() -> None:
    """Two values for one figure are ambiguous."""
    body = answer_xml(meeting_xml(add="<participantCount>9</participantCount>"))
    assert parse_meetings(body) == Answer((), 1, frozenset({ID}))


def test_repeated_element_that_nobody_reads_is_no_matter() -> None:
    """Elements that are not read may stand twice."""
    body = answer_xml(meeting_xml(add="<breakoutRooms/><breakoutRooms/>"))
    assert only(parse_meetings(body)).participants == 4


def test_parent_of_a_breakout_only() -> None:
    """A parent counts for breakouts only, and only as a direct child."""
    parent = f"<parentMeetingID>{identity(1)}</parentMeetingID>"
    meeting = only(parse_meetings(answer_xml(meeting_xml(add=parent))))
    assert (meeting.breakout, meeting.parent_internal_id) == (False, None)
    meeting = only(parse_meetings(answer_xml(meeting_xml(isBreakout="true", add=parent))))
    assert (meeting.breakout, meeting.parent_internal_id) == (True, identity(1))
    nested = f"<breakoutRooms><breakout>x</breakout>{parent}</breakoutRooms>"
    meeting = only(parse_meetings(answer_xml(meeting_xml(isBreakout="true", add=nested))))
    assert meeting.parent_internal_id is None


@pytest.mark.parametrize("rest", ["", "<sequence>1</sequence>\n<freeJoin>true</freeJoin>"])
def test_parent_within_an_element_breakout(rest: str) -> None:
    """b3scale puts the parent into an element `breakout`."""
    add = f"<breakout><parentMeetingID>{identity(1)}</parentMeetingID>{rest}</breakout>"
    for first, second in ((add + rest, ""), ("", add)):
        body = answer_xml(
            meeting_xml(isBreakout="true", add=second).replace("<attendees>", f"{first}<attendees>")
        )
        assert only(parse_meetings(body)).parent_internal_id == identity(1)
    assert only(parse_meetings(answer_xml(meeting_xml(add=add)))).parent_internal_id is None
    body = answer_xml(
        meeting_xml(isBreakout="true", add="<breakout><sequence>1</sequence></breakout>")
    )
    assert only(parse_meetings(body)).parent_internal_id is None


# -- metadata and names ------------------------------------------------------------------------


def test_metadata_is_kept_by_key() -> None:
    """Only keys that are asked for are kept, and no value of more than 512 characters."""
    metadata = {"a": "x", "b": "y", "c": "z" * 513, "d": ""}
    body = answer_xml(meeting_xml(metadata=metadata))
    keys = frozenset({"a", "c", "d", "e"})
    assert only(parse_meetings(body, metadata_keys=keys)).metadata == {"a": "x"}
    assert only(parse_meetings(body)).metadata == {}


@pytest.mark.parametrize("key", ["participantCount", "attendees", "isBreakout", "meetings"])
def test_metadata_is_no_figure(key: str) -> None:
    """A key that is called like an element changes nothing."""
    body = answer_xml(meeting_xml([Person(dialin=True)], {key: "7"}))
    meeting = only(parse_meetings(body, metadata_keys=frozenset({key})))
    assert (meeting.participants, meeting.dialins, meeting.breakout) == (4, 1, False)
    assert meeting.metadata == {key: "7"}


def test_names_are_kept_when_asked_for() -> None:
    """Room names are None by default, and cut at 512 characters."""
    body = answer_xml(meeting_xml(meetingName="n" * 600))
    assert only(parse_meetings(body)).name is None
    assert only(parse_meetings(body, room_names=True)).name == "n" * 512
    assert (
        only(parse_meetings(answer_xml(meeting_xml(meetingName="")), room_names=True)).name is None
    )


# -- round trip --------------------------------------------------------------------------------

texts = st.text(
    st.characters(
        codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"
    ),
    min_size=1,
    max_size=20,
).filter(lambda text: text == text.strip())
counts = st.integers(0, 32767)
meetings = st.builds(
    Meeting,
    internal_id=texts,
    external_id=texts,
    created_ms=st.integers(1262304000000, 4102444799999),
    participants=counts,
    voice=counts,
    video=counts,
    listeners=counts,
    dialins=st.integers(0, 3),
    breakout=st.booleans(),
    parent_internal_id=st.none() | texts,
    recording=st.booleans(),
    metadata=st.dictionaries(st.sampled_from(["bbblb-tenant", "x"]), texts),
    name=texts,
    joined=st.none() | st.booleans(),
)


def rendered(meeting: Meeting) -> str:
    """Render a meeting back to what the server would have sent."""
    parent = as_text(meeting.parent_internal_id)
    return meeting_xml(
        [Person(), *[Person(dialin=True)] * meeting.dialins],
        dict(meeting.metadata),
        add=f"<parentMeetingID>{parent}</parentMeetingID>" if meeting.parent_internal_id else "",
        meetingName=meeting.name,
        meetingID=meeting.external_id,
        internalMeetingID=meeting.internal_id,
        createTime=meeting.created_ms,
        participantCount=f"{meeting.participants:,}",
        voiceParticipantCount=meeting.voice,
        videoCount=meeting.video,
        listenerCount=meeting.listeners,
        isBreakout=str(meeting.breakout).lower(),
        recording=str(meeting.recording).lower(),
        hasUserJoined=str(meeting.joined).lower(),
    )


@settings(max_examples=100)
@given(st.lists(meetings, max_size=4, unique_by=lambda m: m.internal_id))
def test_round_trip(expected: list[Meeting]) -> None:
    """What a server has is what the parser returns."""
    keys = frozenset({"bbblb-tenant", "x"})
    body = answer_xml(*map(rendered, expected))
    answer = parse_meetings(body, metadata_keys=keys, room_names=True)
    assert answer.skipped == 0
    assert [m._replace(**NOT_LOOKED_AT) for m in answer.meetings] == [
        m._replace(
            parent_internal_id=m.parent_internal_id if m.breakout else None,
            joined=m.joined or (True if m.participants else m.joined),
            **NOT_LOOKED_AT,
        )
        for m in expected
    ]


# Also text that is not a list of elements, or not XML.
loose = st.text() | st.sampled_from(
    [
        *("<![CDATA[a]]>", "&#233;", "&uuml;", "<b>", "<b>x</b>", "a > b", "]]>", "\r\n", "a\rb"),
        *("a\0b", "\ufffe\uffff", "\x85", "&amp;lt;", "&apos;&#39;&quot;", "a\nb", " "),
    ]
)


@settings(max_examples=500)
@given(
    st.lists(meetings, max_size=3),
    st.sampled_from(["meetingName", "meetingID", "internalMeetingID", "dialNumber", "metadata"]),
    loose,
    st.sampled_from(["", "<a/>", "<a><b>1</b></a>", "<parentMeetingID>\0p</parentMeetingID>"]),
    st.sampled_from(["x", "_a-b.1", "1a", "a b", "a b='c'", "a:b", "x/", "\u00e9", "metadata"]),
)
def test_plain_answers_are_read_as_lxml_reads_them(
    found: list[Meeting], element: str, text: str, add: str, key: str
) -> None:
    """Whether the regular expression or lxml reads a meeting makes no difference."""
    changes: dict[str, Any] = {} if element == "metadata" else {element: "TEXT"}
    body = (
        answer_xml(
            *map(rendered, found),
            meeting_xml(metadata={"x": "TEXT", "KEY": ""}, add=add, **changes),
        )
        .replace(b"TEXT", text.encode())
        .replace(b"KEY", key.encode())
    )

    def outcome() -> Answer | type[Exception]:
        try:
            return parse_meetings(body, metadata_keys=frozenset({"x"}), room_names=True)
        except NotXmlError as error:
            return type(error)

    read = outcome()
    with unittest.mock.patch.object(parser, "plain", return_value=None):
        assert outcome() == read
