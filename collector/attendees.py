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

If a server did not escape the names, a name could bring whole meetings with it. Names stand in an
answer twice, once after `<` and once after `</`, which shows (`_is_smuggled`): such an answer is
refused as a whole, since no part of it tells which meetings are made up. One name cannot get past
this; two that are made for each other could, and no parser would notice, as such an answer can be
well-formed. No BigBlueButton is known to leave names unescaped.
"""

import re

from collector.errors import NotXmlError

OPEN, CLOSE = b"<attendees>", b"</attendees>"
# The beginning of an attendee. The name `attendee` can make the tag, but then a `</` follows.
_ATTENDEE = re.compile(rb"<attendee>\s*(?=<[^/])")
_SLASHES = re.compile(rb"<(/+)")


def without_attendees(text: bytes) -> bytes:
    """Return `text`, an answer, with each block of attendees replaced by its number of dial-ins.

    Raises NotXmlError where a block's data bring markup with them.
    """
    pieces: list[bytes] = []
    blocks: list[tuple[int, int]] = []
    kept = 0
    at = text.find(OPEN)
    while at >= 0:
        start = at + len(OPEN)
        end = _block_end(text, start)
        if end < 0:
            break
        # Without markup it is empty, or the value of a metadata key of that name.
        if text.find(b"<", start, end) >= 0:
            pieces += (text[kept:start], b"%d" % _dialins(text, start, end))
            blocks.append((start, end))
            kept = end
        at = text.find(OPEN, end)
    # Only custom data have names that clients choose.
    custom = any(text.find(b"<customdata", start, end) >= 0 for start, end in blocks)
    if custom and _is_smuggled(text, blocks):
        msg = "an attendee's data bring markup with them"
        raise NotXmlError(msg)
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


def _is_smuggled(text: bytes, blocks: list[tuple[int, int]]) -> bool:
    """Say whether a client's name, unescaped, has moved the edges of `blocks`.

    Count each tag +1 if it opens and -1 if it closes, an odd number of slashes meaning that it
    closes. A real block is 0, with any escaped names in it: of a name's two tags, one has an odd
    number. Let a name end a block within itself, after parts that count h, and begin another
    with parts that count t. It has an edge (its own `<` or `</`) of e before its first copy and
    of -e before its second, and real parts that count p before it and -p behind it. The blocks
    count p + e + h, t - e + h and t - p: never all 0, whatever h and t are. The same holds where
    all blocks may count as many as they have `/>`, as with servers that write `<fullName/>`.
    """

    def net(start: int, end: int) -> int:
        tags = text.count(b"<", start, end)
        if text.find(b"<//", start, end) < 0:
            return tags - 2 * text.count(b"</", start, end)
        return tags - 2 * sum(len(run) % 2 for run in _SLASHES.findall(text, start, end))

    nets = [net(*block) for block in blocks]
    return any(nets) and nets != [text.count(b"/>", *block) for block in blocks]


def _dialins(text: bytes, start: int, end: int) -> int:
    """Count the dial-ins in a block of attendees; custom data cannot fake one."""
    if text.find(b"DIAL-IN", start, end) < 0:
        return 0
    # Custom data stand last in an attendee.
    attendees = (a.partition(b"<customdata>")[0] for a in _ATTENDEE.split(text[start:end]))
    return sum(
        b"<role>DIAL-IN-USER</role>" in a or b"<clientType>DIAL-IN</clientType>" in a
        for a in attendees
    )
