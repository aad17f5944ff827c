"""Finds all ways to read an answer that may contain markup from the name of a client's data.

A client chooses the NAME of its custom data. The server writes them as `<NAME>value</NAME>`. The
value is escaped. Every known BigBlueButton also escapes NAME, and then this module has nothing to
do. If a server did not escape NAME, markup in NAME could end its meeting, invent other meetings
and begin one more. Two names made for each other could do this in well-formed XML. But a name
always occurs twice in the answer, in the opening and in the closing tag. This reveals it:

1. *Plain* custom data are a run of `<customdata>`, elements `<K>text</K>` (K without `<` and `>`),
   and `</customdata></attendee>` before `<attendee>` or `</attendees>`. An answer is plain if each
   `<customdata>` begins a run and each `</customdata>` ends one. If NAME contains markup, the
   answer is not plain. For the run in which NAME stands, there are two cases. Either the run fails
   within NAME. Or NAME's first copy is read as elements `K…`, `</customdata></attendee>` and more.
   In the second case, NAME's second copy contains these too, behind the `</K` of `</NAME>`. The
   second copy begins within an element, but the first copy begins before one. No run can end at
   the same `</customdata>` from both beginnings, so the `</customdata>` of the second copy is left
   over. (A self-closed `<K/>` is an element only if the answer has no `</K/>`. It would have one if
   NAME began with `K/>`.) So the first place that is not plain lies within `<NAME>…</NAME>` of the
   first NAME with markup, and everything before that NAME was read as the server meant it.
2. At that place, the search considers every `<N>text</N>` that contains the place and begins where
   an element may begin. It tries each N as a name with markup, and reads on behind it by the same
   rules. The truth is among the readings that reach the end of the answer and contain no session
   twice, as BigBlueButton lists none twice. Usually there is only one such reading.
3. In each reading, every name with markup is removed, and a mark in its place makes its meeting
   unreadable. A meeting counts if every reading contains it with the same figures. The ids of all
   others are reported as unread: they may be running or not.

So neither one name nor several names made for each other can add a meeting, or change the figures
or the tenant of another meeting. A client can still do two things. First, it can cause a meeting
other than its own to be skipped, if its names allow a complete reading without that meeting. For
this, everything that the server wrote between two of the client's names must be repeated, or be
readable as custom data. Second, names that allow many readings, or none, make bbbmeter reject the
whole answer: unknown is not zero.
"""

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from collector.errors import NotXmlError

# Without the `<`: a name that begins with a slash has two slashes before its second copy.
_TAG_END = b"customdata>"
_OPEN, _CLOSE = b"<" + _TAG_END, b"/" + _TAG_END
_END = rb"</customdata>\s*+</attendee>\s*+(?=<attendee>|</attendees>)"
_ELEMENT = rb"<([^<>]*+)>[^<]*+</\1>\s*+"
_SELF_CLOSED = rb"<[^<>/]++/>\s*+"
_ONE = re.compile(_ELEMENT)
_ONE_OR_CLOSED = re.compile(rb"%b|%b" % (_ELEMENT, _SELF_CLOSED))
_RUN, _RUN_OR_CLOSED = (
    re.compile(rb"<customdata>\s*+(?:%b)*+%b" % (element.pattern, _END))
    for element in (_ONE, _ONE_OR_CLOSED)
)
_RUN_END = re.compile(_END)
# The closing tag of a name that ends in a slash, which is not a self-closed element.
_SLASHED = re.compile(rb"</[^<>]*/>")
# The beginning of a name with markup. If the whole name is before the next `<`, there is a `>` in
# the name and another one behind it.
_BEGINNING = rb"(?=([^<>]*+>(?=[^<>]*+>)|[^<]*+<?))"
_OPENING, _CLOSING = re.compile(rb"<" + _BEGINNING), re.compile(rb"</" + _BEGINNING)
# A metadata entry with the key `customdata`.
_METADATA = re.compile(rb"<customdata>\s*+[^<\s][^<]*+</customdata>")
# The beginning of a meeting in BigBlueButton's layout. Custom data can look like it only through
# names with markup.
_SESSION = re.compile(
    rb"<meeting>\s*+<meetingName>[^<]*+</meetingName>\s*+<meetingID>[^<]*+</meetingID>\s*+"
    rb"<internalMeetingID>([^<]*+)</internalMeetingID>"
)
# Ends the block of attendees and begins a second one. A meeting with two blocks is unreadable.
_MARK = b"</attendees><attendees>"

# Length of the keys in the index of second copies. It limits the memory of the index.
_KEY_BYTES = 64
# An answer with more readings is rejected. It limits memory and time.
_MAX_READINGS = 16
# Limit of the search's work: bytes read, plus a fixed number for each comparison.
_MAX_WORK_BYTES = 1 << 26
_COMPARISON_BYTES = 1 << 9


def readings(text: bytes) -> list[bytes]:
    """Return every reading of the answer `text`; usually that is only `text` itself.

    Raises NotXmlError if names with markup allow no reading or too many, or if the search takes
    too long.
    """
    if _is_plain(text, _RUN):
        return [text]
    self_closed = b"/>" in text and not _SLASHED.search(text)
    if self_closed and _is_plain(text, _RUN_OR_CLOSED):
        return [text]
    return _Search(text, _ONE_OR_CLOSED if self_closed else _ONE).readings()


def _is_plain(text: bytes, run: re.Pattern[bytes]) -> bool:
    at = text.find(_TAG_END)
    while at >= 0:
        match = run.match(text, at - 1)
        if match is None:
            return False
        at = text.find(_TAG_END, match.end())
    return True


class _Cut(NamedTuple):
    """A name with markup: `text[start:end]` is its `<N>text</N>`.

    `before` is the previous cut of the reading, None for the first. `sessions` are the internal
    ids that the reading contains up to `start`.
    """

    start: int
    end: int
    before: "_Cut | None"
    sessions: frozenset[bytes]


class _Search:
    """The search for the readings of one answer that is not plain."""

    def __init__(self, text: bytes, element: re.Pattern[bytes]) -> None:
        self._text = text
        self._element = element
        self._work_bytes = 4 * len(text) + _MAX_WORK_BYTES

    def readings(self) -> list[bytes]:
        found: list[bytes] = []
        paths: list[_Cut | None] = [None]
        while paths:
            before = paths.pop()
            stop, spans = self._read(before)
            if stop is None:
                if self._sessions(before, len(self._text)) is not None:
                    found.append(self._without(before))
            else:
                # If two candidates end at the same place, try only the one that begins first. Its
                # reading contains no additional meeting.
                starts = {end: start for start, end in reversed(spans) if end > stop}
                for end, start in starts.items():
                    sessions = self._sessions(before, start)
                    if sessions is not None:
                        paths.append(_Cut(start, end, before, sessions))
            if len(found) > _MAX_READINGS:
                msg = "an attendee's custom data contain markup that can be read in many ways"
                raise NotXmlError(msg)
        if not found and self._has_markup():
            msg = "an attendee's custom data contain markup that cannot be removed safely"
            raise NotXmlError(msg)
        # There is no name with markup: the server writes custom data in another layout.
        return found or [self._text]

    def _read(self, cut: _Cut | None) -> tuple[int | None, list[tuple[int, int]]]:
        """Read on behind `cut` to the first place that is not plain, or to the end of the answer.

        Return that place, None for the end. Also return start and end of all candidates for names
        with markup on the way, in the order in which they begin.
        """
        text, spans = self._text, list[tuple[int, int]]()
        at, in_run = (cut.end, True) if cut else (0, False)
        begin = at
        stop: int | None = None
        while stop is None:
            if in_run:
                start = text.find(b"<", at)
                if start < 0 or text[at:start].strip():
                    stop = at
                    break
                spans += ((start, end) for end in self._ends(start))
                if element := self._element.match(text, start):
                    at = element.end()
                elif run_end := _RUN_END.match(text, start):
                    at, in_run = run_end.end(), False
                else:
                    stop = start
                continue
            opening, closing = text.find(_OPEN, at), text.find(_CLOSE, at)
            if opening < 0 and closing < 0:
                break
            if opening < 0 or 0 <= closing < opening:
                stop = closing
            elif metadata := _METADATA.match(text, opening):
                at = metadata.end()
            else:
                at, in_run = opening + len(_OPEN), True
        self._work((len(text) if stop is None else stop) - begin)
        return stop, spans

    def _ends(self, start: int) -> Iterator[int]:
        """Yield all possible ends of a name with markup that begins with the `<` at `start`."""
        text = self._text
        opening = _OPENING.match(text, start)
        seconds = self._seconds.get(opening[1][:_KEY_BYTES], []) if opening else []
        for second in seconds[bisect_right(seconds, start) :]:
            # text[start:] begins with `<N>value</N>`, whose second N begins at `second`.
            first_end = text.rfind(b">", start, second)
            length = first_end - start - 1
            end = second + length + 1
            if end > len(text):
                break
            self._work(_COMPARISON_BYTES)
            if (
                length > 0
                and text.startswith(b">", end - 1)
                and text.find(b"<", first_end, second - 2) < 0
            ):
                self._work(length)
                name = text[start + 1 : first_end]
                if text.startswith(name, second) and (b"<" in name or b">" in name):
                    yield end

    @cached_property
    def _seconds(self) -> dict[bytes, list[int]]:
        """Possible positions of the second copy of a name, by the first bytes of the name."""
        seconds = defaultdict(list)
        for tag in _CLOSING.finditer(self._text):
            seconds[tag[1][:_KEY_BYTES]].append(tag.start(1))
        return seconds

    def _sessions(self, before: _Cut | None, end: int) -> frozenset[bytes] | None:
        """Return the sessions that a reading contains up to `end`, or None if one occurs twice."""
        start, known = (before.end, before.sessions) if before else (0, frozenset[bytes]())
        self._work(end - start)
        new = _SESSION.findall(self._text, start, end)
        sessions = known.union(new)
        return sessions if len(sessions) == len(known) + len(new) else None

    def _has_markup(self) -> bool:
        return any(any(self._ends(tag.start())) for tag in _OPENING.finditer(self._text))

    def _without(self, cut: _Cut | None) -> bytes:
        """Return the answer with a mark in place of each name that was removed."""
        pieces: list[bytes] = []
        end = len(self._text)
        while cut:
            pieces += (self._text[cut.end : end], _MARK)
            end, cut = cut.start, cut.before
        return b"".join((self._text[:end], *reversed(pieces)))

    def _work(self, size_bytes: int) -> None:
        self._work_bytes -= size_bytes
        if self._work_bytes < 0:
            msg = "an attendee's custom data contain markup that takes too long to remove"
            raise NotXmlError(msg)
