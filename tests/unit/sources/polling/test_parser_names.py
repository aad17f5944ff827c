"""The parser: what attendees call themselves and their data changes no figure."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from collector.errors import NotXmlError
from collector.model import Answer
from collector.sources.polling.parser import parse_meetings
from tests.support.meetings import ID, Person, answer_xml, identity, meeting_xml, only


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
    assert found.unread == ({identity(2)} if found.skipped else set())
    assert not found.doubtful


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
    assert answer.unread == {identity(2)}
    answer = parse_meetings(without_names(body.decode()).encode())
    assert [m.internal_id for m in answer.meetings] == [identity(1), identity(3)]
    assert answer.unread >= {identity(2), identity(666)}
    assert answer.skipped >= len(answer.unread)
