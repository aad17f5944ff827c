"""Layouts of answers: BigBlueButton's own, and those of load balancers for the same meetings.

Each layout is a function from an answer in BigBlueButton's layout to the same answer as a load
balancer writes it. They follow the sources of Scalelite, b3scale and B3LB.
"""

from collections.abc import Callable
from html import escape

from lxml import etree

Layout = Callable[[bytes], bytes]

# The order of b3scale's struct. It leaves out hasUserJoined and all other elements.
_B3SCALE_MEETING = (
    *("meetingName", "meetingID", "internalMeetingID", "createTime", "createDate", "voiceBridge"),
    *("dialNumber", "attendeePW", "moderatorPW", "running", "duration", "recording"),
    *("hasBeenForciblyEnded", "startTime", "endTime", "participantCount", "listenerCount"),
    *("voiceParticipantCount", "videoCount", "maxUsers", "moderatorCount", "isBreakout"),
    *("metadata", "attendees", "breakoutRooms"),
)
_B3SCALE_ATTENDEE = (
    *("userID", "internalUserID", "fullName", "role", "isPresenter", "isListeningOnly"),
    *("hasJoinedVoice", "hasVideo", "clientType"),
)
_GO_ESCAPES = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&#34;",
    "'": "&#39;",
    "\t": "&#x9;",
    "\n": "&#xA;",
    "\r": "&#xD;",
}


def bigbluebutton(body: bytes) -> bytes:
    """Return the answer as it is."""
    return body


def scalelite(body: bytes) -> bytes:
    """Return the answer serialised again, as Nokogiri does: declared, and `<a/>` for empty ones."""
    root = _parsed(body)
    for element in root.iter():
        if not len(element) and not element.text:
            element.text = None
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8")


def scalelite_indented(body: bytes) -> bytes:
    """Return the answer of Scalelite with each element on a line of its own, indented."""
    root = _parsed(body)
    etree.indent(root)
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=True)


def b3lb(body: bytes) -> bytes:
    """Return the answer as B3LB's template renders it."""
    meetings = "".join(map(_b3lb_meeting, _parsed(body).iterfind("meetings/meeting")))
    return (
        f"<response>\n<returncode>SUCCESS</returncode>\n<meetings>{meetings}</meetings>\n"
        "</response>\n"
    ).encode()


def b3scale(body: bytes) -> bytes:
    """Return the answer as Go serialises b3scale's struct."""
    meetings = "".join(map(_b3scale_meeting, _parsed(body).iterfind("meetings/meeting")))
    return (
        "<response><returncode>SUCCESS</returncode><message></message><messageKey></messageKey>"
        f"<meetings>{meetings}</meetings></response>"
    ).encode()


LAYOUTS: tuple[Layout, ...] = (bigbluebutton, scalelite, scalelite_indented, b3lb, b3scale)


def _parsed(body: bytes) -> etree._Element:
    return etree.fromstring(body, etree.XMLParser(remove_blank_text=True))


def _b3lb_meeting(meeting: etree._Element) -> str:
    lines = ["\n<meeting>\n"]
    for child in meeting:
        if child.tag == "attendees":
            attendees = "".join(f"\n<attendee>\n{_b3lb_lines(a)}</attendee>" for a in child)
            lines.append(f"<attendees>{attendees}\n</attendees>\n")
        elif child.tag == "metadata":
            entries = "".join(f"\n<{e.tag}>{escape(e.text or '')}</{e.tag}>" for e in child)
            lines.append(f"<metadata>{entries}\n</metadata>\n")
        else:
            lines.append(f"<{child.tag}>{escape(child.text or '')}</{child.tag}>\n")
    return "".join((*lines, "</meeting>\n"))


def _b3lb_lines(parent: etree._Element) -> str:
    return "".join(f"<{e.tag}>{escape(e.text or '')}</{e.tag}>\n" for e in parent)


def _b3scale_meeting(meeting: etree._Element) -> str:
    children = {child.tag: child for child in meeting}
    parts = ["<meeting>"]
    for tag in _B3SCALE_MEETING:
        child = children.get(tag)
        if tag == "attendees":
            attendees = "".join(map(_b3scale_attendee, () if child is None else child))
            # Go leaves an empty list out.
            parts.append(f"<attendees>{attendees}</attendees>" if attendees else "")
        elif tag in {"metadata", "breakoutRooms"}:
            inside = "".join(map(_go, () if child is None else child))
            parts.append(f"<{tag}>{inside}</{tag}>" if inside or tag == "metadata" else "")
        elif child is not None:
            parts.append(_go(child))
    if "parentMeetingID" in children:
        inside = "".join(
            _go(children[tag])
            for tag in ("parentMeetingID", "sequence", "freeJoin")
            if tag in children
        )
        parts.append(f"<breakout>{inside}</breakout>")
    return "".join((*parts, "</meeting>"))


def _b3scale_attendee(attendee: etree._Element) -> str:
    children = {child.tag: child for child in attendee}
    return "".join(
        (
            "<attendee>",
            *(
                _go(children[tag]) if tag in children else f"<{tag}></{tag}>"
                for tag in _B3SCALE_ATTENDEE
            ),
            "</attendee>",
        )
    )


def _go(element: etree._Element) -> str:
    text = "".join(_GO_ESCAPES.get(c, c) for c in element.text or "")
    return f"<{element.tag}>{text}</{element.tag}>"
