"""Reads answers in BigBlueButton's own layout, with one regular expression.

`lenient.py` reads all others, with the same result.
"""

import re
from collections.abc import Sequence
from html import unescape

from collector.sources.polling.attendees import without_attendees
from collector.sources.polling.characters import CDATA, has

# The elements of a meeting that are read, in the order of BigBlueButton's template (`_layout`). A
# name must be in both.
SCALARS = (
    *("meetingName", "meetingID", "internalMeetingID", "createTime", "hasUserJoined", "recording"),
    *("hasBeenForciblyEnded", "endTime", "participantCount", "listenerCount"),
    *("voiceParticipantCount", "videoCount", "moderatorCount", "attendees", "metadata"),
    *("metadata_key", "isBreakout", "parentMeetingID", "breakout"),
)
# The element of each count in `LATER_COUNTS`.
LATER_ELEMENTS = {"moderators": "moderatorCount"}
_METADATA = SCALARS.index("metadata")

ENTITY = re.compile("&(?:amp|lt|gt|quot|apos|#39);")

# The texts of a meeting's `SCALARS`, None for a missing one, and its metadata as (key, text). The
# text of `attendees` is the number of dial-ins, if there are attendees. The text of `breakout` is
# that of its `parentMeetingID`: b3scale puts a breakout room's parent there.
Fields = tuple[Sequence[str | None], Sequence[tuple[str, str]]]


# Matches a meeting in BigBlueButton's layout, without its attendees. The elements are in this
# order, and each can be missing. The groups are `SCALARS`, in their order. The group for a
# metadata key is among them because the expression refers back to it.
def _layout() -> re.Pattern[str]:
    order = (
        *("meetingName", "meetingID", "internalMeetingID", "createTime", "createDate"),
        *("voiceBridge", "dialNumber", "attendeePW", "moderatorPW", "running", "duration"),
        *("hasUserJoined", "recording", "hasBeenForciblyEnded", "startTime", "endTime"),
        *("participantCount", "listenerCount", "voiceParticipantCount", "videoCount"),
        *("maxUsers", "moderatorCount", "attendees", "metadata", "isBreakout"),
        *("parentMeetingID", "sequence", "freeJoin", "breakoutRooms", "breakout"),
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
        text = f"(?P<{tag}>{text})" if tag in SCALARS else text
        if tag == "breakout":
            parent = r"\s*+<parentMeetingID>(?P<breakout>[^<]*+)</parentMeetingID>\s*+"
            text = rf"{parent}(?:<sequence>[^<]*+</sequence>\s*+<freeJoin>[^<]*+</freeJoin>\s*+)?+"
        elements.append(rf"(?:<{tag}>{text}</{tag}>\s*+)?+")
    return re.compile(rf"<meeting>\s*+{''.join(elements)}</meeting>\s*+", re.ASCII)


_MEETING = _layout()
_BEGIN = re.compile(rb"<response>\s*<returncode>SUCCESS</returncode>\s*<meetings>\s*")
_END = re.compile(r"</meetings>\s*</response>")


def plain(text: bytes, metadata_of: re.Pattern[str]) -> list[Fields] | None:
    """Return the meetings of an answer in BigBlueButton's layout; None for any other layout.

    `metadata_of` finds the metadata to keep, as (key, text), in well-formed metadata.
    """
    begin = _BEGIN.match(text)
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
    found = list[Fields]()
    at = 0
    while match := _MEETING.match(meetings, at):
        end = match.end()
        scalars: Sequence[str | None] = match.groups()
        metadata = metadata_of.findall(scalars[_METADATA] or "")
        if meetings.find("&", at, end) >= 0:
            # lxml rejects all other entities, so it must decide about the meeting.
            if "&" in ENTITY.sub("", match[0]):
                return None
            scalars = [text and unescape(text) for text in scalars]
            metadata = [(key, unescape(text)) for key, text in metadata]
        found.append((scalars, metadata))
        at = end
    return found if _END.fullmatch(meetings, at) else None
