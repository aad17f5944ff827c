"""Removes the blocks of attendees from a getMeetings answer before it is parsed.

This saves time, and one client cannot make a whole answer unreadable. Clients choose their custom
data, and BigBlueButton writes them as `<NAME>value</NAME>`. It escapes the value *and* the name,
but does not check that the name is a valid element name. `userdata-1st attr`,
`userdata-/attendees` or `userdata-![CDATA[` make the whole answer malformed. Because of the
escaping, a name contains no `<` or `>` of its own. Therefore:

- An `</attendees>` that such a name makes is either the end of `<attendees>value</attendees>` or
  the beginning of `</attendees>value<//attendees>`. `_block_end` skips both. Every other
  `</attendees>` is the real end of a block. So exactly the blocks are removed, whatever the names
  are.
- The text outside the blocks is well-formed, whatever the names are. The only exception are
  characters that XML forbids. The parser removes these in a second attempt.

`ambiguity.py` handles names that are not escaped. It runs first.
"""

import re

OPEN, CLOSE = b"<attendees>", b"</attendees>"
# The beginning of an attendee. A client's name `attendee` can make this tag, but then `</` follows.
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
        # A block without markup is empty, or it is the value of a metadata key `attendees`.
        if text.find(b"<", start, end) >= 0:
            dialins = _dialins(text, start, end)
            pieces += (text[kept:start], b"%d" % dialins if dialins else b"0")
            kept = end
        at = text.find(OPEN, end)
    return b"".join((*pieces, text[kept:]))


def _block_end(text: bytes, start: int) -> int:
    """Return where the block of attendees that begins at `start` ends, or -1 if it does not end."""
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
    """Count the dial-ins in a block of attendees. Custom data cannot fake a dial-in."""
    # Searching for one character is many times faster than for several.
    if text.find(b"-", start, end) < 0 or text.find(b"DIAL-IN", start, end) < 0:
        return 0
    # Custom data are the last part of an attendee.
    attendees = (a.partition(b"<customdata>")[0] for a in _ATTENDEE.split(text[start:end]))
    return sum(
        b"<role>DIAL-IN-USER</role>" in a or b"<clientType>DIAL-IN</clientType>" in a
        for a in attendees
    )
