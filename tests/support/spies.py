"""BigBlueButton servers whose answers contain secrets and people, which bbbmeter must not keep."""

import re
from dataclasses import dataclass, field

from aiohttp import web

# Texts of an answer that bbbmeter must not keep: people, and secrets of the meeting.
PEOPLE = (
    "Änne Distinctive", "w_distinctive01", "Distinctive Caller", "v_distinctive02",
    "moderator-pass", "attendee-pass", "bbb-custom-distinctive", "distinctive@example.org",
    "Distinctive Lecture", "meta-distinctive",
)  # fmt: skip
ROOM = "a-room-that-is-stored"
ANSWER = f"""<response><returncode>SUCCESS</returncode><meetings><meeting>
<meetingName>Distinctive Lecture</meetingName><meetingID>{ROOM}</meetingID>
<internalMeetingID>0123456789012345678901234567890123456789-1767225600000</internalMeetingID>
<createTime>1767225600000</createTime><voiceBridge>76543</voiceBridge>
<attendeePW>attendee-pass</attendeePW><moderatorPW>moderator-pass</moderatorPW>
<running>true</running><recording>false</recording><startTime>1767225600000</startTime>
<endTime>0</endTime><participantCount>2</participantCount><listenerCount>0</listenerCount>
<voiceParticipantCount>1</voiceParticipantCount><videoCount>1</videoCount>
<attendees><attendee><userID>w_distinctive01</userID><fullName>Änne Distinctive</fullName>
<role>MODERATOR</role><customdata><mail>distinctive@example.org</mail>
<x>bbb-custom-distinctive</x></customdata></attendee>
<attendee><userID>v_distinctive02</userID><fullName>Distinctive Caller</fullName>
<role>VIEWER</role><clientType>DIAL-IN</clientType></attendee></attendees>
<metadata><canvas-recording>meta-distinctive</canvas-recording></metadata>
<isBreakout>false</isBreakout></meeting></meetings></response>"""
FAILED = """<response><returncode>FAILED</returncode><messageKey>checksumError</messageKey>
<message>wrong checksum in {url}, I know {secret} and Änne Distinctive</message></response>"""


@dataclass
class Spies:
    """BigBlueButton servers that repeat the request and its secret in all parts of the answer."""

    base: str = ""
    checksums: set[str] = field(default_factory=set)

    async def answer(self, request: web.Request) -> web.Response:
        """Answer as the server that is named in the path."""
        url = str(request.url)
        self.checksums |= set(re.findall(r"checksum=([0-9a-f]+)", url))
        match request.match_info["server"]:
            case "good" | "filed":
                return web.Response(text=ANSWER, content_type="text/xml")
            case "refusing":
                text = FAILED.format(url=url.replace("&", "&amp;"), secret="its own")
                return web.Response(text=text, content_type="text/xml")
            case "away":
                return web.Response(status=502, reason=f"Bad {url}", text=f"{url} {ANSWER}")
            case "redirecting":
                target = f"https://elsewhere.invalid{request.path_qs}"
                raise web.HTTPFound(target)
            case _:
                return web.Response(text=ANSWER[: len(ANSWER) // 2] + url, content_type="text/xml")
