"""The data types that flow from server to database, in the order in which they are made.

`Meeting` (parser) → `PollResult` (poller) → `SessionRow`, `Sample`, `PollRow` in a `Batch`
(pipeline) → one SQL statement (writer). Times are aware UTC, counts are plain integers.
"""

import hashlib
from collections import deque
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

from collector.outcomes import Outcome

# The largest count that the database can store (smallint).
MAX_COUNT = 32_767
# The counts of a meeting and a sample, in the order of their fields in both. The first release had
# these; others are in LATER_COUNTS.
COUNTS = ("participants", "voice", "video", "listeners", "dialins")
# Counts that came later. Each is a field at the end of both, a column of meter.sample, and has the
# rollups `<count>_1h` and `<count>_1d`. None is unknown: the answer did not say, or the row is
# older than the count. How one enters: docs/design.md, *A new measure*.
LATER_COUNTS: tuple[str, ...] = ("moderators",)
ALL_COUNTS = (*COUNTS, *LATER_COUNTS)


class Meeting(NamedTuple):
    """One `<meeting>` of a getMeetings answer, without anything personal.

    `created_ms` is BBB's createTime, in milliseconds since 1970. `metadata` holds only the keys
    that the attribution rules need. `name` is None unless room names are stored. `joined` says
    whether anybody was ever in the meeting; None if the server does not say.
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
    joined: bool | None = None
    moderators: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One parsed answer: its meetings, and what of it is not certain.

    `skipped` is the number of meetings that could not be read; they are not in `meetings`.
    `unread` are the internal ids of those whose id could be read. `doubtful` are the internal ids
    of meetings that are in `meetings`, but were in the answer again with other content.
    """

    meetings: tuple[Meeting, ...] = ()
    skipped: int = 0
    unread: frozenset[str] = frozenset()
    doubtful: frozenset[str] = frozenset()

    @property
    def partial(self) -> bool:
        """Whether a meeting could not be read, or is doubtful."""
        return self.skipped > 0 or bool(self.doubtful)


NO_ANSWER = Answer()


@dataclass(frozen=True, slots=True)
class PollResult:
    """The result of polling one server at one tick.

    `outcome` is a word of `collector.outcomes`, with its detail. A failed poll (not `ok`) has no
    meetings. The outcome of an `ok` poll is `partial` if its answer is. `clock_skew_s` is how many
    seconds the server's clock was ahead of the collector's, None if the server did not send its
    time. `tls_expires_at` is None without TLS.
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
    """The tenant and the room of a session. `room` is None if it is unknown."""

    tenant: str
    room: str | None


class Seen(NamedTuple):
    """A known session. Its place is the one at first sight; later changes do not move it.

    `created_ms` is None if the session was read back from the database. A `nested` session is a
    breakout that counts through its parent. Nobody has joined an `empty` one: it has no samples.
    """

    session_id: int
    place: Place
    created_ms: int | None
    nested: bool = False
    empty: bool = False


class PollRow(NamedTuple):
    """A row for `meter.poll`. The totals are None if the poll failed: unknown, not zero.

    The totals are what the server reports. Breakout rooms are only in `breakouts`.
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
        """Return a row that records this poll as failed, with `outcome`."""
        return PollRow(
            self.ts,
            self.server,
            ok=False,
            outcome=outcome,
            latency_ms=self.latency_ms,
            seconds=self.seconds,
        )


class SessionRow(NamedTuple):
    """A row for `meter.session`, written when a session appears on a server, or reappears.

    `ts` and `server` identify the poll that saw it. `room` is None if the room is unknown, for
    example of a breakout room whose parent was never seen. `origin` is the product that created
    the session, None if it is unknown.
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


class EmptyRow(NamedTuple):
    """A row for `meter.empty_session`, written when a session appears that nobody has joined.

    `ts` and `server` identify the poll that saw it. `room` is None if the room is unknown. Without
    `is_known`, nobody was seen, but the server does not say whether somebody was there before.
    """

    ts: datetime
    server: str
    session_id: int
    started_at: datetime
    tenant: str
    room: str | None
    is_known: bool


class Unseen(NamedTuple):
    """A row for `meter.unseen`: `sessions` that the successful poll of tick `at` did not show.

    `ts` and `server` identify the poll that told it, at `at` or later. `tenant` and `session_id`
    are None if they are unknown. Without a `session_id` it can be any session of the server.
    """

    ts: datetime
    server: str
    at: datetime
    tenant: str | None
    session_id: int | None
    sessions: int
    seconds: int


class Sample(NamedTuple):
    """A row for `meter.sample`: one session from `ts` for `seconds` seconds.

    `poll_ts` is the tick of the poll with which the sample is stored. That is the sample's own
    poll; for a filled sample, it is the poll that ended the gap. `seconds` is that poll's interval.
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


NO_COUNTS: Mapping[datetime, int] = MappingProxyType({})


@dataclass(slots=True)
class Absent:
    """A session that the last successful poll did not show: its last sample, before it was gone.

    `sample` is None of an empty session. `unread` are the ticks of later polls that could not read
    it. `counted` are the participants of its breakouts that a later poll counted by themselves.
    """

    seen: Seen
    ts: datetime
    sample: Sample | None
    unread: frozenset[datetime] = frozenset()
    counted: Mapping[datetime, int] = field(default_factory=lambda: NO_COUNTS)


@dataclass(slots=True)
class LastPoll:
    """The last successful poll of a server, and what is remembered of those before it.

    These are its tick and its interval in seconds, its samples, and its sessions by internal id;
    the sessions that only earlier polls showed, by internal id; and the successful polls of the
    last minutes before it, as (tick, seconds).
    """

    ts: datetime
    seconds: int
    samples: list[Sample] = field(default_factory=list)
    sessions: dict[str, Seen] = field(default_factory=dict)
    absent: dict[str, Absent] = field(default_factory=dict)
    earlier: deque[tuple[datetime, int]] = field(default_factory=deque)

    def known(self, internal_id: str) -> Seen | None:
        """Return the session of this poll, or an absent one; None if there is none."""
        seen = self.sessions.get(internal_id)
        if seen is None and internal_id in self.absent:
            seen = self.absent[internal_id].seen
        return seen


@dataclass(slots=True)
class Batch:
    """Rows that are stored together, all or none: polls with what they tell."""

    polls: list[PollRow] = field(default_factory=list)
    sessions: list[SessionRow] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    empties: list[EmptyRow] = field(default_factory=list)
    unseen: list[Unseen] = field(default_factory=list)

    def extend(self, other: "Batch") -> None:
        """Append the rows of `other`."""
        self.polls += other.polls
        self.sessions += other.sessions
        self.samples += other.samples
        self.empties += other.empties
        self.unseen += other.unseen

    def part(self, polls: Container[tuple[str, datetime]]) -> "Batch":
        """Return only the rows of `polls`, each given as (server, tick)."""
        return Batch(
            [row for row in self.polls if (row.server, row.ts) in polls],
            [row for row in self.sessions if (row.server, row.ts) in polls],
            [row for row in self.samples if (row.server, row.poll_ts) in polls],
            [row for row in self.empties if (row.server, row.ts) in polls],
            [row for row in self.unseen if (row.server, row.ts) in polls],
        )


def session_id(
    server: str, tenant: str, internal_id: str, created_ms: int, *, nested: bool = False
) -> int:
    """Return the 63-bit id of a session, a hash of what identifies it.

    Clients can choose the internal id of a breakout. So the id also includes the tenant, BBB's
    createTime, and whether the session is `nested`, that is, counts through its parent. The
    database does not assign it, so a collector without database knows the ids, and all collectors
    give a session the same id.
    """
    text = f"{server}\0{tenant}\0{internal_id}\0{created_ms}\0{nested:d}"
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
