"""A getMeetings answer, from bytes to meetings.

Nothing is wanted from the attendees but the number of dial-ins, and they are most of an answer.
So their blocks are cut out of the bytes before lxml parses the rest, and names, user ids and
custom data are never parsed at all.
"""

import re
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

from lxml import etree

from collector.attendees import CLOSE, OPEN, without_attendees
from collector.clock import utc
from collector.errors import ApiError, NotXmlError
from collector.model import Answer, Meeting
from collector.readings import readings

_MAX_TEXT = 512
_MAX_NUMBER = 32  # characters
_MAX_COUNT = 32_767
_MAX_SALVAGED = 10_000
# What cannot be by the poller's clock is the pipeline's to correct.
_MIN_CREATED_MS = 1_262_304_000_000  # 2010
_MAX_CREATED_MS = 4_102_444_800_000  # 2100
_NOTHING: Mapping[str, str] = MappingProxyType({})

# CDATA, comments, processing instructions.
_NO_TAG = re.compile(rb"<[!?]")
# A run of elements that nobody wants, the passwords among them, as BigBlueButton writes it.
_UNWANTED = re.compile(
    rb"\s*".join(
        rb"<%b>[^<]*</%b>" % (tag, tag)
        for tag in (
            *(b"createDate", b"voiceBridge", b"dialNumber", b"attendeePW", b"moderatorPW"),
            *(b"running", b"duration", b"hasUserJoined"),
        )
    )
)
_FORBIDDEN = bytes(set(range(32)) - set(b"\t\n\r"))
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

_COUNTS = ("voiceParticipantCount", "videoCount", "listenerCount")
_SCALARS = {
    *("meetingID", "internalMeetingID", "createTime", "endTime", "hasBeenForciblyEnded"),
    *("participantCount", *_COUNTS, "recording", "isBreakout", "parentMeetingID", "attendees"),
    *("metadata", "meetingName"),
}


class _Wanted(NamedTuple):
    """What the caller wants of a meeting."""

    metadata_keys: frozenset[str]
    room_names: bool


class _UnreadableMeetingError(Exception):
    """A meeting of which no trustworthy sample can be made; it is counted as skipped."""


def parse_meetings(
    body: bytes,
    *,
    metadata_keys: frozenset[str] = frozenset(),
    room_names: bool = False,
) -> Answer:
    """Return the running meetings of a getMeetings answer.

    `metadata_keys` (lower case) names the metadata to keep, `room_names` keeps the meetings'
    names. A meeting that cannot be read is left out and counted in `Answer.skipped`; meetings
    that have ended are left out silently.

    Raises NotXmlError where `body` is no whole getMeetings answer, and ApiError where
    BigBlueButton answered FAILED.
    """
    wanted = _Wanted(metadata_keys, room_names)
    answer, *others = (_answer(text, wanted) for text in readings(_envelope(body)))
    return _common(answer, others) if others else answer


def _answer(text: bytes, wanted: _Wanted) -> Answer:
    elements, skipped = _meeting_elements(text)
    meetings: dict[str, Meeting] = {}
    contradictory: Counter[str] = Counter()
    for element in elements:
        try:
            meeting = _meeting(element, wanted)
        except _UnreadableMeetingError:
            skipped += 1
            continue
        if meeting is None:
            continue
        if meetings.setdefault(meeting.internal_id, meeting) != meeting:
            contradictory[meeting.internal_id] += 1
    for internal_id, count in contradictory.items():
        del meetings[internal_id]
        skipped += count + 1
    return Answer(tuple(meetings.values()), skipped)


def _common(answer: Answer, others: list[Answer]) -> Answer:
    """Return the meetings that `answer` and all `others` have, the rest as skipped."""
    by_id = [{meeting.internal_id: meeting for meeting in other.meetings} for other in others]
    meetings = tuple(m for m in answer.meetings if all(m == o.get(m.internal_id) for o in by_id))
    known = max(len(a.meetings) + a.skipped for a in (answer, *others))
    return Answer(meetings, known - len(meetings))


def _envelope(body: bytes) -> bytes:
    """Return `<response>…</response>` without what may stand before it: BOM and declaration.

    An answer that was cut off is refused here: the meetings it lacks must not look ended.
    """
    start = body.find(b"<response")
    prolog = body[: max(start, 0)].removeprefix(b"\xef\xbb\xbf").strip()
    text = body[start:].rstrip() if start >= 0 else b""
    declaration = prolog.startswith(b"<?xml") and prolog.find(b"?>") == len(prolog) - 2
    if not text.endswith(b"</response>") or (prolog and not declaration):
        msg = "the answer is no whole <response>"
        raise NotXmlError(msg)
    return text


def _meeting_elements(text: bytes) -> tuple[list[etree._Element], int]:
    """Return the `<meeting>` elements, and how many could not be parsed."""
    root = _root(text)
    if root is None:
        text = _cleaned(text)
        root = _root(text)
    if root is None:
        return _salvaged(text)
    _check_returncode(root)
    if root.find("meetings") is None and root.findtext("messageKey") != "noMeetings":
        msg = "the answer has no <meetings>"
        raise NotXmlError(msg)
    return root.findall("meetings/meeting"), 0


def _root(text: bytes) -> etree._Element | None:
    """Return the root element, or None where `text` is malformed outside the attendees too."""
    # In CDATA and comments tags are no tags, which only a parse of the whole can tell. That is
    # never BigBlueButton itself; if it is a client's name, the whole is malformed, as the name's
    # second copy makes `</!`. (One byte is found many times faster than several.)
    if b"[" in text and b"![CDATA[" in text:
        root = _parsed(text)
        if root is not None:
            return root
    outside = _UNWANTED.sub(b"", without_attendees(text))
    return _parsed(text if _NO_TAG.search(outside) else outside)


def _parsed(text: bytes) -> etree._Element | None:
    parser = etree.XMLParser(
        # Whatever was declared; without a DOCTYPE there are no entities, and none gets this far.
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_blank_text=True,
        remove_comments=True,
        remove_pis=True,
        collect_ids=False,
    )
    try:
        return etree.fromstring(text, parser)
    except etree.XMLSyntaxError:
        return None


def _cleaned(text: bytes) -> bytes:
    """Return `text` as UTF-8 without characters that XML forbids."""
    decoded = text.translate(None, _FORBIDDEN).decode(errors="replace")
    return decoded.replace("\ufffe", "").replace("\uffff", "").encode()


def _salvaged(text: bytes) -> tuple[list[etree._Element], int]:
    """Cut a malformed answer at `<meeting>`, and parse each meeting on its own."""
    outside = without_attendees(text)
    head, _, rest = outside.partition(b"<meetings>")
    root = _parsed(head + b"</response>")
    # With a stray tag, nobody knows where the attendees end.
    stray = outside.count(OPEN) != outside.count(CLOSE)
    if root is None or stray or _NO_TAG.search(outside):
        msg = "the answer is malformed"
        raise NotXmlError(msg)
    _check_returncode(root)
    pieces = [piece.partition(b"</meeting>") for piece in rest.split(b"<meeting>")[1:]]
    if len(pieces) > _MAX_SALVAGED:
        msg = "the answer is malformed, and has more meetings than any server"
        raise NotXmlError(msg)
    parsed = [_parsed(b"<meeting>" + inner + end) for inner, end, _ in pieces]
    elements = [element for element in parsed if element is not None]
    if not elements:
        msg = "the answer is malformed in every meeting"
        raise NotXmlError(msg)
    return elements, len(parsed) - len(elements)


def _check_returncode(root: etree._Element) -> None:
    returncode = root.findtext("returncode")
    if root.tag == "response" and returncode == "FAILED":
        raise ApiError(root.findtext("messageKey") or "")
    if root.tag != "response" or returncode != "SUCCESS":
        msg = "the answer has no <returncode>"
        raise NotXmlError(msg)


def _meeting(element: etree._Element, wanted: _Wanted) -> Meeting | None:
    """Return the meeting, or None if it has ended."""
    children = {child.tag: child for child in element}
    if len(children) != len(element):
        tags = Counter(child.tag for child in element)
        if any(tags[tag] > 1 for tag in _SCALARS):
            raise _UnreadableMeetingError
    fields = {tag: children[tag].text for tag in _SCALARS if tag in children}
    if fields.get("hasBeenForciblyEnded") == "true" or _number(fields.get("endTime")):
        return None
    internal_id = _identifier(fields.get("internalMeetingID"))
    breakout = fields.get("isBreakout") == "true"
    parent = fields.get("parentMeetingID") if breakout else None
    voice, video, listeners = (_count(fields[t]) if t in fields else 0 for t in _COUNTS)
    return Meeting(
        internal_id=internal_id,
        external_id=_identifier(fields.get("meetingID")),
        created_at=_created_at(fields.get("createTime"), internal_id),
        participants=_count(fields.get("participantCount")),
        voice=voice,
        video=video,
        listeners=listeners,
        dialins=_dialin_count(element, fields.get("attendees")),
        breakout=breakout,
        parent_internal_id=_identifier(parent) if parent else None,
        recording=fields.get("recording") == "true",
        metadata=(
            _metadata(children["metadata"], wanted.metadata_keys)
            if wanted.metadata_keys and "metadata" in children
            else _NOTHING
        ),
        name=(fields.get("meetingName") or "")[:_MAX_TEXT] or None if wanted.room_names else None,
    )


def _dialin_count(element: etree._Element, text: str | None) -> int:
    """Return what `_without_attendees` counted, or count in an answer that was parsed whole."""
    if text and text.isdecimal():
        return _count(text)
    return sum(
        attendee.findtext("role") == "DIAL-IN-USER" or attendee.findtext("clientType") == "DIAL-IN"
        for attendee in element.iterfind("attendees/attendee")
    )


def _metadata(element: etree._Element, keys: frozenset[str]) -> dict[str, str]:
    return {
        tag: text
        for child in element
        if (tag := child.tag) in keys and (text := child.text) and len(text) <= _MAX_TEXT
    }


def _identifier(text: str | None) -> str:
    if not text or text.isspace() or len(text) > _MAX_TEXT:
        raise _UnreadableMeetingError
    # What is printable has no control character, and nearly all is: that is looked up faster.
    if not text.isprintable() and _CONTROL.search(text):
        raise _UnreadableMeetingError
    return text


def _number(text: str | None) -> int:
    """Return a number as BigBlueButton writes it for machines, or 0 where it is none."""
    return int(text) if text and text.isdecimal() and len(text) <= _MAX_NUMBER else 0


def _created_at(text: str | None, internal_id: str) -> datetime:
    """Return createTime or, where that is missing, the end of the internal id."""
    for candidate in (text, internal_id.rpartition("-")[2]):
        created_ms = _number(candidate)
        if _MIN_CREATED_MS <= created_ms < _MAX_CREATED_MS:
            return utc(created_ms / 1000)
    raise _UnreadableMeetingError


def _count(text: str | None) -> int:
    """Return a count, from 1,000 on with a separator of any locale: `1,202`, `1.202`, `1 202`."""
    text = text or ""
    if len(text) > _MAX_NUMBER or "-" in text or "\u2212" in text:
        raise _UnreadableMeetingError
    digits = text if text.isdecimal() else "".join(c for c in text if c.isdecimal())
    if not digits:
        raise _UnreadableMeetingError
    count = int(digits)
    if count > _MAX_COUNT:
        raise _UnreadableMeetingError
    return count
