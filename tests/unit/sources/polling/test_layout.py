"""The parser: every layout of an answer is read alike, and usual ones without lxml."""

import random
import re
import unittest.mock

import pytest

from collector.errors import PollError
from collector.model import Answer
from collector.sources.polling import parser
from collector.sources.polling.parser import parse_meetings
from tests.support.layouts import LAYOUTS, Layout, b3scale
from tests.support.meetings import Person, answer_xml, identity, meeting_xml
from tests.support.odd_layouts import odd_answer
from tests.support.repository import SAMPLES

KEYS = frozenset({"bbblb-tenant", "tenant"})
PARENT = f"<parentMeetingID>{identity(1)}</parentMeetingID><sequence>1</sequence>"
ANSWERS = (
    (SAMPLES / "bbb-3.0-tenants-breakout-dialin.xml").read_bytes(),
    (SAMPLES / "1202-participants-comma.xml").read_bytes(),
    answer_xml(
        meeting_xml(
            [Person(dialin=True), Person(custom={"k": "v"})], internalMeetingID=identity(1)
        ),
        meeting_xml(
            [Person(name='"O\'Neil" & <Sons>')],
            {"tenant": "a \"b\" 'c' & <d>", "x": ""},
            internalMeetingID=identity(2),
            meetingName="\"q\" 'a' & <b>",
            attendeePW="",
        ),
        meeting_xml(internalMeetingID=identity(3), isBreakout="true", add=PARENT),
    ),
)


def by_lxml(body: bytes) -> Answer | type[PollError]:
    """Return what lxml alone makes of an answer."""
    with unittest.mock.patch.object(parser, "plain", return_value=None):
        return outcome(body)


def outcome(body: bytes) -> Answer | type[PollError]:
    """Return what comes of an answer."""
    try:
        return parse_meetings(body, metadata_keys=KEYS, room_names=True)
    except PollError as error:
        return type(error)


@pytest.fixture
def _no_lxml(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: bytes) -> None:
        pytest.fail("lxml was needed")

    monkeypatch.setattr(parser, "parsed_by_lxml", fail)


@pytest.mark.usefixtures("_no_lxml")
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("body", ANSWERS)
def test_load_balancers_layouts(body: bytes, layout: Layout) -> None:
    """A load balancer's answer has the same meetings, and needs no lxml."""
    expected = parse_meetings(body, metadata_keys=KEYS, room_names=True).meetings
    found = parse_meetings(layout(body), metadata_keys=KEYS, room_names=True).meetings
    if layout is b3scale:  # it does not say who joined
        expected = tuple(m._replace(joined=True if m.participants else None) for m in expected)
    assert found == expected


@pytest.mark.usefixtures("_no_lxml")
@pytest.mark.parametrize("seed", range(20))
def test_order_does_not_matter(seed: int) -> None:
    """Elements in any order are read without lxml."""
    body = answer_xml(
        meeting_xml([Person(dialin=True)], {"tenant": "a"}, isBreakout="true", add=PARENT)
    )
    expected = parse_meetings(body, metadata_keys=KEYS)

    def shuffled(found: re.Match[bytes]) -> bytes:
        elements = re.findall(rb"<(\w+)>(.*?)</\1>", found[1], re.DOTALL)
        random.Random(seed).shuffle(elements)
        inside = b"\r\n\t".join(b"<%b>%b</%b>" % (tag, text, tag) for tag, text in elements)
        return b"<meeting>%b</meeting>" % inside

    body = re.sub(rb"<meeting>(.*)</meeting>", shuffled, body, flags=re.DOTALL)
    assert parse_meetings(body, metadata_keys=KEYS) == expected


@pytest.mark.usefixtures("_no_lxml")
@pytest.mark.parametrize(
    "add",
    [
        *("<new>1</new>", "<new/>", "<new></new>", "<new>\n <a>1</a> <b/>\n</new>"),
        *("<duration/>", "<createDate>a</createDate>", "<key>1</key><key>2</key><child/>"),
        *(
            "<participantCountX>9</participantCountX>",
            "<x><participantCount>9</participantCount></x>",
        ),
        "<x><attendees><attendee><role>DIAL-IN-USER</role></attendee></attendees></x>",
    ],
)
def test_unknown_elements(add: str) -> None:
    """Elements that nobody knows change nothing, and need no lxml."""
    expected = parse_meetings(answer_xml(meeting_xml([Person(dialin=True)])))
    assert parse_meetings(answer_xml(meeting_xml([Person(dialin=True)], add=add))) == expected


@pytest.mark.usefixtures("_no_lxml")
@pytest.mark.parametrize(
    "beside", ["<message></message>", "<message/>\n<messageKey>a</messageKey>"]
)
def test_elements_beside_the_meetings(beside: str) -> None:
    """b3scale writes an empty message before the meetings."""
    body = answer_xml(meeting_xml()).decode()
    expected = parse_meetings(body.encode())
    for place in ("<meetings>", "</response>"):
        assert parse_meetings(body.replace(place, beside + place).encode()) == expected


@pytest.mark.parametrize("element", ["videoCount", "participantCount", "metadata", "attendees"])
def test_a_self_closed_element_is_not_a_missing_one(element: str) -> None:
    """An empty count is not zero, whether it is self-closed or not."""
    xml = meeting_xml([Person()], {"tenant": "a"})
    for empty in (f"<{element}/>", f"<{element}></{element}>"):
        body = answer_xml(re.sub(f"<{element}>.*</{element}>", empty, xml, flags=re.DOTALL))
        assert parse_meetings(body).skipped == int(element.endswith("Count"))
        assert outcome(body) == by_lxml(body)


@pytest.mark.parametrize("length", [999, 1000, 1001, 60_000])
@pytest.mark.parametrize("place", ["<{0}>1</{0}>", "<x><{0}/></x>", "<x>{0}</x>"])
def test_lengths_at_which_lxml_takes_over(place: str, length: int) -> None:
    """Long names and texts have one outcome, on both sides of the limit."""
    body = answer_xml(
        meeting_xml(internalMeetingID=identity(1)), meeting_xml(add=place.format("n" * length))
    )
    assert outcome(body) == by_lxml(body)


@pytest.mark.parametrize("text", ["x", " "])
def test_texts_that_lxml_refuses(text: str) -> None:
    """A text of more than ten million bytes makes its meeting unreadable, in both ways."""
    body = answer_xml(meeting_xml(internalMeetingID=identity(1)), meeting_xml(add="LONG"))
    body = body.replace(b"LONG", b"<x>%b</x>" % (text.encode() * 10_000_001))
    found = outcome(body)
    assert found == by_lxml(body)
    assert isinstance(found, Answer)
    assert found.skipped == 1


@pytest.mark.parametrize("seed", range(20))
def test_any_layout_is_read_as_lxml_reads_it(seed: int) -> None:
    """Invented answers, also malformed ones, have one outcome. The fuzzer tries many more."""
    chance = random.Random(seed)
    for _ in range(100):
        body = odd_answer(chance)
        assert outcome(body) == by_lxml(body), body
