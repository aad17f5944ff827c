"""Reads answers in any layout with lxml, and what can be read of malformed ones."""

import re
from html import unescape

from lxml import etree

from collector.errors import ApiError, NotXmlError
from collector.sources.polling.attendees import CLOSE, OPEN, without_attendees
from collector.sources.polling.characters import CDATA, allowed, has
from collector.sources.polling.layout import ENTITY, SCALARS, Fields

_MAX_SALVAGED = 10_000  # meetings of a malformed answer, which are parsed one by one
_NO_TAG = re.compile(r"<[!?]")
_ID = re.compile("<internalMeetingID>([^<]*)</internalMeetingID>")


def parsed_by_lxml(text: bytes) -> list[Fields]:
    """Return the meetings. Of one that is malformed or contradicts itself, only the id is kept."""
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
    return [_fields(element) for element in root.iterfind("meetings/meeting")]


def _fields(meeting: etree._Element) -> Fields:
    """Return the fields of a `<meeting>`; only its id if one of its elements occurs twice."""
    fields: dict[str, str] = {}
    metadata: list[tuple[str, str]] = []
    twice = set[str]()
    for child in meeting:
        if child.tag in fields:
            twice.add(child.tag)
        if child.tag in SCALARS:
            fields[child.tag] = child.text or ""
        if child.tag == "attendees" and len(child):
            fields["attendees"] = str(_dialin_count(child))
        elif child.tag == "metadata":
            metadata = [(data.tag, data.text or "") for data in child]
        elif child.tag == "breakout":
            fields["breakout"] = child.findtext("parentMeetingID") or ""
    if twice:
        return _only_id(None if "internalMeetingID" in twice else fields.get("internalMeetingID"))
    return [fields.get(tag) for tag in SCALARS], metadata


def _only_id(internal_id: str | None) -> Fields:
    """Return the fields of a meeting of which nothing but the internal id is certain."""
    return [internal_id if tag == "internalMeetingID" else None for tag in SCALARS], []


def _id_of_malformed(meeting: bytes) -> str | None:
    """Return the internal id in a malformed `<meeting>`; None unless it has exactly one."""
    text = _cleaned(meeting).decode()
    ids = _ID.findall(text)
    if len(ids) != 1 or text.count("<internalMeetingID") != 1 or "&" in ENTITY.sub("", ids[0]):
        return None
    return unescape(ids[0])


def _root(text: bytes) -> etree._Element | None:
    """Return the root element, or None if `text` is malformed outside the attendees too."""
    outside = without_attendees(text)
    # In CDATA and comments, tags are only text, which needs a parse of the whole answer to see.
    # BigBlueButton writes neither. If a client's name does, the whole answer is malformed, as the
    # second copy of the name makes `</!`.
    no_tag = _NO_TAG.search(outside.decode(errors="replace"))
    root = _parsed(text) if no_tag or has(text, CDATA) else None
    return root if root is not None or no_tag else _parsed(outside)


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
    return allowed(text.decode(errors="replace")).encode()


def _salvaged(text: bytes) -> list[Fields]:
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
    parsed = [(inner, _parsed(b"<meeting>" + inner + end)) for inner, end, _ in pieces]
    if all(element is None for _, element in parsed):
        msg = "the answer is malformed in every meeting"
        raise NotXmlError(msg)
    return [
        _only_id(_id_of_malformed(inner)) if element is None else _fields(element)
        for inner, element in parsed
    ]


def _check_returncode(root: etree._Element) -> None:
    returncode = root.findtext("returncode")
    if root.tag == "response" and returncode == "FAILED":
        raise ApiError(root.findtext("messageKey") or "")
    if root.tag != "response" or returncode != "SUCCESS":
        msg = "the answer has no valid <returncode>"
        raise NotXmlError(msg)


def _dialin_count(attendees: etree._Element) -> int:
    """Count the dial-ins in an answer that was parsed whole."""
    return sum(
        attendee.findtext("role") == "DIAL-IN-USER" or attendee.findtext("clientType") == "DIAL-IN"
        for attendee in attendees.iterfind("attendee")
    )
