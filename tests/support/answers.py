"""Invented answers in which unescaped names contain markup, and the true content of each.

The names are in the meetings of attackers. A name is a random chain of the pieces that a break-out
needs, a break-out that is nearly or fully right, or a piece of another name.
"""

import functools
import random
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from collector.model import Meeting
from collector.sources.polling.parser import parse_meetings
from tests.support.meetings import CREATED_MS, identity

KEYS = frozenset({"tenant"})
VICTIMS = range(1, 5)
_FIRST_ATTACKER, _FORGED = 20, 666


@dataclass(frozen=True)
class Case:
    """An answer, its meetings without the names, and the meetings that have the names."""

    body: bytes
    truth: dict[str, Meeting]
    attackers: frozenset[str]


@dataclass
class _Person:
    dialin: bool = False
    custom: dict[str, str] = field(default_factory=dict)


def _meeting(number: int, people: list[_Person], participants: int = 4) -> str:
    """Render a meeting as BigBlueButton does, but with unescaped names of custom data."""
    attendees = ""
    for person in people:
        role, kind = ("DIAL-IN-USER", "DIAL-IN") if person.dialin else ("VIEWER", "HTML5")
        custom = "".join(f"<{k}>{escape(v)}</{k}>\n" for k, v in person.custom.items())
        attendees += (
            f"<attendee>\n<userID>u</userID>\n<fullName>Ada</fullName>\n<role>{role}</role>\n"
            f"<clientType>{kind}</clientType>\n"
            + (f"<customdata>\n{custom}</customdata>\n" if custom else "")
            + "</attendee>\n"
        )
    return (
        f"<meeting>\n<meetingName>Room</meetingName>\n<meetingID>r{number}</meetingID>\n"
        f"<internalMeetingID>{identity(number)}</internalMeetingID>\n"
        f"<createTime>{CREATED_MS}</createTime>\n<recording>false</recording>\n"
        "<hasBeenForciblyEnded>false</hasBeenForciblyEnded>\n<endTime>0</endTime>\n"
        f"<participantCount>{participants}</participantCount>\n<listenerCount>1</listenerCount>\n"
        "<voiceParticipantCount>3</voiceParticipantCount>\n<videoCount>2</videoCount>\n"
        f"<attendees>\n{attendees}</attendees>\n<metadata>\n<tenant>t{number}</tenant>\n"
        "</metadata>\n<isBreakout>false</isBreakout>\n</meeting>\n"
    )


def _answer(meetings: list[str]) -> bytes:
    inside = "".join(meetings)
    return (
        "<response>\n<returncode>SUCCESS</returncode>\n<meetings>\n"
        f"{inside}</meetings>\n</response>"
    ).encode()


_VICTIMS = {
    1: _meeting(1, [_Person(custom={"k": "v"})]),
    2: _meeting(2, [], participants=0),
    3: _meeting(3, [_Person(dialin=True, custom={"/customdata": "", "/attendee": ""})], 9),
    4: _meeting(4, [_Person(custom={"": "x", "![CDATA[": ""})]),
}
_MADE_UP = [
    _meeting(_FORGED, [_Person(dialin=True)]),
    _meeting(1, [], participants=77),
    _meeting(3, [_Person(custom={"q": ""})], participants=78),
]
_HEADS = [_meeting(number, [], 79).partition("<attendees>")[0] for number in (_FORGED + 1, 3)]
_REST = "<metadata>\n<tenant>t9</tenant>\n</metadata>\n<isBreakout>false</isBreakout>\n</meeting>\n"
_IN = "<attendee>\n<userID>u</userID>\n<customdata>\n"
_OUT = "</customdata>\n</attendee>\n</attendees>\n"
_NEXT = "</customdata>\n</attendee>\n<attendee>"
_WORDS = ["K", "a", "customdata", "attendee", "attendees", "internalMeetingID", "participantCount"]
_PIECES = [
    *(_IN, f"{_IN}<", _OUT, _OUT, _NEXT, _REST, _REST, *_MADE_UP, *_HEADS, *_VICTIMS.values()),
    *("<attendees>\n", "<attendees >\n", "</attendees>", "<customdata>", "</customdata>"),
    *("<attendee>", "</attendee>", "<metadata>", "</metadata>", "<meeting>", "</meeting>"),
    *("K>", "<K", "</K>", "<K></K>", "K></K>", "K></K", "<K><K", "/K>", "K", "a></a", "K/>"),
    *("![CDATA[", "]]>", "<![CDATA[", "!--", "-->", "<!--", "?", "?>", " ", "\n", ">", "<", "/"),
    *("/customdata>\n</attendee>\n", "/customdata>", "<customdata", "<//customdata>", "v"),
    *("customdata>", "attendees>", "attendee>", "<meeting>\n<meetingName>x</meetingName>\n"),
    *("internalMeetingID>\n<createTime>1755772800000</createTime>\n", "<internalMeetingID"),
    *("</response>", "</meetings>", "&", "\x00", "\ufffe"),
]


def _name(chance: random.Random, others: list[str]) -> str:
    pick = chance.choice
    pieces = "".join(chance.choices(_PIECES, k=pick([1, 2, 3, 4, 5, 8])))
    kind = chance.random()
    if kind < 0.5:
        word = pick(_WORDS)
        return "".join(
            (
                pick([f"{word}></{word}>", f"{word}>", f"{word}>x</{word}>", "a/>", "a></a>"]),
                pick([_OUT, _OUT, _NEXT, ""]),
                pick([_REST, _REST, ""]),
                *chance.choices([*_MADE_UP, _VICTIMS[1], _VICTIMS[2]], k=chance.randrange(3)),
                pick([*_HEADS, ""]),
                pick(["<attendees>\n", "<attendees >\n", "<metadata>"]),
                pick([_IN, ""]),
                *chance.choices([f"<{word}>", f"<{word}></{word}>"], k=chance.randrange(3)),
                pick([f"<{word}", f"<{word}><{word}", "<a></a", ""]),
            )
        )
    if kind < 0.7 and others:
        other = pick(others)
        cut = chance.randrange(len(other) + 1)
        return pick(
            [
                *(other[:cut], other[cut:], other[:cut] + pieces, pieces + other[cut:]),
                *(f"{other}>v</{other}", f"{other}<{other}", "K></K", "K></K></K></K"),
            ]
        )
    return pieces


def make_case(chance: random.Random) -> Case:
    """Return one answer with one or two attackers among some of four victims."""
    numbers = chance.sample(VICTIMS, k=chance.randint(1, 3))
    attackers = range(_FIRST_ATTACKER, _FIRST_ATTACKER + chance.choice([1, 1, 1, 2]))
    for attacker in attackers:
        numbers.insert(chance.randrange(len(numbers) + 1), attacker)
    names: list[str] = []
    meetings: list[str] = []
    truth: dict[str, Meeting] = {}
    for number in numbers:
        if number in attackers:
            people = [_Person(dialin=chance.random() < 0.5)]
            for _ in range(chance.choice([1, 1, 1, 2, 3])):
                person = _Person()
                for _ in range(chance.choice([1, 1, 2, 2, 3])):
                    names.append(_name(chance, names))
                    values = ["v", "", " ", identity(_FORGED + 2)]
                    person.custom[names[-1]] = chance.choice(values)
                people.append(person)
            meetings.append(_meeting(number, people))
            truth |= _truth(_meeting(number, people[:1]))
        else:
            meetings.append(_VICTIMS[number])
            truth |= _truth(_VICTIMS[number])
    return Case(_answer(meetings), truth, frozenset(map(identity, attackers)))


@functools.cache
def _truth(meeting: str) -> dict[str, Meeting]:
    answer = parse_meetings(_answer([meeting]), metadata_keys=KEYS, room_names=True)
    return {meeting.internal_id: meeting for meeting in answer.meetings}
