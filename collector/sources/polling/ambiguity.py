"""The ways to read an answer in which a client's name may have brought markup with it.

A client chooses the NAME of its custom data, which a server writes as `<NAME>value</NAME>`. The
value is escaped. So is NAME with every BigBlueButton known, and then nothing here has work to do.
If a server left NAME as it is, it could end its meeting, make up others and begin one more, and
two names made for each other could do so in XML that is well-formed. What no name can do is to
stand in the answer once:

1. *Plain* custom data are `<customdata>`, elements `<K>text</K>` (K without `<` and `>`), and
   `</customdata></attendee>` before `<attendee>` or `</attendees>`. An answer is plain if each
   `<customdata>` begins such a run and each `</customdata>` ends one. If NAME holds markup, the
   answer is not plain: the run it stands in either fails within NAME, or NAME's first copy is
   read as elements `K…`, `</customdata></attendee>` and more. Then the second copy has these
   too, behind the `</K` of `</NAME>`: it begins within an element, where the first begins before
   one. No run can end at the same `</customdata>` from both, so that of the second is left over.
   (A self-closed `<K/>` is an element only where the answer has no `</K/>`, as it would have if
   NAME began with `K/>`.) Hence, the first place that is not plain lies within `<NAME>…</NAME>`
   of the first NAME with markup, and all before that NAME was read as the server meant it.
2. At that place every `<N>text</N>` around it that begins where an element may begin is tried as
   being such a name; what follows it is read on by the same rules. The truth is among the
   readings that come to the end of the answer and have no session twice, as BigBlueButton never
   has. As a rule it is the only one.
3. In a reading, each name with markup is cut out, and a mark left which makes its meeting
   unreadable. A meeting counts if every reading has it, with the same figures.

So no name, nor any number of names made for each other, adds a meeting or changes the figures or
the tenant of another one. What a client can still reach: a meeting other than its own is skipped
where names can be so made that a reading without that meeting is complete, for which all that the
server wrote between two of the client's names must be repeated, or read as custom data. And
names that allow many readings, or none, have the whole answer refused: unknown is not zero.
"""

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from collector.errors import NotXmlError

# A name that begins with a slash has two before its second copy.
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
# A name that ends in a slash, and is no self-closed element.
_SLASHED = re.compile(rb"</[^<>]*/>")
# What a name with markup begins with: if it is all in front of the next `<`, there is a `>` in
# it, and one behind it.
_BEGINNING = rb"(?=([^<>]*+>(?=[^<>]*+>)|[^<]*+<?))"
_OPENING, _CLOSING = re.compile(rb"<" + _BEGINNING), re.compile(rb"</" + _BEGINNING)
# Metadata whose key is "customdata".
_METADATA = re.compile(rb"<customdata>\s*+[^<\s][^<]*+</customdata>")
# How BigBlueButton begins a meeting; no custom data look like it but by names with markup.
_SESSION = re.compile(
    rb"<meeting>\s*+<meetingName>[^<]*+</meetingName>\s*+<meetingID>[^<]*+</meetingID>\s*+"
    rb"<internalMeetingID>([^<]*+)</internalMeetingID>"
)
# Ends the block of attendees and begins a second one; a meeting with two is unreadable.
_MARK = b"</attendees><attendees>"

_KEY_BYTES = 64
_MAX_READINGS = 16
# What the search may cost: bytes read, and so many for each comparison.
_MAX_WORK_BYTES = 1 << 26
_COMPARISON_BYTES = 1 << 9


def readings(text: bytes) -> list[bytes]:
    """Return every reading of `text`, an answer; mostly that is `text` alone.

    Raises NotXmlError where names with markup allow no reading, or too many.
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
    """A name with markup, `text[start:end]` being `<N>text</N>`.

    `before` is the cut before it in the reading, and `sessions` what the reading has so far.
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
                # Of two that end at one place, the one that begins first has no meeting more.
                starts = {end: start for start, end in reversed(spans) if end > stop}
                for end, start in starts.items():
                    sessions = self._sessions(before, start)
                    if sessions is not None:
                        paths.append(_Cut(start, end, before, sessions))
            if len(found) > _MAX_READINGS:
                msg = "an attendee's data bring markup that can be read in many ways"
                raise NotXmlError(msg)
        if not found and self._has_markup():
            msg = "an attendee's data bring markup that cannot be told apart"
            raise NotXmlError(msg)
        # Without any such name, it is a server that writes custom data in another way.
        return found or [self._text]

    def _read(self, cut: _Cut | None) -> tuple[int | None, list[tuple[int, int]]]:
        """Read on behind `cut` to where the answer is not plain, or to its end.

        Return that place (None for the end), and start and end of all that may be names with
        markup on the way, in the order in which they begin.
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
        """Yield where a name with markup ends that begins with the `<` at `start`."""
        text = self._text
        opening = _OPENING.match(text, start)
        seconds = self._seconds.get(opening[1][:_KEY_BYTES], []) if opening else []
        for second in seconds[bisect_right(seconds, start) :]:
            # text[start:] is `<N>value</N>`, its second N begins at `second`.
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
        """Where the second copy of a name may begin, by the name's beginning."""
        seconds = defaultdict(list)
        for tag in _CLOSING.finditer(self._text):
            seconds[tag[1][:_KEY_BYTES]].append(tag.start(1))
        return seconds

    def _sessions(self, before: _Cut | None, end: int) -> frozenset[bytes] | None:
        """Return which sessions a reading has up to `end`, or None if it has one twice."""
        start, known = (before.end, before.sessions) if before else (0, frozenset[bytes]())
        self._work(end - start)
        new = _SESSION.findall(self._text, start, end)
        sessions = known.union(new)
        return sessions if len(sessions) == len(known) + len(new) else None

    def _has_markup(self) -> bool:
        return any(any(self._ends(tag.start())) for tag in _OPENING.finditer(self._text))

    def _without(self, cut: _Cut | None) -> bytes:
        """Return the answer with a mark for each name that was cut out of it."""
        pieces: list[bytes] = []
        end = len(self._text)
        while cut:
            pieces += (self._text[cut.end : end], _MARK)
            end, cut = cut.start, cut.before
        return b"".join((self._text[:end], *reversed(pieces)))

    def _work(self, size_bytes: int) -> None:
        self._work_bytes -= size_bytes
        if self._work_bytes < 0:
            msg = "an attendee's data bring markup that takes too long to tell apart"
            raise NotXmlError(msg)
