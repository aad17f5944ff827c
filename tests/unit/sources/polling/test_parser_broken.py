"""The parser: what is not an answer, and what is read of a broken one."""

import contextlib
from typing import Any

import pytest

from collector.errors import ApiError, NotXmlError
from collector.model import Answer
from collector.sources.polling.parser import parse_meetings
from tests.support.meetings import ID, Person, answer_xml, identity, meeting_xml, only


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
    """BigBlueButton sends UTF-8; another encoding is refused."""
    with pytest.raises(NotXmlError):
        parse_meetings(answer_xml(meeting_xml(meetingName="é")).decode().encode(encoding))


@pytest.mark.parametrize(
    ("element", "value"),
    [
        *(("participantCount", 2**64), ("participantCount", 10**400), ("videoCount", 2**63)),
        ("createTime", 2**64),
    ],
)
def test_oversized_values_cost_their_own_meeting(element: str, value: object) -> None:
    """Numbers past 64 bits skip their meeting, and nothing else."""
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
    """A FAILED answer is reported with its key."""
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
    """Characters that XML forbids and bytes that are not UTF-8 cost no sample."""
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
    """Comments and processing instructions are not content."""
    body = answer_xml("<!-- <meeting> --><?x <attendees> ?>", meeting_xml([Person(dialin=True)]))
    meeting = only(parse_meetings(body))
    assert (meeting.participants, meeting.dialins) == (4, 1)


def test_self_closing_elements_are_no_smuggling() -> None:
    """Servers that write `<fullName/>` for an empty name are read as well."""
    body = answer_xml(meeting_xml([Person(name="", custom={"a": "1"}), Person(dialin=True)]))
    meeting = only(parse_meetings(body.replace(b"<fullName></fullName>", b"<fullName/>")))
    assert (meeting.participants, meeting.dialins) == (4, 1)
