"""Faults that simulated servers can have. No fault changes the truth, which is what people did."""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, get_args

from collector.errors import UsageError
from collector.simulator.plan import epoch_ms

FaultKind = Literal[
    "refuse",  # the server closes the connection immediately
    "hang",  # the server never answers
    "http_502",  # nginx's page while bbb-web is down
    "reset",  # the server closes the connection in the middle of the body
    "garbage",  # status 200, but the body is not XML
    "checksum",  # FAILED checksumError, as with a wrong secret
    "malformed",  # one attendee's customdata make the whole answer malformed
    "slow",  # the answer takes 3 real seconds
    "empty",  # bbb-web was restarted: running meetings are not listed
    "skew",  # meetings created during the fault have a createTime 5 minutes ahead
    # Each of the following four has a meeting of its own, the oldest that is left.
    "hidden",  # the meeting is not listed
    "unread",  # the number of participants of the meeting is not a number
    "twice",  # the meeting is listed again, with one more participant
    "repeated",  # the meeting is listed again, the same
    "deserted",  # meetings with breakouts count one participant themselves
    "orphans",  # breakouts name a parent that is nowhere
    "unjoined",  # hasUserJoined is left out, as some load balancers do
    "huge",  # 40 more meetings with 32,767 participants each
]
KINDS: tuple[FaultKind, ...] = get_args(FaultKind)

SLOW_S = 3.0
_SKEW_MS = 300_000
_BROKEN = b"<1st attr>v</1st attr>\n"
_TIMESTAMP = re.compile(rb"(?<=[>-])\d{13}(?=<)")
_SPEC = re.compile(r"([^:]+):([^:]+):(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)")


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of one server in [since, until), in simulated time."""

    server: str
    kind: FaultKind
    since: datetime
    until: datetime

    def active(self, at: datetime) -> bool:
        """Say whether the server has the fault at `at`."""
        return self.since <= at < self.until


def parse_fault(text: str, servers: tuple[str, ...], start: datetime) -> Fault:
    """Return the fault for a text such as `sim02:http_502:20-40`.

    The numbers are simulated seconds after `start`. Raises UsageError for a text that is not valid.
    """
    found = _SPEC.fullmatch(text)
    if found is None:
        problem = f"{text!r} is not SERVER:KIND:FROM-UNTIL, such as sim02:http_502:20-40"
        raise UsageError([problem], "--fault")
    server, kind, since_s, until_s = found.groups()
    problems = []
    if server not in servers:
        problems.append(f"{text!r}: no server {server!r}; use {servers[0]} to {servers[-1]}")
    kinds = [known for known in KINDS if known == kind]
    if not kinds:
        problems.append(f"{text!r}: no kind {kind!r}; use one of {', '.join(KINDS)}")
    if float(since_s) >= float(until_s):
        problems.append(f"{text!r}: must end after its beginning")
    if problems:
        raise UsageError(problems, "--fault")
    since = start + timedelta(seconds=float(since_s))
    return Fault(server, kinds[0], since, start + timedelta(seconds=float(until_s)))


def malform(body: bytes) -> bytes:
    """Return the answer with one element whose name is not valid; unchanged without attendees."""
    for place, before, after in (
        (b"<customdata>\n", b"", b""),
        (b"</clientType>\n", b"<customdata>\n", b"</customdata>\n"),
    ):
        if place in body:
            return body.replace(place, place + before + _BROKEN + after, 1)
    return body


def distort(body: bytes, faults: Collection[FaultKind]) -> bytes:
    """Return the answer with those of the faults that change what it lists."""
    found = [*_MEETING.finditer(body)]
    if not found:
        return body
    listed = [meeting[0] for meeting in found]
    oldest = listed[0]
    own = [change for kind, change in _OF_ONE.items() if kind in faults]
    for number, change in enumerate(own[: len(listed)]):
        listed[number] = change(listed[number])
    if "huge" in faults:
        listed += [_crowd(oldest, number) for number in range(40)]
    for kind, change in _OF_ALL.items():
        if kind in faults:
            listed = [change(meeting) for meeting in listed]
    return body[: found[0].start()] + b"".join(listed) + body[found[-1].end() :]


def _twice(meeting: bytes) -> bytes:
    return meeting + _PARTICIPANTS.sub(_one_more, meeting, count=1)


def _one_more(found: re.Match[bytes]) -> bytes:
    return b"%d" % (int(found[0].replace(b",", b"")) + 1)


def _crowd(meeting: bytes, number: int) -> bytes:
    """Return the meeting with another id and the largest number of participants."""
    full = _PARTICIPANTS.sub(b"32767", meeting, count=1)
    return full.replace(b"<internalMeetingID>", b"<internalMeetingID>%d-" % number, 1)


def _deserted(meeting: bytes) -> bytes:
    has_breakouts = b"<breakoutRooms>" in meeting
    return _PARTICIPANTS.sub(b"1", meeting, count=1) if has_breakouts else meeting


_MEETING = re.compile(rb"<meeting>\n.*?</meeting>\n", re.DOTALL)
_PARTICIPANTS = re.compile(rb"(?<=<participantCount>)[\d,]+")
_JOINED = re.compile(rb"<hasUserJoined>\w+</hasUserJoined>\n")
_PARENT = re.compile(rb"(?<=<parentMeetingID>)")
_OF_ONE: dict[FaultKind, Callable[[bytes], bytes]] = {
    "hidden": lambda _: b"",
    "unread": lambda meeting: _PARTICIPANTS.sub(b"many", meeting, count=1),
    "twice": _twice,
    "repeated": lambda meeting: meeting + meeting,
}
_OF_ALL: dict[FaultKind, Callable[[bytes], bytes]] = {
    "deserted": _deserted,
    "orphans": lambda meeting: _PARENT.sub(b"nowhere-", meeting),
    "unjoined": lambda meeting: _JOINED.sub(b"", meeting),
}


def skew(body: bytes, fault: Fault) -> bytes:
    """Return the answer of a server whose clock was wrong during the fault.

    All timestamps from that time are moved, including those in ids: a meeting that was created
    then keeps its wrong createTime permanently.
    """
    since_ms, until_ms = epoch_ms(fault.since), epoch_ms(fault.until)

    def moved(found: re.Match[bytes]) -> bytes:
        at_ms = int(found[0])
        return b"%d" % (at_ms + _SKEW_MS) if since_ms <= at_ms < until_ms else found[0]

    return _TIMESTAMP.sub(moved, body)
