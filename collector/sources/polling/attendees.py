"""The blocks of attendees in a getMeetings answer, cut out before it is parsed.

The cut saves time, and keeps one client from blinding the meter. Custom data come from clients as
`<NAME>value</NAME>`; BigBlueButton escapes the value *and* the name, but does not check that the
name can name an element. `userdata-1st attr`, `userdata-/attendees` or `userdata-![CDATA[` make
the whole answer malformed. With the escaping, a name has no `<` or `>` of its own. Therefore:

- An `</attendees>` that such a name makes is either the end of `<attendees>value</attendees>` or
  the beginning of `</attendees>value<//attendees>`. `_block_end` passes over both, every other
  `</attendees>` is the real end, and the cut is exact whatever the names are.
- What lies outside the blocks is well-formed whatever the names are, except for characters that
  XML forbids; these are removed at a second try.

Names that are not escaped are the business of readings.py, which comes first.
"""

import re

OPEN, CLOSE = b"<attendees>", b"</attendees>"
# The beginning of an attendee. The name `attendee` can make the tag, but then a `</` follows.
_ATTENDEE = re.compile(rb"<attendee>\s*(?=<[^/])")


def without_attendees(text: bytes, begin: int = 0) -> bytes:
    """Return `text[begin:]`, each block of attendees replaced by its number of dial-ins."""
    pieces: list[bytes] = []
    kept = begin
    at = text.find(OPEN, begin)
    while at >= 0:
        start = at + len(OPEN)
        end = _block_end(text, start)
        if end < 0:
            break
        # Without markup it is empty, or the value of a metadata key of that name.
        if text.find(b"<", start, end) >= 0:
            pieces += (text[kept:start], b"%d" % _dialins(text, start, end))
            kept = end
        at = text.find(OPEN, end)
    return b"".join((*pieces, text[kept:]))


def _block_end(text: bytes, start: int) -> int:
    """Return where the block of attendees that begins at `start` ends, or -1."""
    end = text.find(CLOSE, start)
    while end >= 0:
        before = text.rfind(b"<", start, end)
        after = text.find(b"<", end + 1)
        by_name = before >= 0 and text.startswith(OPEN, before)
        if not by_name and not text.startswith(b"<//attendees>", after):
            return end
        end = text.find(CLOSE, end + 1)
    return -1


def _dialins(text: bytes, start: int, end: int) -> int:
    """Count the dial-ins in a block of attendees; custom data cannot fake one."""
    # One character is found many times faster than several.
    if text.find(b"-", start, end) < 0 or text.find(b"DIAL-IN", start, end) < 0:
        return 0
    # Custom data stand last in an attendee.
    attendees = (a.partition(b"<customdata>")[0] for a in _ATTENDEE.split(text[start:end]))
    return sum(
        b"<role>DIAL-IN-USER</role>" in a or b"<clientType>DIAL-IN</clientType>" in a
        for a in attendees
    )
