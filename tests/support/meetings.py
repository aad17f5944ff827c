"""Answers to getMeetings, rendered as BigBlueButton's template does."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape

from collector.model import Answer, Meeting

CREATED_MS = 1755772800000
ID = f"f029f947dcc2f6b1df95cddc19eb4a82a598556c-{CREATED_MS}"


@dataclass
class Person:
    """An attendee with the fields that BigBlueButton lists."""

    name: str = "Ada"
    dialin: bool = False
    custom: dict[str, str] = field(default_factory=dict)


def as_text(value: object) -> str:
    """Escape as BigBlueButton's template engine does."""
    return escape(str(value), {'"': "&quot;", "'": "&#39;"})


def person_xml(person: Person, name_of: Callable[[str], str] = as_text) -> str:
    """Render an attendee as BigBlueButton's template does, with escaped names of custom data."""
    role, kind = ("DIAL-IN-USER", "DIAL-IN") if person.dialin else ("VIEWER", "HTML5")
    custom = "".join(
        f"<{name_of(key)}>{as_text(value)}</{name_of(key)}>\n"
        for key, value in person.custom.items()
    )
    return (
        f"<attendee>\n<userID>u</userID>\n<fullName>{as_text(person.name)}</fullName>\n"
        f"<role>{role}</role>\n<isPresenter>false</isPresenter>\n"
        f"<isListeningOnly>false</isListeningOnly>\n<hasJoinedVoice>true</hasJoinedVoice>\n"
        f"<hasVideo>false</hasVideo>\n<clientType>{kind}</clientType>\n"
        + (f"<customdata>\n{custom}</customdata>\n" if custom else "")
        + "</attendee>\n"
    )


def meeting_xml(
    people: list[Person] | None = None,
    metadata: dict[str, str] | None = None,
    *,
    name_of: Callable[[str], str] = as_text,
    drop: str = "",
    add: str = "",
    **changes: Any,  # noqa: ANN401 - whatever a server may send
) -> str:
    """Render a meeting in the order of BigBlueButton's template.

    `changes` sets elements, `drop` removes one, and `add` is appended.
    """
    fields: dict[str, object] = {
        "meetingName": "Room",
        "meetingID": "room",
        "internalMeetingID": ID,
        "createTime": CREATED_MS,
        "createDate": "Thu Aug 21 10:40:00 UTC 2025",
        "voiceBridge": 70123,
        "dialNumber": "613-555-1234",
        "attendeePW": "ap",
        "moderatorPW": "mp",
        "running": "true",
        "duration": 0,
        "hasUserJoined": "true",
        "recording": "false",
        "hasBeenForciblyEnded": "false",
        "startTime": CREATED_MS + 47,
        "endTime": 0,
        "participantCount": 4,
        "listenerCount": 1,
        "voiceParticipantCount": 3,
        "videoCount": 2,
        "maxUsers": 0,
        "moderatorCount": 1,
        **changes,
    }
    breakout = fields.pop("isBreakout", "false")
    head = "".join(f"<{k}>{as_text(v)}</{k}>\n" for k, v in fields.items() if k != drop)
    attendees = "".join(person_xml(person, name_of) for person in people or [])
    extra = "".join(f"<{k}>{as_text(v)}</{k}>\n" for k, v in (metadata or {}).items())
    return (
        f"<meeting>\n{head}<attendees>\n{attendees}</attendees>\n<metadata>\n{extra}</metadata>\n"
        f"<isBreakout>{breakout}</isBreakout>\n{add}</meeting>\n"
    )


def answer_xml(*meetings: str) -> bytes:
    """Render an answer with `meetings`."""
    return (
        "<response>\n<returncode>SUCCESS</returncode>\n<meetings>\n"
        f"{''.join(meetings)}</meetings>\n</response>"
    ).encode()


def identity(number: int) -> str:
    """Return an internal meeting id."""
    return f"{number:040x}-{CREATED_MS}"


def only(answer: Answer) -> Meeting:
    """Return the one meeting of an answer in which nothing was skipped."""
    assert answer.skipped == 0, answer
    (meeting,) = answer.meetings
    return meeting
