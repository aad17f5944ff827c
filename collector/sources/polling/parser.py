"""Parses the bytes of a getMeetings answer into meetings.

The attendees are most of an answer, but only the number of dial-ins is needed. So the blocks of
attendees are removed from the bytes first. Names, user ids and custom data are never parsed. If
the answer has BigBlueButton's own layout, one regular expression reads its meetings. Otherwise
lxml parses the answer, with the same result.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from html import unescape
from types import MappingProxyType
from typing import AnyStr, NamedTuple

from lxml import etree

from collector.errors import ApiError, NotXmlError
from collector.model import Answer, Meeting
from collector.sources.polling.ambiguity import readings
from collector.sources.polling.attendees import CLOSE, OPEN, without_attendees

_MAX_TEXT = 512  # characters of an id, a name or a metadata value
_MAX_NUMBER = 32  # characters of a number
_MAX_COUNT = 32_767  # the largest number that the database can store (smallint)
_MAX_SALVAGED = 10_000  # meetings of a malformed answer, which are parsed one by one
# Plausible times of createTime, in ms. The pipeline corrects times that our clock contradicts.
_MIN_CREATED_MS = 1_262_304_000_000  # 2010
_MAX_CREATED_MS = 4_102_444_800_000  # 2100
_NOTHING: Mapping[str, str] = MappingProxyType({})

# CDATA, comments, processing instructions.
_CDATA = b"[CDATA["
_NO_TAG = re.compile(r"<[!?]")
# Characters that XML forbids, and lxml with it.
_FORBIDDEN = dict.fromkeys({*range(32), 0xFFFE, 0xFFFF} - set(b"\t\n\r"))
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

# Nearly all counts, by their text: a lookup is faster than parsing.
_USUAL = {str(count): count for count in range(1000)}
_SCALARS = (
    *("meetingName", "meetingID", "internalMeetingID", "createTime", "recording"),
    *("hasBeenForciblyEnded", "endTime", "participantCount", "listenerCount"),
    *("voiceParticipantCount", "videoCount", "moderatorCount", "attendees", "metadata"),
    *("metadata_key", "isBreakout", "parentMeetingID"),
)
_METADATA = _SCALARS.index("metadata")

_ENTITY = re.compile("&(?:amp|lt|gt|quot|apos|#39);")


# Matches a meeting in BigBlueButton's layout, without its attendees. The elements are in this
# order, and each can be missing. The groups are `_SCALARS`, in their order. The group for a
# metadata key is among them because the expression refers back to it.
def _layout() -> re.Pattern[str]:
    order = (
        *("meetingName", "meetingID", "internalMeetingID", "createTime", "createDate"),
        *("voiceBridge", "dialNumber", "attendeePW", "moderatorPW", "running", "duration"),
        *("hasUserJoined", "recording", "hasBeenForciblyEnded", "startTime", "endTime"),
        *("participantCount", "listenerCount", "voiceParticipantCount", "videoCount"),
        *("maxUsers", "moderatorCount", "attendees", "metadata", "isBreakout"),
        *("parentMeetingID", "sequence", "freeJoin", "breakoutRooms"),
    )
    inside = {
        "metadata": (
            r"\s*+(?:<(?P<metadata_key>[a-zA-Z_][\w.-]*+)>[^<]*+</(?P=metadata_key)>\s*+)*+"
        ),
        "breakoutRooms": r"\s*+(?:<breakout>[^<]*+</breakout>\s*+)*+",
    }
    elements = []
    for tag in order:
        text = inside.get(tag, "[^<]*+")
        text = f"(?P<{tag}>{text})" if tag in _SCALARS else text
        elements.append(rf"(?:<{tag}>{text}</{tag}>\s*+)?+")
    return re.compile(rf"<meeting>\s*+{''.join(elements)}</meeting>\s*+", re.ASCII)


_MEETING = _layout()
_BEGIN = re.compile(rb"<response>\s*<returncode>SUCCESS</returncode>\s*<meetings>\s*")
_END = re.compile(r"</meetings>\s*</response>")


class _Wanted(NamedTuple):
    """What the caller needs of a meeting. `metadata` finds these keys in well-formed metadata."""

    metadata_keys: frozenset[str]
    metadata: re.Pattern[str]
    room_names: bool


@lru_cache
def _wanted(metadata_keys: frozenset[str], room_names: bool) -> _Wanted:  # noqa: FBT001
    keys = "|".join(map(re.escape, sorted(metadata_keys))) or "(?!)"
    return _Wanted(metadata_keys, re.compile(f"<({keys})>([^<]*+)"), room_names)


# The texts of a meeting's `_SCALARS`, None for a missing one, and its metadata as (key, text). The
# text of `attendees` is the number of dial-ins, if there are attendees.
_Fields = tuple[Sequence[str | None], Sequence[tuple[str, str]]]


class _UnreadableMeetingError(Exception):
    """A meeting from which no reliable sample can be made. It is counted as skipped."""


def parse_meetings(
    body: bytes,
    *,
    metadata_keys: frozenset[str] = frozenset(),
    room_names: bool = False,
) -> Answer:
    """Return the running meetings of a getMeetings answer.

    `metadata_keys` (lower case) names the metadata to keep, `room_names` keeps the meetings'
    names. A meeting that cannot be read is omitted and counted in `Answer.skipped`. A meeting
    that has ended is omitted and not counted.

    Raises NotXmlError if `body` is not a complete getMeetings answer, and ApiError if
    BigBlueButton answered FAILED.
    """
    wanted = _wanted(metadata_keys, room_names)
    answer, *others = (_answer(text, wanted) for text in readings(_envelope(body)))
    return _common(answer, others) if others else answer


def _answer(text: bytes, wanted: _Wanted) -> Answer:
    found, skipped = _plain(text, wanted) or _parsed_by_lxml(text)
    meetings: dict[str, Meeting] = {}
    contradictory: Counter[str] = Counter()
    for scalars, metadata in found:
        try:
            meeting = _meeting(scalars, metadata, wanted)
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
    """Return the meetings that are equal in `answer` and all `others`; the rest are skipped."""
    by_id = [{meeting.internal_id: meeting for meeting in other.meetings} for other in others]
    meetings = tuple(m for m in answer.meetings if all(m == o.get(m.internal_id) for o in by_id))
    known = max(len(a.meetings) + a.skipped for a in (answer, *others))
    return Answer(meetings, known - len(meetings))


def _envelope(body: bytes) -> bytes:
    """Return `<response>…</response>` without a BOM and an XML declaration before it.

    Raises NotXmlError for an incomplete answer: its missing meetings must not look ended.
    """
    start = body.find(b"<response")
    prolog = body[: max(start, 0)].removeprefix(b"\xef\xbb\xbf").strip()
    text = body[start:].rstrip() if start >= 0 else b""
    declaration = prolog.startswith(b"<?xml") and prolog.find(b"?>") == len(prolog) - 2
    if not text.endswith(b"</response>") or (prolog and not declaration):
        msg = "the answer is not a complete <response>"
        raise NotXmlError(msg)
    return text


def _plain(text: bytes, wanted: _Wanted) -> tuple[list[_Fields], int] | None:
    """Return the meetings of an answer in BigBlueButton's layout; None for any other layout."""
    begin = _BEGIN.match(text)
    if not begin or _has(text, _CDATA):
        return None
    try:
        meetings = without_attendees(text, begin.end()).decode()
    except UnicodeDecodeError:
        return None
    if _has(meetings, "]]>"):
        return None
    if "\r" in meetings:
        meetings = meetings.replace("\r\n", "\n").replace("\r", "\n")
    found = list[_Fields]()
    at = 0
    while match := _MEETING.match(meetings, at):
        end = match.end()
        scalars: Sequence[str | None] = match.groups()
        metadata = wanted.metadata.findall(scalars[_METADATA] or "")
        if meetings.find("&", at, end) >= 0:
            # lxml rejects all other entities, so it must decide about the meeting.
            if "&" in _ENTITY.sub("", match[0]):
                return None
            scalars = [text and unescape(text) for text in scalars]
            metadata = [(key, unescape(text)) for key, text in metadata]
        found.append((scalars, metadata))
        at = end
    return (found, 0) if _END.fullmatch(meetings, at) else None


def _parsed_by_lxml(text: bytes) -> tuple[list[_Fields], int]:
    """Return the meetings, and how many could not be parsed."""
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
    return [_fields(element) for element in root.iterfind("meetings/meeting")], 0


def _fields(meeting: etree._Element) -> _Fields:
    """Return the fields of a `<meeting>`; no fields if one of its elements occurs twice."""
    fields: dict[str, str] = {}
    metadata: list[tuple[str, str]] = []
    for child in meeting:
        if child.tag in fields:
            fields.clear()
            break
        if child.tag in _SCALARS:
            fields[child.tag] = child.text or ""
        if child.tag == "attendees" and len(child):
            fields["attendees"] = str(_dialin_count(child))
        elif child.tag == "metadata":
            metadata = [(data.tag, data.text or "") for data in child]
    return [fields.get(tag) for tag in _SCALARS], metadata


def _root(text: bytes) -> etree._Element | None:
    """Return the root element, or None if `text` is malformed outside the attendees too."""
    outside = without_attendees(text)
    # In CDATA and comments, tags are only text, which needs a parse of the whole answer to see.
    # BigBlueButton writes neither. If a client's name does, the whole answer is malformed, as the
    # second copy of the name makes `</!`.
    no_tag = _NO_TAG.search(outside.decode(errors="replace"))
    root = _parsed(text) if no_tag or _has(text, _CDATA) else None
    return root if root is not None or no_tag else _parsed(outside)


def _has(text: AnyStr, part: AnyStr) -> bool:
    # Searching for one character is many times faster than for several.
    return part[:1] in text and part in text


def _parsed(text: bytes) -> etree._Element | None:
    parser = etree.XMLParser(
        # UTF-8, whatever is declared. An answer with a DOCTYPE, and so entities, is rejected.
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
    return _allowed(text.decode(errors="replace")).encode()


def _allowed(text: str) -> str:
    # Nearly all texts are printable and have no forbidden characters. This check is fast.
    return text if text.isprintable() else text.translate(_FORBIDDEN)


def _salvaged(text: bytes) -> tuple[list[_Fields], int]:
    """Split a malformed answer at `<meeting>`, and parse each meeting separately."""
    outside = without_attendees(text)
    head, _, rest = outside.partition(b"<meetings>")
    root = _parsed(head + b"</response>")
    # With an unpaired tag, it is not clear where the attendees end.
    stray = outside.count(OPEN) != outside.count(CLOSE)
    if root is None or stray or _NO_TAG.search(outside.decode(errors="replace")):
        msg = "the answer is malformed"
        raise NotXmlError(msg)
    _check_returncode(root)
    pieces = [piece.partition(b"</meeting>") for piece in rest.split(b"<meeting>")[1:]]
    if len(pieces) > _MAX_SALVAGED:
        msg = f"the answer is malformed and has more than {_MAX_SALVAGED} meetings"
        raise NotXmlError(msg)
    parsed = [_parsed(b"<meeting>" + inner + end) for inner, end, _ in pieces]
    meetings = [_fields(element) for element in parsed if element is not None]
    if not meetings:
        msg = "the answer is malformed in every meeting"
        raise NotXmlError(msg)
    return meetings, len(parsed) - len(meetings)


def _check_returncode(root: etree._Element) -> None:
    returncode = root.findtext("returncode")
    if root.tag == "response" and returncode == "FAILED":
        raise ApiError(root.findtext("messageKey") or "")
    if root.tag != "response" or returncode != "SUCCESS":
        msg = "the answer has no valid <returncode>"
        raise NotXmlError(msg)


def _meeting(
    scalars: Sequence[str | None], metadata: Sequence[tuple[str, str]], wanted: _Wanted
) -> Meeting | None:
    """Return the meeting, or None if it has ended."""
    name, external_id, internal_id, created, recording, forcibly_ended, end, *rest = scalars
    participants, listeners, voice, video, moderators, dialins, _, _, is_breakout, parent = rest
    if forcibly_ended == "true" or _number(end):
        return None
    internal_id = _identifier(internal_id)
    breakout = is_breakout == "true"
    # Positional arguments, as in the pipeline's samples: keywords take twice as long per meeting.
    return Meeting(
        internal_id,
        _identifier(external_id),
        _created_ms(created, internal_id),
        _count(participants),
        0 if voice is None else _count(voice),
        0 if video is None else _count(video),
        0 if listeners is None else _count(listeners),
        _count(dialins) if dialins and dialins.isdecimal() else 0,
        breakout,
        _identifier(parent) if breakout and parent else None,
        recording == "true",
        _metadata(metadata, wanted.metadata_keys) or _NOTHING,
        _allowed(name or "")[:_MAX_TEXT] or None if wanted.room_names else None,
        _later_count(moderators),
    )


def _dialin_count(attendees: etree._Element) -> int:
    """Count the dial-ins in an answer that was parsed whole."""
    return sum(
        attendee.findtext("role") == "DIAL-IN-USER" or attendee.findtext("clientType") == "DIAL-IN"
        for attendee in attendees.iterfind("attendee")
    )


def _metadata(elements: Sequence[tuple[str, str]], keys: frozenset[str]) -> dict[str, str]:
    return {
        tag: text
        for tag, value in elements
        if tag in keys and (text := _allowed(value)) and len(text) <= _MAX_TEXT
    }


def _identifier(text: str | None) -> str:
    if text and len(text) <= _MAX_TEXT and text.isprintable() and not text.isspace():
        return text  # nearly all identifiers
    text = _allowed(text or "")
    if not text or text.isspace() or len(text) > _MAX_TEXT:
        raise _UnreadableMeetingError
    if not text.isprintable() and _CONTROL.search(text):
        raise _UnreadableMeetingError
    return text


def _number(text: str | None) -> int:
    """Return a decimal number without sign and separators, or 0 if `text` is not one."""
    return int(text) if text and text.isdecimal() and len(text) <= _MAX_NUMBER else 0


def _created_ms(text: str | None, internal_id: str) -> int:
    """Return createTime or, if it is missing or not plausible, the time in the internal id (ms)."""
    created_ms = _number(text)
    if not _MIN_CREATED_MS <= created_ms < _MAX_CREATED_MS:
        created_ms = _number(internal_id.rpartition("-")[2])
    if not _MIN_CREATED_MS <= created_ms < _MAX_CREATED_MS:
        raise _UnreadableMeetingError
    return created_ms


def _count(text: str | None) -> int:
    """Return a count; from 1,000 on with any locale's separator: `1,202`, `1.202`, `1 202`."""
    if text in _USUAL:
        return _USUAL[text]
    count = int(_digits(text or ""))
    if count > _MAX_COUNT:
        raise _UnreadableMeetingError
    return count


def _later_count(text: str | None) -> int | None:
    """Return a count that not all servers send; None where it is missing or cannot be read."""
    if text in _USUAL:
        return _USUAL[text]
    try:
        return _count(text)
    except _UnreadableMeetingError:
        return None


def _digits(text: str) -> str:
    digits = "".join(c for c in text[: _MAX_NUMBER + 1] if c.isdecimal())
    if not digits or len(text) > _MAX_NUMBER or "-" in text or "\u2212" in text:
        raise _UnreadableMeetingError
    return digits
