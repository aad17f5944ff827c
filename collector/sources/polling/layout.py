"""Reads answers in the layouts of BigBlueButton and of load balancers, with a regular expression.

One idea makes this fast in every layout: a meeting is a sequence of elements without order, and
each is one alternative of one regular expression. An element that is read has a group, and matches
only while its group is empty. So the order does not matter, and an element that occurs twice
matches nothing. Any other element matches the last alternative: it is skipped, with its children.
White space is possible between all elements. Self-closed elements are written out before.

What does not match is left to `lenient.py`, which reads every layout with the same result: meetings
with attributes, comments, CDATA, deeper elements, rare entities, or texts of unusual length, for
which lxml has limits.
"""

import re
from collections.abc import Sequence
from html import unescape

from collector.sources.polling.attendees import without_attendees
from collector.sources.polling.characters import CDATA, has

# The element of each count in `LATER_COUNTS`.
LATER_ELEMENTS = {"moderators": "moderatorCount"}
# The elements of a meeting that are read, in the order of the texts in `Fields`.
SCALARS = (
    *("meetingName", "meetingID", "internalMeetingID", "createTime", "hasUserJoined", "recording"),
    *("hasBeenForciblyEnded", "endTime", "participantCount", "listenerCount"),
    *("voiceParticipantCount", "videoCount", "attendees", "isBreakout", "parentMeetingID"),
    *(*LATER_ELEMENTS.values(), "breakout", "metadata"),
)
# Elements that are not read, but that BigBlueButton writes. Any other is slower to skip.
_SKIPPED = (
    *("createDate", "voiceBridge", "dialNumber", "attendeePW", "moderatorPW", "running"),
    *("duration", "startTime", "maxUsers", "sequence", "freeJoin"),
)

# The texts of a meeting's `SCALARS`, None for a missing one, and its metadata as (key, text). The
# text of `attendees` is the number of dial-ins, if there are attendees. The text of `breakout` is
# that of its `parentMeetingID`: b3scale puts a breakout room's parent there.
Fields = tuple[Sequence[str | None], Sequence[tuple[str, str]]]

# Others are rare. lxml rejects some, and `unescape` reads some in another way.
ENTITY = re.compile("&(?:amp|lt|gt|quot|apos|#(?:9|10|13|34|38|39|x(?:9|[Aa]|[Dd]|22|26|27)));")

# lxml rejects names of 50,000 characters and texts of ten million bytes. These stay far below.
_NAME = r"[a-zA-Z_][\w.-]{0,999}+"
_TEXT = r"[^<]{0,1000000}+"
_SPACE = r"\s{0,1000000}+"
# The text of an element that is compared or computed with, so that a character that XML forbids
# must be removed first. In the texts of `_STRINGS`, the parser removes them.
_VALUE = r"[^<\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]{0,1000000}+"
_STRINGS = ("meetingName", "meetingID", "internalMeetingID", "parentMeetingID")


def _element(group: str, text: str = _TEXT, *, never: Sequence[str] = ()) -> str:
    """Return a pattern for an element with any name but `never`, without the `<` before it."""
    but = rf"(?!(?:{'|'.join(never)})>)" if never else ""
    return rf"{but}(?P<{group}>{_NAME})>{text}</(?P={group})>"


def _meeting() -> re.Pattern[str]:
    """Return the pattern of a meeting without its attendees. Its first groups are `SCALARS`."""
    parent = rf"<parentMeetingID>({_TEXT})</parentMeetingID>{_SPACE}"
    numbers = rf"(?:<(?:sequence>{_TEXT}</sequence|freeJoin>{_TEXT}</freeJoin)>{_SPACE})*+"
    inside = {
        **dict.fromkeys(_STRINGS, f"({_TEXT})"),
        "breakout": _SPACE + parent + numbers,
        "metadata": rf"({_SPACE}(?:<{_element('key')}{_SPACE})*+)",
    }
    elements = [
        # `(?(1)(?!))` fails if group 1 has a text already.
        rf"{tag}>(?({group})(?!)){inside.get(tag, f'({_VALUE})')}</{tag}>"
        for group, tag in enumerate(SCALARS, start=1)
    ]
    elements += [rf"{tag}>{_TEXT}</{tag}>" for tag in _SKIPPED]
    children = rf"{_TEXT}(?:<{_element('child')}{_TEXT})*+"
    elements.append(_element("other", children, never=SCALARS))
    # The `<` is behind the space, so that each round begins with the alternatives.
    rounds = rf"(?:(?:{'|'.join(elements)}){_SPACE}<)*+"
    return re.compile(rf"<meeting>{_SPACE}<{rounds}/meeting>{_SPACE}", re.ASCII)


_MEETING = _meeting()
_READ = slice(len(SCALARS))
# Elements beside `meetings` are of no interest. b3scale writes an empty message, for example.
_BESIDE = _element("beside", r"[^]<&]{0,1000000}+")
_BESIDE = rf"(?:<(?!(?:returncode|meetings)\b)(?:{_NAME}/>|{_BESIDE}){_SPACE})*+"
_BEGIN = re.compile(
    rf"<response>{_SPACE}<returncode>SUCCESS</returncode>{_SPACE}{_BESIDE}"
    rf"<meetings>{_SPACE}".encode()
)
_END = re.compile(rf"</meetings>{_SPACE}{_BESIDE}</response>\s*+", re.ASCII)


def plain(text: bytes, start: int, metadata_of: re.Pattern[str]) -> list[Fields] | None:
    """Return the meetings of an answer in a usual layout; None for any other layout.

    The answer is `text[start:]`. `metadata_of` finds the metadata to keep, as (key, text), in
    well-formed metadata.
    """
    begin = _BEGIN.match(text, start)
    if not begin or has(text, CDATA):
        return None
    try:
        meetings = without_attendees(text, begin.end()).decode()
    except UnicodeDecodeError:
        return None
    if has(meetings, "]]>"):
        return None
    if "\r" in meetings:
        meetings = meetings.replace("\r\n", "\n").replace("\r", "\n")
    found = _read(meetings, metadata_of)
    if found is None and "/>" in meetings:
        found = _read(_written_out(meetings), metadata_of)
    return found


def _read(meetings: str, metadata_of: re.Pattern[str]) -> list[Fields] | None:
    found = list[Fields]()
    entities = "&" in meetings
    at = 0
    while match := _MEETING.match(meetings, at):
        end = match.end()
        scalars: Sequence[str | None] = match.groups()[_READ]
        metadata = metadata_of.findall(scalars[-1] or "")
        if entities and meetings.find("&", at, end) >= 0:
            if "&" in ENTITY.sub("", match[0]):
                return None
            scalars = [text and unescape(text) for text in scalars]
            metadata = [(key, unescape(text)) for key, text in metadata]
        found.append((scalars, metadata))
        at = end
    return found if _END.fullmatch(meetings, at) else None


def _written_out(text: str) -> str:
    """Return `text` with `<a></a>` for each `<a/>`. A `/>` elsewhere makes it malformed."""
    *parts, rest = text.split("/>")
    return "".join([f"{part}></{part[part.rfind('<') + 1 :]}>" for part in parts]) + rest
