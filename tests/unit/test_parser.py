"""The parser of getMeetings answers: samples, rules, and what clients and servers may try."""

import contextlib
import dataclasses
import time
import unittest.mock
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from collector.errors import ApiError, NotXmlError, PollError
from collector.model import Answer, Meeting
from collector.sources.polling import parser
from collector.sources.polling.parser import parse_meetings

CREATED_MS = 1755772800000
ID = f"f029f947dcc2f6b1df95cddc19eb4a82a598556c-{CREATED_MS}"


@dataclasses.dataclass
class Person:
    """An attendee as BigBlueButton lists one."""

    name: str = "Ada"
    dialin: bool = False
    custom: dict[str, str] = dataclasses.field(default_factory=dict)


def as_text(value: object) -> str:
    """Escape as BigBlueButton's template engine does."""
    return escape(str(value), {'"': "&quot;", "'": "&#39;"})


def person_xml(person: Person, name_of: Callable[[str], str] = as_text) -> str:
    """Render an attendee as BigBlueButton's template does, the names of custom data escaped."""
    role, kind = ("DIAL-IN-USER", "DIAL-IN") if person.dialin else ("VIEWER", "HTML5")
    custom = "".join(
        f"<{name_of(key)}>{as_text(value)}</{name_of(key)}>\n"
        for key, value in person.custom.items()
    )
    return (
        f"<attendee>\n<userID>u</userID>\n<fullName>{as_text(person.name)}</fullName>\n"
        f"<role>{role}</role>\n<isPresenter>false</isPresenter>\n"
        f"<isListeningOnly>false</isListeningOnly>\n<hasJoinedVoice>true</hasJoinedVoice>\n"
        f"<hasVideo>false</hasVideo>\n<clientType>{kind}</clientType>\n"
        + (f"<customdata>\n{custom}</customdata>\n" if custom else "")
        + "</attendee>\n"
    )


def meeting_xml(
    people: list[Person] | None = None,
    metadata: dict[str, str] | None = None,
    *,
    name_of: Callable[[str], str] = as_text,
    drop: str = "",
    add: str = "",
    **changes: Any,  # noqa: ANN401 - whatever a server may send
) -> str:
    """Render a meeting in the order of BigBlueButton's template.

    `changes` sets elements, `drop` leaves one out, `add` is put at the end.
    """
    fields: dict[str, object] = {
        "meetingName": "Room",
        "meetingID": "room",
        "internalMeetingID": ID,
        "createTime": CREATED_MS,
        "createDate": "Thu Aug 21 10:40:00 UTC 2025",
        "voiceBridge": 70123,
        "dialNumber": "613-555-1234",
        "attendeePW": "ap",
        "moderatorPW": "mp",
        "running": "true",
        "duration": 0,
        "hasUserJoined": "true",
        "recording": "false",
        "hasBeenForciblyEnded": "false",
        "startTime": CREATED_MS + 47,
        "endTime": 0,
        "participantCount": 4,
        "listenerCount": 1,
        "voiceParticipantCount": 3,
        "videoCount": 2,
        "maxUsers": 0,
        "moderatorCount": 1,
        **changes,
    }
    breakout = fields.pop("isBreakout", "false")
    head = "".join(f"<{k}>{as_text(v)}</{k}>\n" for k, v in fields.items() if k != drop)
    attendees = "".join(person_xml(person, name_of) for person in people or [])
    extra = "".join(f"<{k}>{as_text(v)}</{k}>\n" for k, v in (metadata or {}).items())
    return (
        f"<meeting>\n{head}<attendees>\n{attendees}</attendees>\n<metadata>\n{extra}</metadata>\n"
        f"<isBreakout>{breakout}</isBreakout>\n{add}</meeting>\n"
    )


def answer_xml(*meetings: str) -> bytes:
    """Render an answer that holds `meetings`."""
    return (
        "<response>\n<returncode>SUCCESS</returncode>\n<meetings>\n"
        f"{''.join(meetings)}</meetings>\n</response>"
    ).encode()


def identity(number: int) -> str:
    """Return an internal meeting id."""
    return f"{number:040x}-{CREATED_MS}"


def only(answer: Answer) -> Meeting:
    """Return the one meeting of an answer in which nothing was skipped."""
    assert answer.skipped == 0
    (meeting,) = answer.meetings
    return meeting


# -- the samples -------------------------------------------------------------------------------


def test_sample_of_version_3(samples: Path) -> None:
    """Counts, breakout, dial-in, recording and tenant marks are read; passwords are not."""
    body = (samples / "bbb-3.0-tenants-breakout-dialin.xml").read_bytes()
    answer = parse_meetings(body, metadata_keys=frozenset({"bbblb-tenant"}), room_names=True)
    assert answer.skipped == 0
    lecture, breakout, empty = answer.meetings
    assert lecture == Meeting(
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
    )
    assert (breakout.breakout, breakout.parent_internal_id) == (True, lecture.internal_id)
    assert breakout.external_id == "b3912cda0e6a71788b0262532283a85e36336e2e-1755773400000"
    assert (empty.participants, empty.dialins, empty.recording) == (0, 0, False)


def test_sample_with_a_thousands_separator(samples: Path) -> None:
    """`1,202` participants are one thousand two hundred and two."""
    body = (samples / "1202-participants-comma.xml").read_bytes()
    assert only(parse_meetings(body)).participants == 1202


def test_sample_with_malformed_custom_data(samples: Path) -> None:
    """An element `<1st attr>` from a client costs nothing, not even its own meeting."""
    assert (
        only(parse_meetings((samples / "malformed-customdata.xml").read_bytes())).participants == 1
    )


def test_sample_without_meetings(samples: Path) -> None:
    """No meetings are an answer too."""
    assert parse_meetings((samples / "no-meetings.xml").read_bytes()) == Answer(())


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
    """Whatever is no digit is stripped from a count."""
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


@pytest.mark.parametrize("element", ["participantCount", "meetingID", "internalMeetingID"])
def test_absent_necessity_skips_the_meeting(element: str) -> None:
    """Without participants or identity there is no sample."""
    assert parse_meetings(answer_xml(meeting_xml(drop=element))) == Answer((), 1)


@pytest.mark.parametrize("attendees", ["9" * 5000, "40000", "x"])
def test_text_for_attendees_breaks_nothing(attendees: str) -> None:
    """What stands for attendees is no number of ours unless the parser wrote it."""
    body = answer_xml(meeting_xml().replace("<attendees>\n", f"<attendees>{attendees}"))
    assert parse_meetings(body).skipped in {0, 1}


# -- identity, time, state ---------------------------------------------------------------------


@pytest.mark.parametrize("value", ["", "   ", "x" * 513, "a\tb", "a\x85b"])
@pytest.mark.parametrize("element", ["meetingID", "internalMeetingID"])
def test_unusable_id_skips_the_meeting(element: str, value: str) -> None:
    """Ids are 1 to 512 characters without control characters."""
    changes: dict[str, Any] = {element: value}
    assert parse_meetings(answer_xml(meeting_xml(**changes))) == Answer((), 1)


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
    assert parse_meetings(body) == Answer((), 1)


@pytest.mark.parametrize("change", [{"hasBeenForciblyEnded": "true"}, {"endTime": CREATED_MS}])
def test_ended_meeting_is_left_out(change: dict[str, Any]) -> None:
    """A meeting that has ended is not running, and not skipped either."""
    assert parse_meetings(answer_xml(meeting_xml(**change))) == Answer(())


def test_duplicate_element_skips_the_meeting() -> None:
    """Two values for one figure are ambiguous."""
    body = answer_xml(meeting_xml(add="<participantCount>9</participantCount>"))
    assert parse_meetings(body) == Answer((), 1)


def test_repeated_element_that_nobody_reads_is_no_matter() -> None:
    """Elements that are not read may stand twice."""
    body = answer_xml(meeting_xml(add="<breakoutRooms/><breakoutRooms/>"))
    assert only(parse_meetings(body)).participants == 4


def test_same_session_twice() -> None:
    """Identical copies are one meeting; contradictory ones are none."""
    one, same, other = meeting_xml(), meeting_xml(), meeting_xml(participantCount=5)
    assert only(parse_meetings(answer_xml(one, same))).participants == 4
    assert parse_meetings(answer_xml(one, other)) == Answer((), 2)
    assert parse_meetings(answer_xml(one, other, other)) == Answer((), 3)


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


# -- dial-ins and custom data ------------------------------------------------------------------


def test_dialins_are_counted() -> None:
    """Attendees by telephone are counted, whatever the others bring with them."""
    people = [Person(dialin=True), Person(custom={"1st attr": "v"}), Person(dialin=True), Person()]
    assert only(parse_meetings(answer_xml(meeting_xml(people)))).dialins == 2


@pytest.mark.parametrize(
    "custom",
    [
        {"role": "DIAL-IN-USER", "clientType": "DIAL-IN"},
        {"attendee": "", "role": "DIAL-IN-USER"},
        {"/attendee": "", "role": "DIAL-IN-USER"},
        {"customdata": "", "role": "DIAL-IN-USER"},
        {"/customdata": "", "/attendee": "", "attendee": "", "role": "DIAL-IN-USER"},
    ],
)
def test_custom_data_cannot_fake_a_dialin(custom: dict[str, str]) -> None:
    """Only the server's own elements make a dial-in."""
    people = [Person(custom=custom), Person(dialin=True, name="<role>DIAL-IN-USER</role>")]
    assert only(parse_meetings(answer_xml(meeting_xml(people)))).dialins == 1


# What clients may call their data where the server escapes names, as BigBlueButton does.
nasty = st.sampled_from(
    [
        *("/attendees", "attendees", "/attendee", "attendee", "/customdata", "customdata"),
        *("//attendees", "meeting", "/meeting", "meetings", "/meetings", "/response", "response"),
        *("![CDATA[", "]]", "![CDATA[ ]]", "!--", "--", "?x ", "x?", "!DOCTYPE x", "!ENTITY"),
        *("1st attr", "a/", "/", "//", "", "role", "DIAL-IN-USER", "participantCount", "&amp;"),
    ]
)
customs = st.dictionaries(nasty | st.text(max_size=8), nasty | st.text(max_size=8), max_size=4)
people_lists = st.lists(
    st.builds(Person, name=nasty | st.text(max_size=8), dialin=st.booleans(), custom=customs),
    max_size=3,
)


@settings(max_examples=300)
@given(people_lists, people_lists, st.text(max_size=8))
@example([Person(custom={"/x": "", "/attendees": ""})], [], "")
@example([Person(custom={"//x": "", "attendees": ""})], [], "<![CDATA[")
@example([Person(custom={"![CDATA[": ""})], [Person(custom={"]]": ""})], "")
@example([Person(custom={"?x ": ""})], [Person(custom={"x?": ""})], "\x00\x0b\ufffe")
def test_clients_change_nothing(first: list[Person], second: list[Person], name: str) -> None:
    """Whatever attendees call themselves and their data, every figure is as it should be."""
    body = answer_xml(
        meeting_xml(first, internalMeetingID=identity(1), meetingName=name),
        meeting_xml(second, internalMeetingID=identity(2), participantCount=9),
    )
    answer = parse_meetings(body)
    assert answer.skipped == 0
    assert [(m.internal_id, m.participants, m.dialins) for m in answer.meetings] == [
        (identity(1), 4, sum(person.dialin for person in first)),
        (identity(2), 9, sum(person.dialin for person in second)),
    ]


# What a name might look like that brings markup, if a server did not escape names.
MADE_UP = meeting_xml([Person(dialin=True)], internalMeetingID=identity(666))
AGAIN = meeting_xml(internalMeetingID=identity(1), participantCount=77)
OUT = "</customdata></attendee></attendees>"
REST = "<metadata><tenant>b</tenant></metadata><isBreakout>false</isBreakout></meeting>"
HEAD = meeting_xml(internalMeetingID=identity(667)).partition("<attendees>")[0]
IN = "<attendees><attendee><customdata>"
WORDS = ["K", "customdata", "attendee", "attendees", "participantCount", "internalMeetingID"]

pieces = st.sampled_from(
    [
        *(OUT, REST, MADE_UP, AGAIN, HEAD, IN, "<a>", "</a>", "<a", "a>", "<a/>", "a/>", "/", "//"),
        *("<K></K>", "K></K", "<K", "</attendee>", "<attendee>", "</customdata>", "<customdata>"),
        *("</attendees>", "<attendees>", "<attendees >", "</meeting>", "<meeting>", "</meetings>"),
        *("/customdata>", "<//customdata>", "<customdata", "attendees", "<metadata></metadata>"),
        *("<![CDATA[", "![CDATA[", "]]>", "<!--", "!--", "-->", "?", "</response>", "\x00", ">"),
        "<participantCount>7</participantCount>",
    ]
)


@st.composite
def break_outs(draw: st.DrawFn) -> str:
    """Return a name that ends its meeting, makes up others and begins one, or nearly so."""
    word = draw(st.sampled_from(WORDS))
    steps = [
        *([f"{word}></{word}>", f"{word}>", f"{word}>x</{word}>"], [OUT, "</customdata>"]),
        *([REST, ""], ["", MADE_UP, AGAIN, MADE_UP + AGAIN], [HEAD, ""], [IN, "<attendees >", ""]),
        *(["", f"<{word}>", f"<{word}><{word}>"], [f"<{word}", "<a></a", ""]),
    ]
    return "".join(draw(st.sampled_from(step)) for step in steps)


names = break_outs() | st.lists(pieces, min_size=1, max_size=8).map("".join)
values = st.sampled_from(["v", "", " ", identity(668)])


@st.composite
def name_lists(draw: st.DrawFn) -> list[str]:
    """Return names, some of them made for the one before."""
    chosen = [draw(names)]
    for kind in draw(st.lists(st.integers(0, 4), max_size=3)):
        last, piece = chosen[-1], draw(pieces)
        cut = draw(st.integers(0, len(last)))
        chosen.append(
            [draw(names), last[:cut] + piece, piece + last[cut:], f"{last}>v</{last}", "K></K"][
                kind
            ]
        )
    return chosen


# Ends its meeting and makes up others, and leaves the second name two elements to close.
OPENER = f"K></K>{OUT}{REST}{MADE_UP}{AGAIN}{HEAD}{IN}<K><K"
# Can be read as a plain name and one with markup in a meeting that it makes up.
TWO_WAYS = f"a></a>{OUT}{REST}{MADE_UP}{HEAD}{IN}<a></a"


@settings(max_examples=400)
@given(name_lists(), values)
@example([OPENER, "K></K"], "v")
@example([OPENER.replace("<attendees>", "<attendees >"), "K></K"], "v")
@example([TWO_WAYS], "v")
@example([TWO_WAYS.replace("a", "b"), TWO_WAYS], "v")
@example([f"internalMeetingID>{REST}<meeting><meetingID>e</meetingID><internalMeetingID"], ID)
@example([f"participantCount>{IN}{OUT}{REST}{HEAD}<participantCount"], "5")
@example(["![CDATA[", f"]]>{OUT}{REST}{MADE_UP}<![CDATA[", "]]>"], "")
@example([f"/customdata></attendee></attendees>{REST}{MADE_UP}{HEAD}{IN}</customdata"], "")
@example([f"a/>{OUT}{REST}{MADE_UP}{HEAD}{IN}<a/"], "v")
@example([f"a></a>{OUT}{REST}{MADE_UP}", "attendees>" + REST + MADE_UP], "v")
def test_smuggled_markup_costs_its_own_meeting_only(chosen: list[str], value: str) -> None:
    """Where a server leaves names unescaped, they cost their own meeting its sample at most.

    No other is changed, added, moved to another tenant or lost; only a poll as a whole may fail.
    """
    keys = frozenset({"tenant"})

    def answer(people: list[Person]) -> Answer:
        return parse_meetings(
            answer_xml(
                meeting_xml([Person()], {"tenant": "a"}, internalMeetingID=identity(1)),
                meeting_xml(people, {"tenant": "a"}, internalMeetingID=identity(2), name_of=str),
                meeting_xml([Person(dialin=True)], internalMeetingID=identity(3)),
            ),
            metadata_keys=keys,
        )

    plain = {meeting.internal_id: meeting for meeting in answer([Person(), Person()]).meetings}
    attackers = [Person(custom=dict.fromkeys(chosen[::2], value))]
    attackers += [Person(custom={name: value}) for name in chosen[1::2]]
    try:
        found = answer([Person(), *attackers])
    except NotXmlError:
        return
    meetings = {meeting.internal_id: meeting for meeting in found.meetings}
    own = meetings.setdefault(identity(2), plain[identity(2)])
    assert meetings == plain
    assert found.skipped == int(own not in found.meetings)


def test_smuggled_markup_with_two_readings() -> None:
    """Where names can be read in two ways, what both have in common counts, the rest is skipped.

    Such a name repeats a session, by which the false reading is known, but not with a server that
    writes its elements in another order.
    """

    def without_names(xml: str) -> str:
        return xml.replace("<meetingName>Room</meetingName>\n", "")

    before, after = (meeting_xml([Person()], internalMeetingID=identity(n)) for n in (1, 3))
    attacker = meeting_xml(
        [Person(custom={TWO_WAYS: "v"})], internalMeetingID=identity(2), name_of=str
    )
    body = answer_xml(before, attacker, after)
    answer = parse_meetings(body)
    assert ([m.internal_id for m in answer.meetings], answer.skipped) == (
        [identity(1), identity(3)],
        1,
    )
    answer = parse_meetings(without_names(body.decode()).encode())
    assert [m.internal_id for m in answer.meetings] == [identity(1), identity(3)]
    assert answer.skipped > 1


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
    )


@settings(max_examples=100)
@given(st.lists(meetings, max_size=4, unique_by=lambda m: m.internal_id))
def test_round_trip(expected: list[Meeting]) -> None:
    """What a server has is what the parser returns."""
    keys = frozenset({"bbblb-tenant", "x"})
    body = answer_xml(*map(rendered, expected))
    answer = parse_meetings(body, metadata_keys=keys, room_names=True)
    assert answer.skipped == 0
    assert list(answer.meetings) == [
        m if m.breakout else m._replace(parent_internal_id=None) for m in expected
    ]


# Also what is no list of elements, or none in XML.
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
    with unittest.mock.patch.object(parser, "_plain", return_value=None):
        assert outcome() == read


# -- what is no answer, and what is a broken one -----------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body><h1>502 Bad Gateway</h1></body></html>",
        b"<html><response><returncode>SUCCESS</returncode><meetings/></response>",
        b"<response/>",
        b"<response></response>",
        b"<response><returncode>SUCCESS</returncode></response>",
        b"<response><returncode>MAYBE</returncode><meetings/></response>",
        b"<responses><returncode>SUCCESS</returncode><meetings/></responses>",
        b"<response2><returncode>SUCCESS</returncode><meetings/></response2></response>",
        b"<response><returncode>SUCCESS</returncode><meetings><meeting></meetings></response>",
        '<?xml version="1.0" encoding="UTF-16"?><response/>'.encode("utf-16"),
    ],
)
def test_no_answer(body: bytes) -> None:
    """HTML, other XML and answers without their parts are refused."""
    with pytest.raises(NotXmlError):
        parse_meetings(body)


def test_doctype_is_refused() -> None:
    """Neither billions of laughs nor the content of files: a DOCTYPE ends it."""
    laughs = b'<!DOCTYPE response [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    file = b'<!DOCTYPE response [<!ENTITY b SYSTEM "file:///etc/hostname">]>'
    answer = answer_xml(meeting_xml(meetingName="NAME")).replace(b"NAME", b"&b;")
    for doctype in (laughs, file):
        for prolog in (b"", b'<?xml version="1.0"?>', b"<?xml version='1.0'?><!-- ?>"):
            with pytest.raises(NotXmlError):
                parse_meetings(prolog + doctype + answer)


def test_billion_laughs_take_no_time() -> None:
    """Entities are not expanded, wherever a DOCTYPE stands and in whatever encoding."""
    entities = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(10))
    doctype = f'<!DOCTYPE response [<!ENTITY e0 "ha">{entities}]>'
    answer = answer_xml(meeting_xml(meetingName="NAME")).decode().replace("NAME", "&e10;")
    for body in (doctype + answer, answer.replace("<meetings>", f"{doctype}<meetings>")):
        for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
            with contextlib.suppress(NotXmlError):
                assert parse_meetings(body.encode(encoding), room_names=True).meetings == ()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "cp500"])
def test_other_encodings_are_refused(encoding: str) -> None:
    """BigBlueButton sends UTF-8; what is something else is no answer."""
    with pytest.raises(NotXmlError):
        parse_meetings(answer_xml(meeting_xml(meetingName="é")).decode().encode(encoding))


@pytest.mark.parametrize(
    ("element", "value"),
    [
        *(("meetingID", "x" * 10_000), ("internalMeetingID", "x" * 10_000)),
        *(("participantCount", 2**64), ("participantCount", 10**400), ("videoCount", 2**63)),
        ("createTime", 2**64),
    ],
)
def test_oversized_values_cost_their_own_meeting(element: str, value: object) -> None:
    """Ids of 10 kB and numbers past 64 bits skip their meeting, and nothing else."""
    changes: dict[str, Any] = {"internalMeetingID": "abc", element: value}
    answer = parse_meetings(answer_xml(meeting_xml(**changes), meeting_xml()))
    assert ([m.internal_id for m in answer.meetings], answer.skipped) == ([ID], 1)


def test_end_past_64_bits_is_an_end() -> None:
    """Whatever endTime says but 0, the meeting is over; rubbish says nothing."""
    assert parse_meetings(answer_xml(meeting_xml(endTime=2**70))) == Answer(())
    assert only(parse_meetings(answer_xml(meeting_xml(endTime=10**400)))).participants == 4


def test_undefined_entity_skips_the_meeting() -> None:
    """An entity that nobody defined makes its meeting unreadable, not the others."""
    broken = meeting_xml(meetingID="ROOM").replace("ROOM", "&b;")
    answer = parse_meetings(answer_xml(broken, meeting_xml(internalMeetingID=identity(2))))
    assert [m.internal_id for m in answer.meetings] == [identity(2)]
    assert answer.skipped == 1


@pytest.mark.parametrize("prolog", [b"\xef\xbb\xbf", b'<?xml version="1.0"?>\n', b"\n  "])
def test_prolog_is_no_matter(prolog: bytes) -> None:
    """Byte order mark, XML declaration and white space may come first, white space last."""
    assert only(parse_meetings(prolog + answer_xml(meeting_xml()) + b"\r\n")).participants == 4


@pytest.mark.parametrize("key", ["checksumError", "unsupportedRequest", ""])
def test_failed_answer(key: str) -> None:
    """FAILED is told by its key."""
    body = f"<response><returncode>FAILED</returncode><messageKey>{key}</messageKey></response>"
    with pytest.raises(ApiError) as caught:
        parse_meetings(body.encode())
    assert caught.value.key == key


def test_truncated_answer_is_refused() -> None:
    """Wherever an answer is cut off, nothing of it is used: what lacks must not look ended."""
    whole = answer_xml(
        meeting_xml([Person(custom={"</response>": "</response>"})]),
        meeting_xml(internalMeetingID=identity(2)),
    )
    for length in range(len(whole) - 1):
        with pytest.raises(NotXmlError):
            parse_meetings(whole[:length])


def test_broken_meeting_leaves_the_others() -> None:
    """A meeting that is malformed is skipped; the others are read, dial-ins and all."""
    broken = meeting_xml(internalMeetingID=identity(1), meetingName="NAME").replace("NAME", "<&")
    good = meeting_xml([Person(dialin=True)], internalMeetingID=identity(2))
    answer = parse_meetings(answer_xml(broken, good))
    assert [(m.internal_id, m.dialins) for m in answer.meetings] == [(identity(2), 1)]
    assert answer.skipped == 1


@pytest.mark.parametrize(
    "rubbish", [b"\x00", b"\x0b", b"\xff\xfe", b"\xef\xbf\xbf", b"\xed\xa0\x80"]
)
def test_forbidden_characters_are_removed(rubbish: bytes) -> None:
    """Characters that XML forbids and bytes that are no UTF-8 cost no sample."""
    body = answer_xml(meeting_xml([Person(dialin=True)], meetingName="NAME"))
    meeting = only(parse_meetings(body.replace(b"NAME", rubbish)))
    assert (meeting.participants, meeting.dialins) == (4, 1)


def test_cdata_hides_tags() -> None:
    """Where a server writes CDATA, tags in it are text, and dial-ins are counted all the same."""
    text = "<![CDATA[</attendees><participantCount>99</participantCount><attendees>]]>"
    body = answer_xml(
        meeting_xml([Person(name="NAME"), Person(dialin=True)], meetingName="NAME")
    ).replace(b"NAME", text.encode())
    meeting = only(parse_meetings(body, room_names=True))
    assert (meeting.participants, meeting.dialins) == (4, 1)
    assert meeting.name == text.removeprefix("<![CDATA[").removesuffix("]]>")


def test_cdata_among_the_attendees_only() -> None:
    """Where only attendees' names are CDATA, they can move no edge either."""
    text = "<![CDATA[</attendees><participantCount>99</participantCount><attendees>]]>"
    body = answer_xml(meeting_xml([Person(name="NAME"), Person(dialin=True)]))
    meeting = only(parse_meetings(body.replace(b"NAME", text.encode())))
    assert (meeting.participants, meeting.dialins) == (4, 1)


def test_cdata_in_a_malformed_answer() -> None:
    """A malformed answer with CDATA is refused: a cut at `<meeting>` could be one within a name."""
    text = f"<![CDATA[</meeting>{meeting_xml(internalMeetingID=identity(666))}<meeting>]]>"
    body = answer_xml(
        meeting_xml(meetingName="NAME", internalMeetingID=identity(1)).replace("NAME", text),
        meeting_xml(meetingName="NAME", internalMeetingID=identity(2)).replace("NAME", "<&"),
    )
    with pytest.raises(NotXmlError):
        parse_meetings(body)


def test_comments_hide_tags() -> None:
    """Comments and processing instructions are no content."""
    body = answer_xml("<!-- <meeting> --><?x <attendees> ?>", meeting_xml([Person(dialin=True)]))
    meeting = only(parse_meetings(body))
    assert (meeting.participants, meeting.dialins) == (4, 1)


def test_self_closing_elements_are_no_smuggling() -> None:
    """Servers that write `<fullName/>` for an empty name are read as well."""
    body = answer_xml(meeting_xml([Person(name="", custom={"a": "1"}), Person(dialin=True)]))
    meeting = only(parse_meetings(body.replace(b"<fullName></fullName>", b"<fullName/>")))
    assert (meeting.participants, meeting.dialins) == (4, 1)


fragments = st.sampled_from(
    [
        *(b"<response>", b"</response>", b"<returncode>SUCCESS</returncode>", b"<meetings>"),
        *(b"</meetings>", b"<meeting>", b"</meeting>", b"<attendees>", b"</attendees>", b"<!"),
        *(b"<attendee>", b"</attendee>", b"<customdata>", b"<role>DIAL-IN-USER</role>", b"\x00"),
        *(b"<![CDATA[", b"]]>", b"&", b"<", b">", b"9" * 5000, meeting_xml().encode()),
    ]
)


@settings(max_examples=300)
@given(st.binary() | st.lists(fragments | st.binary(max_size=4), max_size=12).map(b"".join))
def test_nothing_but_poll_errors(body: bytes) -> None:
    """Whatever a server sends, the parser answers or raises a PollError."""
    for candidate in (
        body,
        b"<response>" + body + b"</response>",
        b"<response><returncode>SUCCESS</returncode><meetings>" + body + b"</meetings></response>",
    ):
        try:
            answer = parse_meetings(candidate, room_names=True)
        except PollError:
            continue
        assert all(m.participants == 4 for m in answer.meetings)


MIB = 1 << 20


@pytest.mark.parametrize(
    "inside",
    [
        *(b"<" * MIB, b"<meeting>" * (MIB // 9), b"<attendees>" * (MIB // 11)),
        *(b"<attendees></attendees>" * (MIB // 23), b"<attendees>" + b"</attendees>" * (MIB // 12)),
        b"<attendees><a>" + b"<attendees></attendees>" * (MIB // 23) + b"</a></attendees>",
        b"<attendees>" + b"</attendees><//attendees>" * (MIB // 25),
        b"<attendees><attendee>DIAL-IN" + b"<attendee> " * (MIB // 11) + b"</attendees>",
        b"<attendees><customdata><//>" + b"<" + b"/" * MIB + b"</attendees>",
        b"<createDate></createDate>" * (MIB // 25),
        b"<createDate></createDate>" + b" " * MIB,
        b"<meeting><meetingID>" + b"x" * MIB + b"</meetingID></meeting>",
        b"<meeting><participantCount>" + b"1 " * (MIB // 2) + b"</participantCount></meeting>",
        b"<meeting></meeting>" * (MIB // 19),
        b"<![CDATA[" * (MIB // 9),
        b"&" * MIB,
    ],
)
def test_hostile_answers_take_linear_time(inside: bytes) -> None:
    """Megabytes of one thing take milliseconds; a step that is quadratic takes minutes."""
    body = b"<response><returncode>SUCCESS</returncode><meetings>" + inside
    with contextlib.suppress(PollError):
        assert parse_meetings(body + b"</meetings></response>").meetings == ()


# Where in an answer a hostile server puts something, `%b`.
PLACES = (
    b"<response><returncode>SUCCESS</returncode><meetings>%b</meetings></response>",
    answer_xml(meeting_xml(meetingName="@@")).replace(b"@@", b"%b"),
    answer_xml(meeting_xml(add="@@")).replace(b"@@", b"%b"),
    answer_xml(meeting_xml([Person(name="@@")])).replace(b"@@", b"%b"),
    answer_xml(meeting_xml([Person(custom={"k": "@@"})])).replace(b"@@", b"%b"),
)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "inside",
    [
        *(b"<a>" * 100_000 + b"</a>" * 100_000, b"<a>" * 100_000, b"</a>" * 100_000),
        b"<a " + b" ".join(b'a%d=""' % number for number in range(100_000)) + b"/>",
        *(b"x" * 12_000_000, b"<", b"<" * 100_000, b"<k></" * 100_000, b"k><" * 100_000),
        *(b"<customdata>" * 50_000, b"</customdata>" * 50_000, b"<?x " * 100_000, b"<!--"),
        *(b"<customdata></customdata>" * 50_000, b"<![CDATA[" + b"]" * 1_000_000, b"\x00" * MIB),
        b"<customdata><k></k></customdata></attendee>" * 5_000 + b"<customdata><",
    ],
    ids=lambda inside: inside[:12],
)
def test_hostile_content(place: bytes, inside: bytes) -> None:
    """Depth, attributes, long texts and torn tags cost a poll or a meeting, and no time.

    A figure that comes out all the same is right: what stands in a name or among the attendees
    changes none.
    """
    started_s = time.process_time()
    with contextlib.suppress(PollError):
        for meeting in parse_meetings(place % inside).meetings:
            assert (meeting.internal_id, meeting.participants, meeting.dialins) == (ID, 4, 0)
    assert time.process_time() - started_s < 10  # some tenths, unless a step is quadratic


def test_many_meetings() -> None:
    """100,000 meetings in one answer are read, in time and memory that grow with the answer."""
    body = answer_xml(
        *(
            f"<meeting><meetingID>r</meetingID><internalMeetingID>{identity(number)}"
            "</internalMeetingID><participantCount>1</participantCount></meeting>"
            for number in range(100_000)
        )
    )
    assert len(parse_meetings(body).meetings) == 100_000
