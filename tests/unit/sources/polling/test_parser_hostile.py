"""The parser: whatever a server sends ends in time, in an answer or a PollError."""

import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.errors import PollError
from collector.sources.polling.parser import parse_meetings
from tests.support.meetings import ID, Person, answer_xml, identity, meeting_xml

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
        b"<meeting>" + b"<x></x>" * (MIB // 7) + b"<",
        b"<meeting>" + b"<x><y></y></x>" * (MIB // 14) + b"<x>" * (MIB // 3),
        b"<meeting><x>" + b"<y></y>" * (MIB // 7) + b"</z>",
        b"<meeting><" + b"x" * MIB + b">",
        b"<meeting><metadata>" + b"<x></x>" * (MIB // 7) + b"<",
        b"<meeting><breakout>" + b"<parentMeetingID></parentMeetingID>" * (MIB // 35),
        b"<meeting>" + b"<x/>" * (MIB // 4) + b"<",
        b"<meeting>" + b"/>" * (MIB // 2),
        b"<meeting>" + b"<" + b"x" * MIB + b"/>",
        b"</meetings>" + b"<x></x>" * (MIB // 7) + b"<",
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
