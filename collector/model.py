"""The facts that flow from server to database, in the order in which they come about.

`Meeting` (parser) → `PollResult` (poller) → `SessionRow`, `Sample`, `PollRow` in a `Batch`
(pipeline) → one SQL statement (writer). Times are aware UTC, counts are plain integers.
"""

import hashlib
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from collector.outcomes import Outcome

# The counts of a meeting and a sample, which stand in this order in both.
COUNTS = ("participants", "voice", "video", "listeners", "dialins")
# Counts that came later. Each is a field at the end of both, a column of meter.sample, and has the
# rollups `<count>_1h` and `<count>_1d`. None is unknown: the answer did not say, or the row is
# older than the count. How one enters: docs/design.md, *A new measure*.
LATER_COUNTS: tuple[str, ...] = ("moderators",)


class Meeting(NamedTuple):
    """One `<meeting>` of a getMeetings answer, without anything personal.

    `created_ms` is BBB's createTime, since 1970. `metadata` holds the keys that the attribution
    rules name, no others. `name` is None unless room names are stored.
    """

    internal_id: str
    external_id: str
    created_ms: int
    participants: int
    voice: int
    video: int
    listeners: int
    dialins: int
    breakout: bool
    parent_internal_id: str | None
    recording: bool
    metadata: Mapping[str, str]
    name: str | None = None
    moderators: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the parser made of one answer: the meetings, and how many it could not read."""

    meetings: tuple[Meeting, ...] = ()
    skipped: int = 0


NO_ANSWER = Answer()


@dataclass(frozen=True, slots=True)
class PollResult:
    """One server at one tick. `outcome` is one of `collector.outcomes`, with its detail.

    A failed poll (not `ok`) has no meetings. An `ok` poll whose answer has `skipped` > 0 was
    partial: that many meetings could not be read. `clock_skew_s` is how many seconds the server's
    clock was ahead of ours, None where the server did not send its time. `tls_expires_at` is None
    without TLS.
    """

    server: str
    ts: datetime
    ok: bool
    latency_ms: int
    outcome: str = Outcome.OK
    answer: Answer = NO_ANSWER
    clock_skew_s: float | None = None
    tls_expires_at: datetime | None = None


class Place(NamedTuple):
    """Where a session belongs. `room` is None where it is unknown."""

    tenant: str
    room: str | None


class Seen(NamedTuple):
    """A session as it was first seen: its tenant is fixed, whatever its marks become later."""

    session_id: int
    place: Place


class PollRow(NamedTuple):
    """A row for `meter.poll`; the totals are None when the poll failed (unknown, not zero).

    The totals count what the server reports, breakouts apart from the rest.
    """

    ts: datetime
    server: str
    ok: bool
    outcome: str
    latency_ms: int
    seconds: int
    skipped: int = 0
    sessions: int | None = None
    participants: int | None = None
    voice: int | None = None
    video: int | None = None
    listeners: int | None = None
    dialins: int | None = None
    breakouts: int | None = None

    def failed(self, outcome: str) -> "PollRow":
        """Return the row of a failed poll in place of this one."""
        return PollRow(
            self.ts,
            self.server,
            ok=False,
            outcome=outcome,
            latency_ms=self.latency_ms,
            seconds=self.seconds,
        )


class SessionRow(NamedTuple):
    """A row for `meter.session`, sent when a session appears on a server (again).

    `ts` and `server` name the poll that saw it. `room` is None where the room is unknown,
    as with a breakout whose parent was never seen. `origin` is the product that created it.
    """

    ts: datetime
    server: str
    session_id: int
    internal_id: str
    started_at: datetime
    tenant: str
    room: str | None
    room_name: str | None
    parent_internal_id: str | None
    breakout: bool
    recording: bool
    origin: str | None = None


class Sample(NamedTuple):
    """A row for `meter.sample`: one session from `ts` for `seconds` seconds.

    `poll_ts` is the tick of the poll it is committed with: its own, or, when it is filled,
    that of the poll that ended the gap. `seconds` are those of that poll.
    """

    poll_ts: datetime
    server: str
    ts: datetime
    tenant: str
    session_id: int
    participants: int
    voice: int
    video: int
    listeners: int
    dialins: int
    seconds: int
    breakout: bool
    filled: bool
    moderators: int | None = None


@dataclass(slots=True)
class LastPoll:
    """The last successful poll of a server: its tick, its samples, its sessions by internal id."""

    ts: datetime
    samples: list[Sample] = field(default_factory=list)
    sessions: dict[str, Seen] = field(default_factory=dict)


@dataclass(slots=True)
class Batch:
    """What one statement stores: all of it or nothing of it, a poll with its samples."""

    polls: list[PollRow] = field(default_factory=list)
    sessions: list[SessionRow] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

    def extend(self, other: "Batch") -> None:
        """Append the rows of `other`."""
        self.polls += other.polls
        self.sessions += other.sessions
        self.samples += other.samples

    def part(self, polls: Container[tuple[str, datetime]]) -> "Batch":
        """Return the rows of some polls, each given as (server, tick)."""
        return Batch(
            [row for row in self.polls if (row.server, row.ts) in polls],
            [row for row in self.sessions if (row.server, row.ts) in polls],
            [row for row in self.samples if (row.server, row.poll_ts) in polls],
        )


def session_id(server: str, internal_id: str) -> int:
    """Return the 63-bit id of a session, from the server's name and BBB's internal id.

    Computed, not assigned by the database, so that a collector that has lost the database
    can still name sessions, and every collector gives a session the same id.
    """
    digest = hashlib.blake2b(f"{server}\0{internal_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
