"""Faults that simulated servers show on demand; none of them changes the truth."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, get_args

from collector.errors import UsageError
from collector.simulator.plan import epoch_ms

FaultKind = Literal[
    "refuse",  # the connection is closed at once
    "hang",  # no answer, ever
    "http_502",  # nginx's page while bbb-web is down
    "reset",  # the connection is closed in the middle of the body
    "garbage",  # 200, but no XML
    "checksum",  # FAILED checksumError, as with a wrong secret
    "malformed",  # one attendee's customdata makes the whole answer malformed
    "slow",  # the answer takes 3 real seconds
    "empty",  # bbb-web was restarted: running meetings vanish
    "skew",  # meetings created meanwhile have a createTime 5 minutes ahead
]
KINDS: tuple[FaultKind, ...] = get_args(FaultKind)

SLOW_S = 3.0
_SKEW_MS = 300_000
_BROKEN = b"<1st attr>v</1st attr>\n"
_TIMESTAMP = re.compile(rb"(?<=[>-])\d{13}(?=<)")
_SPEC = re.compile(r"([^:]+):([^:]+):(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of one server, in [since, until) of simulated time."""

    server: str
    kind: FaultKind
    since: datetime
    until: datetime

    def active(self, at: datetime) -> bool:
        """Say whether the server has the fault at `at`."""
        return self.since <= at < self.until


def parse_fault(text: str, servers: tuple[str, ...], start: datetime) -> Fault:
    """Return the fault that `sim02:http_502:20-40` means: seconds of simulated time after start.

    Raises UsageError where it means nothing.
    """
    found = _SPEC.fullmatch(text)
    if found is None:
        problem = f"{text!r} is not SERVER:KIND:FROM-UNTIL, such as sim02:http_502:20-40"
        raise UsageError([problem], "--fault")
    server, kind, since_s, until_s = found.groups()
    problems = []
    if server not in servers:
        problems.append(f"{text!r}: no server {server!r}, they are {servers[0]} to {servers[-1]}")
    kinds = [known for known in KINDS if known == kind]
    if not kinds:
        problems.append(f"{text!r}: no kind {kind!r}, they are {', '.join(KINDS)}")
    if float(since_s) >= float(until_s):
        problems.append(f"{text!r}: must end after its beginning")
    if problems:
        raise UsageError(problems, "--fault")
    since = start + timedelta(seconds=float(since_s))
    return Fault(server, kinds[0], since, start + timedelta(seconds=float(until_s)))


def malform(body: bytes) -> bytes:
    """Return the answer with one element whose name is none; unchanged without attendees."""
    for place, before, after in (
        (b"<customdata>\n", b"", b""),
        (b"</clientType>\n", b"<customdata>\n", b"</customdata>\n"),
    ):
        if place in body:
            return body.replace(place, place + before + _BROKEN + after, 1)
    return body


def skew(body: bytes, fault: Fault) -> bytes:
    """Return the answer of a server whose clock was wrong in the fault's time.

    All timestamps from that time are moved, also within ids: what was created then keeps
    its wrong createTime for good.
    """
    since_ms, until_ms = epoch_ms(fault.since), epoch_ms(fault.until)

    def moved(found: re.Match[bytes]) -> bytes:
        at_ms = int(found[0])
        return b"%d" % (at_ms + _SKEW_MS) if since_ms <= at_ms < until_ms else found[0]

    return _TIMESTAMP.sub(moved, body)
