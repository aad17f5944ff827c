"""BBB's XML, with the same bytes as its templates. A meeting is rendered only after a change."""

import html

from collector.simulator.meeting import Meeting, Span, Stay
from collector.simulator.plan import instant_of

NO_MEETINGS = b"""<response>
<returncode>SUCCESS</returncode>
<meetings/>
<messageKey>noMeetings</messageKey>
<message>no meetings were found on this server</message>
</response>"""
VERSION = b"""<response>
<returncode>SUCCESS</returncode>
<version>2.0</version>
<apiVersion>2.0</apiVersion>
<bbbVersion></bbbVersion>
</response>"""
_NEVER_MS = 1 << 62
# Time from createTime to startTime in ms, in which BBB starts the meeting.
_STARTUP_MS = 47


def failed(key: str, message: str) -> bytes:
    """Return BBB's answer to a call that it rejects. Its HTTP status is still 200."""
    return (
        "<response>\n<returncode>FAILED</returncode>\n"
        f"<messageKey>{key}</messageKey>\n<message>{message}</message>\n</response>"
    ).encode()


def get_meetings(meetings: list[bytes]) -> bytes:
    """Return the answer to getMeetings with these `<meeting>` elements."""
    if not meetings:
        return NO_MEETINGS
    return b"".join(
        (
            b"<response>\n<returncode>SUCCESS</returncode>\n<meetings>\n",
            *meetings,
            b"</meetings>\n</response>",
        )
    )


def joined(answers: list[bytes]) -> bytes:
    """Return one answer to getMeetings with the meetings of all `answers`."""
    if len(answers) == 1:
        return answers[0]
    begin, end = b"<meetings>\n", b"</meetings>\n"
    parts = [answer.partition(begin)[2].partition(end)[0] for answer in answers]
    return get_meetings([part for part in parts if part])


class MeetingView:
    """One `<meeting>` element over time. It is rendered again only after an event."""

    def __init__(self, meeting: Meeting) -> None:
        """Render the parts that never change. No event has happened yet."""
        self.end_ms = meeting.end_ms
        self._meeting = meeting
        self._head = _head(meeting)
        self._tail = _metadata(meeting)
        self._coming = list(reversed(meeting.stays))
        self._attendees: list[_AttendeeView] = []
        self._next_ms = meeting.start_ms
        self._xml = b""

    def at(self, instant_ms: int) -> bytes:
        """Return the element at `instant_ms`, empty if not listed; calls go forward in time."""
        if instant_ms >= self._next_ms:
            self._turn(instant_ms)
        return self._xml

    def _turn(self, instant_ms: int) -> None:
        meeting = self._meeting
        if instant_ms >= meeting.end_ms:
            self._xml, self._next_ms = b"", _NEVER_MS
            return
        while self._coming and self._coming[-1].join_ms <= instant_ms:
            self._attendees.append(_AttendeeView(self._coming.pop()))
        next_ms = self._coming[-1].join_ms if self._coming else meeting.end_ms
        participants = listeners = voice = video = moderators = 0
        listed: list[_AttendeeView] = []
        for view in self._attendees:
            if instant_ms >= view.next_ms:
                view.turn(instant_ms)
                if not view.xml:
                    continue
            listed.append(view)
            next_ms = min(view.next_ms, next_ms)
            participants += view.participants
            listeners += view.listeners
            voice += view.voice
            video += view.video
            moderators += view.moderators
        self._attendees = listed
        # BBB 2.x wrote counts from 1,000 on in the format of the JVM's locale (BBB issue 22102).
        form = "," if meeting.old else ""
        joined = len(self._coming) < len(meeting.stays)
        breakouts, changes_ms = _breakouts(meeting, instant_ms)
        self._next_ms = min(next_ms, changes_ms)
        self._xml = b"".join(
            (
                self._head,
                f"<running>{_bool(bool(listed))}</running>\n"
                f"<duration>{meeting.duration_min}</duration>\n"
                f"<hasUserJoined>{_bool(joined)}</hasUserJoined>\n"
                f"<recording>{_bool(meeting.recording)}</recording>\n"
                "<hasBeenForciblyEnded>false</hasBeenForciblyEnded>\n"
                f"<startTime>{meeting.start_ms + _STARTUP_MS}</startTime>\n"
                "<endTime>0</endTime>\n"
                f"<participantCount>{participants:{form}}</participantCount>\n"
                f"<listenerCount>{listeners:{form}}</listenerCount>\n"
                f"<voiceParticipantCount>{voice:{form}}</voiceParticipantCount>\n"
                f"<videoCount>{video:{form}}</videoCount>\n"
                f"<maxUsers>{meeting.max_users}</maxUsers>\n"
                f"<moderatorCount>{moderators:{form}}</moderatorCount>\n"
                "<attendees>\n".encode(),
                *[view.xml for view in listed],
                self._tail,
                breakouts,
            )
        )


class _AttendeeView:
    """One `<attendee>` element over time, and its contribution to the meeting's counts."""

    __slots__ = (
        "_stay",
        "listeners",
        "moderators",
        "next_ms",
        "participants",
        "video",
        "voice",
        "xml",
    )

    def __init__(self, stay: Stay) -> None:
        self._stay = stay
        self.next_ms = stay.join_ms
        self.xml = b""
        self.participants = self.listeners = self.voice = self.video = self.moderators = 0

    def turn(self, instant_ms: int) -> None:
        """Move to `instant_ms`. `xml` is empty if the attendee is no longer listed."""
        stay = self._stay
        if instant_ms >= stay.gone_ms:
            self.xml, self.next_ms = b"", _NEVER_MS
            return
        self.participants = int(instant_ms < stay.left_ms)
        self.listeners = _count(stay.listening, instant_ms)
        self.voice = _count(stay.voice, instant_ms)
        self.video = _count(stay.video, instant_ms)
        self.moderators = int(stay.person.role == "MODERATOR" and instant_ms < stay.left_ms)
        spans = (stay.present, *stay.listening, *stay.voice, *stay.video)
        self.next_ms = min(
            (edge for span in spans for edge in span if edge > instant_ms), default=stay.gone_ms
        )
        self.xml = _attendee(stay, self.listeners, self.voice, self.video)


def escape(text: str) -> str:
    """Escape `text` like BBB's templates. Each run of white space becomes one space."""
    return html.escape(" ".join(text.split())).replace("&#x27;", "&apos;")


def _count(spans: tuple[Span, ...], instant_ms: int) -> int:
    return sum(start_ms <= instant_ms < end_ms for start_ms, end_ms in spans)


def _bool(value: bool) -> str:  # noqa: FBT001 - a formatter
    return "true" if value else "false"


def _head(meeting: Meeting) -> bytes:
    """Return the beginning of the element, up to the first part that changes."""
    created = instant_of(meeting.start_ms).strftime("%a %b %d %H:%M:%S UTC %Y")
    return (
        "<meeting>\n"
        f"<meetingName>{escape(meeting.name)}</meetingName>\n"
        f"<meetingID>{escape(meeting.external_id)}</meetingID>\n"
        f"<internalMeetingID>{meeting.internal_id}</internalMeetingID>\n"
        f"<createTime>{meeting.start_ms}</createTime>\n"
        f"<createDate>{created}</createDate>\n"
        f"<voiceBridge>{meeting.voice_bridge}</voiceBridge>\n"
        "<dialNumber>613-555-1234</dialNumber>\n"
        "<attendeePW>ap</attendeePW>\n"
        "<moderatorPW>mp</moderatorPW>\n"
    ).encode()


def _attendee(stay: Stay, listeners: int, voice: int, video: int) -> bytes:
    person = stay.person
    custom = ""
    if person.customdata:
        key, value = person.customdata
        custom = f"<customdata>\n<{key}>{escape(value)}</{key}>\n</customdata>\n"
    return (
        "<attendee>\n"
        f"<userID>{person.user_id}</userID>\n"
        f"<fullName>{escape(person.name)}</fullName>\n"
        f"<role>{person.role}</role>\n"
        f"<isPresenter>{_bool(person.presenter)}</isPresenter>\n"
        f"<isListeningOnly>{_bool(bool(listeners))}</isListeningOnly>\n"
        f"<hasJoinedVoice>{_bool(bool(voice))}</hasJoinedVoice>\n"
        f"<hasVideo>{_bool(bool(video))}</hasVideo>\n"
        f"<clientType>{'DIAL-IN' if stay.dialin else 'HTML5'}</clientType>\n"
        f"{custom}</attendee>\n"
    ).encode()


def _metadata(meeting: Meeting) -> bytes:
    """Return the part of the element from the end of the attendees to isBreakout."""
    entries = "".join(f"<{key}>{escape(text)}</{key}>\n" for key, text in meeting.metadata.items())
    return (
        f"</attendees>\n<metadata>\n{entries}</metadata>\n"
        f"<isBreakout>{_bool(bool(meeting.sequence))}</isBreakout>\n"
    ).encode()


def _breakouts(meeting: Meeting, instant_ms: int) -> tuple[bytes, int]:
    """Return the end of the element, about breakouts, and when it changes next (epoch ms)."""
    if meeting.sequence:
        parent = (
            f"<parentMeetingID>{meeting.parent_internal_id}</parentMeetingID>\n"
            f"<sequence>{meeting.sequence}</sequence>\n<freeJoin>true</freeJoin>\n</meeting>\n"
        )
        return parent.encode(), _NEVER_MS
    open_ids = [b.external_id for b in meeting.breakouts if b.start_ms <= instant_ms < b.end_ms]
    edges = (edge for b in meeting.breakouts for edge in (b.start_ms, b.end_ms))
    next_ms = min((edge for edge in edges if edge > instant_ms), default=_NEVER_MS)
    if not open_ids:
        return b"</meeting>\n", next_ms
    rooms = "".join(f"<breakout>{room}</breakout>\n" for room in open_ids)
    return f"<breakoutRooms>\n{rooms}</breakoutRooms>\n</meeting>\n".encode(), next_ms
