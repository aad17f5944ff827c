"""Parses the bytes of a getMeetings answer into meetings.

The attendees are most of an answer, but only the number of dial-ins is needed. So the blocks of
attendees are removed from the bytes first. Names, user ids and custom data are never parsed. If
the answer is laid out as BigBlueButton or a load balancer does it, one regular expression reads its
meetings. Otherwise lxml parses the answer, with the same result.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from collector.errors import NotXmlError
from collector.model import MAX_COUNT, Answer, Meeting
from collector.sources.polling.ambiguity import readings
from collector.sources.polling.bounds import check_totals
from collector.sources.polling.characters import CONTROL, allowed
from collector.sources.polling.layout import SCALARS, plain
from collector.sources.polling.lenient import parsed_by_lxml

_MAX_TEXT = 512  # characters of an id, a name or a metadata value
_END_KEPT = 64  # characters of an id that is hashed
_MAX_NUMBER = 32  # characters of a number
# Plausible times of createTime, in ms. The pipeline corrects times that our clock contradicts.
_MIN_CREATED_MS = 1_262_304_000_000  # 2010
_MAX_CREATED_MS = 4_102_444_800_000  # 2100
_NOTHING: Mapping[str, str] = MappingProxyType({})
_ID = SCALARS.index("internalMeetingID")
_JOINED: dict[str | None, bool] = {"true": True, "false": False}
# Nearly all counts, by their text: a lookup is faster than parsing.
_USUAL: dict[str | None, int] = {str(count): count for count in range(1000)}


class _Wanted(NamedTuple):
    """What the caller needs of a meeting. `metadata` finds these keys in well-formed metadata."""

    metadata_keys: frozenset[str]
    metadata: re.Pattern[str]
    room_names: bool


@lru_cache
def _wanted(metadata_keys: frozenset[str], room_names: bool) -> _Wanted:  # noqa: FBT001
    keys = "|".join(map(re.escape, sorted(metadata_keys))) or "(?!)"
    return _Wanted(metadata_keys, re.compile(f"<({keys})>([^<]*+)"), room_names)


class _UnreadableMeetingError(Exception):
    """A meeting from which no reliable sample can be made. It is counted as skipped."""


def parse_meetings(
    body: bytes,
    *,
    metadata_keys: frozenset[str] = frozenset(),
    room_names: bool = False,
) -> Answer:
    """Return the running meetings of a getMeetings answer, and what of it is not certain.

    `metadata_keys` (lower case) names the metadata to keep, `room_names` keeps the meetings'
    names. A meeting that cannot be read is omitted and counted in `Answer.skipped`. A meeting
    that has ended is omitted and not counted. If a meeting is in the answer several times with
    different content, the copy with the most participants is taken, of equals the first, and the
    meeting is doubtful. Meetings with one internal id and different createTimes are different
    meetings: clients choose the internal ids of breakouts.

    Raises NotXmlError if `body` is not a complete getMeetings answer, ApiError if BigBlueButton
    answered FAILED, and ImplausibleError if the answer is beyond `bounds`.
    """
    wanted = _wanted(metadata_keys, room_names)
    start = _start(body)
    answer, *others = (_answer(text, start, wanted) for text in readings(body))
    if others:
        answer = _common(answer, others)
    check_totals(answer)
    return answer


def _answer(text: bytes, start: int, wanted: _Wanted) -> Answer:
    found = plain(text, start, wanted.metadata)
    if found is None:
        found = parsed_by_lxml(text[start:])
    meetings: dict[str, Meeting] = {}
    # Ids of copies that say something else than the meeting that is taken, if one is.
    contradicting, unread = set[str | None](), set[str]()
    without_id = 0
    for scalars, metadata in found:
        try:
            meeting = _meeting(scalars, metadata, wanted)
        except _UnreadableMeetingError:
            if internal_id := _readable_id(scalars):
                unread.add(internal_id)
            else:
                without_id += 1
            continue
        if meeting is None:
            contradicting.add(_readable_id(scalars))
            continue
        key = meeting.internal_id
        first = meetings.setdefault(key, meeting)
        if first.created_ms != meeting.created_ms:
            key = f"{key}#{meeting.created_ms}"
            first = meetings.setdefault(key, meeting)
        if first is not meeting and first != meeting:
            contradicting.add(key)
            if first.participants < meeting.participants:
                meetings[key] = meeting
    if any(key != meeting.internal_id for key, meeting in meetings.items()):
        meetings, contradicting = _told_apart(meetings, contradicting)
    doubtful = meetings.keys() & (contradicting | unread)
    unread -= doubtful
    return Answer(
        tuple(meetings.values()), without_id + len(unread), frozenset(unread), frozenset(doubtful)
    )


def _told_apart(
    meetings: dict[str, Meeting], contradicting: set[str | None]
) -> tuple[dict[str, Meeting], set[str | None]]:
    """Give meetings with one internal id different ones; return what is given, so changed.

    The oldest meeting that is no breakout keeps the id: its own client did not choose it.
    """
    keys: dict[str, list[str]] = {}
    for key, meeting in meetings.items():
        keys.setdefault(meeting.internal_id, []).append(key)
    apart: dict[str, Meeting] = {}
    changed: set[str | None] = {key for key in contradicting if key not in meetings}
    for internal_id, own in keys.items():
        own.sort(key=lambda key: (meetings[key].breakout, meetings[key].created_ms))
        for number, key in enumerate(own):
            meeting = meetings[key]
            name = f"{internal_id}#{meeting.created_ms}" if number else internal_id
            apart[name] = meeting._replace(internal_id=name)
            if key in contradicting:
                changed.add(name)
    return apart, changed


def _common(answer: Answer, others: list[Answer]) -> Answer:
    """Return the meetings that are equal in `answer` and all `others`; the rest are skipped.

    Whether a meeting exists that only some readings have is not known, so it is unread too.
    """
    by_id = [{meeting.internal_id: meeting for meeting in other.meetings} for other in others]
    meetings = tuple(m for m in answer.meetings if all(m == o.get(m.internal_id) for o in by_id))
    ids = {meeting.internal_id for meeting in meetings}
    every = (answer, *others)
    unread = {m.internal_id for a in every for m in a.meetings}.union(*(a.unread for a in every))
    unread -= ids
    known = max(len(a.meetings) + a.skipped for a in every)
    return Answer(
        meetings,
        max(known - len(meetings), len(unread)),
        frozenset(unread),
        frozenset().union(*(a.doubtful for a in every)) & ids,
    )


def _start(body: bytes) -> int:
    """Return where `<response>…</response>` begins, behind a BOM and an XML declaration.

    Raises NotXmlError for an incomplete answer: its missing meetings must not look ended.
    """
    # Copies of a large answer take time, so nothing is cut off here.
    start, end = body.find(b"<response"), body.rfind(b">") + 1
    prolog = body[: max(start, 0)].removeprefix(b"\xef\xbb\xbf").strip()
    declaration = prolog.startswith(b"<?xml") and prolog.find(b"?>") == len(prolog) - 2
    complete = body.endswith(b"</response>", max(start, 0), end) and not body[end:].strip()
    if start < 0 or not complete or (prolog and not declaration):
        msg = "the answer is not a complete <response>"
        raise NotXmlError(msg)
    return start


def _meeting(
    scalars: Sequence[str | None], metadata: Sequence[tuple[str, str]], wanted: _Wanted
) -> Meeting | None:
    """Return the meeting, or None if it has ended."""
    # fmt: off
    (name, external_id, internal_id, created, joined, recording, forcibly_ended, end, count,
     listeners, voice, video, dialins, is_breakout, parent, *later, of_breakout, _) = scalars
    # fmt: on
    if forcibly_ended == "true" or (end != "0" and _number(end)):
        return None
    internal_id = _identifier(internal_id)
    breakout = is_breakout == "true"
    parent = parent or of_breakout
    participants = _count(count)
    # The constructor of `Meeting` would add 2 % to the time that a whole answer takes.
    return tuple.__new__(
        Meeting,
        (
            internal_id,
            _identifier(external_id),
            _created_ms(created, internal_id),
            participants,
            0 if voice is None else _count(voice),
            0 if video is None else _count(video),
            0 if listeners is None else _count(listeners),
            _count(dialins) if dialins and dialins.isdecimal() else 0,
            breakout,
            _identifier(parent) if breakout and parent else None,
            recording == "true",
            _metadata(metadata, wanted.metadata_keys) or _NOTHING,
            allowed(name or "")[:_MAX_TEXT] or None if wanted.room_names else None,
            True if participants else _JOINED.get(joined),
            *map(_later_count, later),
        ),
    )


def _metadata(elements: Sequence[tuple[str, str]], keys: frozenset[str]) -> dict[str, str]:
    kept: dict[str, str] = {}
    for tag, value in elements:
        if tag in keys and (text := allowed(value)) and len(text) <= _MAX_TEXT:
            kept[tag] = text
    return kept


def _identifier(text: str | None) -> str:
    """Return an id as it is; of one that is too long or cannot be shown, its hash and its end.

    Clients choose ids. A meeting must not be hidden by its own id, nor lose the suffix that a load
    balancer appended. Raises _UnreadableMeetingError if there is none.
    """
    if text and len(text) <= _MAX_TEXT and text.isprintable() and not text.isspace():
        return text  # nearly all identifiers
    text = allowed(text or "")
    if not text:
        raise _UnreadableMeetingError
    if text.isspace() or len(text) > _MAX_TEXT or CONTROL.search(text):
        # Line breaks are not the same in each layout of an answer.
        same = " ".join(text.split())
        digest = hashlib.sha256(same.encode(errors="surrogatepass")).hexdigest()[:40]
        return f"odd-{digest}-{CONTROL.sub('', same)[-_END_KEPT:]}"
    return text


def _readable_id(scalars: Sequence[str | None]) -> str | None:
    """Return the internal id of a meeting, None if it cannot be read."""
    try:
        return _identifier(scalars[_ID])
    except _UnreadableMeetingError:
        return None


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
    count = _USUAL.get(text)
    if count is not None:
        return count
    count = int(_digits(text or ""))
    if count > MAX_COUNT:
        raise _UnreadableMeetingError
    return count


def _later_count(text: str | None) -> int | None:
    """Return a count that not all servers send; None where it is missing or cannot be read."""
    try:
        return _count(text)
    except _UnreadableMeetingError:
        return None


def _digits(text: str) -> str:
    digits = "".join(c for c in text[: _MAX_NUMBER + 1] if c.isdecimal())
    if not digits or len(text) > _MAX_NUMBER or "-" in text or "\u2212" in text:
        raise _UnreadableMeetingError
    return digits
