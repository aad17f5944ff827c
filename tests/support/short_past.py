"""A small past of a fleet, of which all raw rows stay in memory, so that figures can be recomputed.

It has what makes time ranges difficult: days with metering and days without, outages of hours and
of minutes, a change of the clocks, edges of months, sessions over midnight and over days, a
contract that changed, and tables of which retention has dropped the older part.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import asyncpg

from collector.rollups import ROLLUPS
from tests.support.database import migrate_unscheduled
from tests.support.reports import BERLIN, local
from tests.support.settings import KEEP_ALL, make_settings

# Days for which each table is kept. What is not named is kept permanently.
MINUTES, HOURS = 20, 230
RETENTION = KEEP_ALL | {
    **dict.fromkeys(("sample", "poll"), 12),
    **dict.fromkeys(("usage_1m", "fleet_1m"), MINUTES),
    **dict.fromkeys(("usage_1h", "fleet_1h", "server_1h", "poll_1h"), HOURS),
    **dict.fromkeys(("session", "session_1h", "start_1h"), HOURS),
}
TENANTS = {"law": "Law", "arts": "Arts & Music", "unassigned": ""}
ROOMS = {"law-a": "law", "law-b": "law", "arts-a": "arts", "lost-a": "unassigned"}
SERVERS = ("bbb1", "bbb2")
TICK = 60
# At most so many ticks of a gap are filled.
FILLED = 5


@dataclass(frozen=True, slots=True)
class Poll:
    """A row of meter.poll; the time is in seconds since the epoch."""

    ts: int
    server: str
    outcome: str
    latency_ms: int

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.outcome == "ok"


@dataclass(frozen=True, slots=True)
class Sample:
    """A row of meter.sample, with its session."""

    ts: int
    of: "Session"
    participants: int
    filled: bool

    @property
    def voice(self) -> int:
        """Participants with voice."""
        return self.participants * 7 // 10

    @property
    def video(self) -> int:
        """Webcams."""
        return self.participants // 5

    @property
    def dialins(self) -> int:
        """Participants by telephone."""
        return min(2, self.participants // 40)

    @property
    def moderators(self) -> int:
        """Moderators."""
        return 1 + self.participants // 20


@dataclass(eq=False, slots=True)
class Session:
    """A session in [begin, end), in seconds since the epoch, and its samples."""

    number: int
    server: str
    room: str
    begin: float
    end: float
    size: int
    breakout: bool = False
    origin: str | None = None
    samples: list[Sample] = field(default_factory=list)

    @property
    def tenant(self) -> str:
        """The name of its tenant."""
        return ROOMS[self.room]

    @property
    def seen_until(self) -> float:
        """Half an interval after its last sample."""
        return self.samples[-1].ts + TICK / 2

    @property
    def length(self) -> float:
        """Seconds from its beginning to its end."""
        return self.seen_until - self.begin

    @property
    def seconds(self) -> int:
        """Seconds in which it was seen or filled."""
        return TICK * len(self.samples)

    def total(self, of: str = "participants") -> int:
        """Return the sum of a count, times seconds."""
        total: int = TICK * sum(getattr(sample, of) for sample in self.samples)
        return total

    @property
    def most(self) -> int:
        """The most participants at a tick."""
        return max(sample.participants for sample in self.samples)

    @property
    def mean(self) -> float:
        """The mean number of participants."""
        return self.total() / self.seconds

    @property
    def filled_seconds(self) -> int:
        """Seconds that were filled."""
        return TICK * sum(sample.filled for sample in self.samples)


@dataclass(slots=True)
class ShortPast:
    """All raw rows. `spans` are the times in which the polls of all servers were due."""

    end: datetime
    spans: list[tuple[int, int | None]] = field(default_factory=list)
    polls: list[Poll] = field(default_factory=list)
    # Time and server at which a session of a tenant (None: unknown) ran, and was not in the answer.
    unseen: list[tuple[int, str, str | None]] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    # Tenant, since, until, participants, minutes of the month.
    contracts: list[tuple[str, float, float, int, int | None]] = field(default_factory=list)

    def open(self, session: Session) -> bool:
        """Return whether a session has not ended."""
        return session.end > self.end.timestamp()

    def day(self, age: int, hour: float = 0) -> int:
        """Return an hour of the local day `age` days ago, in seconds since the epoch."""
        midnight = local(self.end.astimezone(BERLIN).date() - timedelta(days=age))
        return int(midnight.timestamp() + hour * 3600)

    def make(self) -> "ShortPast":
        """Make up the rows."""
        ages = [*range(4), 9, 10, 16, 17, *self._edges_of_the_month(), *self._clock_change()]
        ages = sorted({*ages, 300, 301}, reverse=True)
        for age in ages:
            since, until = self.day(age), self.day(age - 1) if age else None
            if self.spans and self.spans[-1][1] == since:
                self.spans[-1] = (self.spans[-1][0], until)
            else:
                self.spans.append((since, until))
        self._plan(ages)
        for server in SERVERS:
            self._poll(server)
        self.sessions = [session for session in self.sessions if session.samples]
        for age, server, tenant in ((2, "bbb2", "law"), (9, "bbb1", None), (300, "bbb2", "law")):
            self.unseen += [
                (ts, server, tenant) for ts in range(self.day(age, 15), self.day(age, 15.5), TICK)
            ]
        cut = self.day(9, 17.2) + 12.5
        self.contracts = [
            ("law", float("-inf"), cut, 60, None),
            ("law", cut, float("inf"), 200, 100_000),
            ("arts", float("-inf"), float("inf"), 90, 500),
        ]
        return self

    def _poll(self, server: str) -> None:
        failed = self._failed()
        missing = range(self.day(1, 3), self.day(1, 3.3), TICK)
        seen = []
        ticks = (
            ts
            for since, until in self.spans
            for ts in range(since, int(self.end.timestamp()) if until is None else until, TICK)
            if ts not in missing
        )
        for ts in ticks:
            outcome = failed.get((server, ts), "ok")
            chance = random.Random(f"{server}{ts}")
            if chance.random() < 0.008:
                outcome = "timeout"
            latency = 10_000 if outcome == "timeout" else chance.choice((8, 40, 90, 700))
            self.polls.append(Poll(ts, server, outcome, latency))
            if outcome == "ok":
                seen.append(ts)
        for session in self.sessions:
            if session.server == server:
                self._see(session, seen)

    def _edges_of_the_month(self) -> Iterator[int]:
        today = self.end.astimezone(BERLIN).date()
        yield from (today.day - 1, today.day)
        before = today.replace(day=1) - timedelta(days=1)
        yield today.day + before.day - 1

    def _clock_change(self) -> Iterator[int]:
        """Yield the ages of the last day with 23 or 25 hours and of its neighbours."""
        age = next(n for n in range(2, 250) if self.day(n - 1) - self.day(n) != 86400)
        yield from (age - 1, age, age + 1)

    def _plan(self, ages: list[int]) -> None:
        number = 0

        def add(
            begin: float, hours: float, size: int, room: str, *, breakout: bool = False
        ) -> None:
            nonlocal number
            number += 1
            server = SERVERS[number % 2 if not breakout else (number - 1) % 2]
            origin = (None, "moodle", "greenlight")[number % 3]
            self.sessions.append(
                Session(
                    *(number, server, room, begin, begin + hours * 3600, size, breakout, origin)
                )
            )

        for age in ages:
            chance = random.Random(age)
            for _ in range(9):
                begin = self.day(age, chance.uniform(0.1, 22)) + chance.randrange(1000) / 1000
                room, size = chance.choice([*ROOMS, "law-a"]), chance.randrange(1, 140)
                add(begin, chance.uniform(0.1, 2.5), size, room)
                if size > 100:
                    add(begin + 600, 0.4, size // 3, room, breakout=True)
        # Over midnight, at the edge of the month too; over days, of which one is still on.
        for age in (3, self.end.astimezone(BERLIN).date().day):
            add(self.day(age, 23.4), 1.2, 33, "law-a")
        add(self.day(3, 0.5), 55, 3, "arts-a")
        add(self.day(3, 0.2), 24 * 30, 2, "law-b")
        add(self.end.timestamp() - 2000, 24, 400, "law-a")

    def _failed(self) -> dict[tuple[str, int], str]:
        away = (
            ("bbb2", self.day(9, 11), self.day(9, 14), "connect"),
            ("bbb1", self.day(2, 14) + 300, self.day(2, 14) + 1800, "http_status:502"),
            ("bbb1", self.day(16, 10), self.day(16, 10.2), "tls"),
            ("bbb1", self.day(300, 10), self.day(300, 12), "connect"),
        )
        return {(s, ts): why for s, lo, hi, why in away for ts in range(lo, hi, TICK)}

    def _see(self, session: Session, seen: list[int]) -> None:
        before = None
        for ts in seen:
            if not session.begin <= ts < session.end:
                continue
            if before is not None and TICK < ts - before <= (FILLED + 1) * TICK:
                session.samples += [
                    Sample(gap, session, self._size(session, before), filled=True)
                    for gap in range(before + TICK, ts, TICK)
                ]
            session.samples.append(Sample(ts, session, self._size(session, ts), filled=False))
            before = ts

    @staticmethod
    def _size(session: Session, ts: int) -> int:
        grown = min(1, 0.3 + (ts - session.begin) / 900)
        return max(1, round(session.size * grown * (0.9 + (ts // TICK + session.number) % 7 / 60)))


async def write(dsn: str, past: ShortPast) -> None:
    """Migrate an empty database, write `past`, refresh the rollups, and drop what is old."""
    connection = await asyncpg.connect(dsn)
    try:
        await migrate_unscheduled(connection, make_settings(retention=RETENTION))
        await _write(connection, past)
        for rollup in ROLLUPS:
            # In one batch: with the default, ten buckets, 300 days of minutes take a minute.
            await connection.execute(
                f"CALL public.refresh_continuous_aggregate('meter.{rollup}', NULL, NULL, "
                """options => '{"buckets_per_batch": 0}')"""
            )
        for relation, days in RETENTION.items():
            if days:
                await connection.execute(
                    "SELECT public.drop_chunks($1::regclass, make_interval(days => $2))",
                    *(f"meter.{relation}", days),
                )
    finally:
        await connection.close()


def at(seconds: float) -> datetime:
    """Return an instant; infinity is PostgreSQL's."""
    if seconds == float("-inf"):
        return datetime.min.replace(tzinfo=UTC)
    return datetime.fromtimestamp(seconds, UTC)


async def _write(connection: asyncpg.Connection, past: ShortPast) -> None:
    async def ids(table: str, columns: str, rows: Sequence[tuple[object, ...]]) -> list[int]:
        places = ", ".join(f"${n}" for n in range(1, 1 + len(rows[0])))
        sql = f"INSERT INTO meter.{table} ({columns}) VALUES ({places}) RETURNING id"  # noqa: S608
        return [await connection.fetchval(sql, *row) for row in rows]

    await connection.execute("DELETE FROM meter.tenant")
    tenant = dict(zip(TENANTS, await ids("tenant", "name, title", [*TENANTS.items()]), strict=True))
    server = dict(zip(SERVERS, await ids("server", "name", [(n,) for n in SERVERS]), strict=True))
    rooms = [(tenant[of], room) for room, of in ROOMS.items()]
    room = dict(zip(ROOMS, await ids("room", "tenant_id, external_id", rooms), strict=True))

    async def copy(table: str, columns: str, rows: Sequence[tuple[object, ...]]) -> None:
        await connection.copy_records_to_table(
            table, schema_name="meter", columns=columns.split(), records=rows
        )

    due = [(n, at(lo), hi and at(hi)) for n in server.values() for lo, hi in past.spans]
    await copy("server_due", "server_id since until", due)
    await copy(
        "server_tenant", "server_id since", [(n, at(float("-inf"))) for n in server.values()]
    )
    await copy(
        "contract",
        "tenant_id since until participant_limit month_minute_limit",
        [
            (tenant[of], at(lo), None if hi == float("inf") else at(hi), most, minutes)
            for of, lo, hi, most, minutes in past.contracts
        ],
    )
    load: dict[tuple[int, str], list[Sample]] = {}
    for session in past.sessions:
        for sample in session.samples:
            if not sample.filled:
                load.setdefault((sample.ts, session.server), []).append(sample)
    await copy(
        "poll",
        "ts server_id ok outcome latency_ms seconds skipped sessions participants voice video "
        "listeners dialins breakouts",
        [
            (
                *(at(p.ts), server[p.server], p.ok, p.outcome, p.latency_ms, TICK, 0),
                *(_load(load.get((p.ts, p.server), [])) if p.ok else (None,) * 7),
            )
            for p in past.polls
        ],
    )
    await copy(
        "sample",
        "ts tenant_id server_id session_id participants voice video listeners dialins seconds "
        "breakout filled moderators",
        [
            (
                *(at(a.ts), tenant[s.tenant], server[s.server], s.number, a.participants),
                *(a.voice, a.video, 0, a.dialins, TICK, s.breakout, a.filled, a.moderators),
            )
            for s in past.sessions
            for a in s.samples
        ],
    )
    await copy(
        "unseen",
        "ts server_id tenant_id sessions seconds",
        [(at(ts), server[v], of and tenant[of], 1, TICK) for ts, v, of in past.unseen],
    )
    await copy(
        "session",
        "session_id server_id internal_id started_at tenant_id room_id breakout recording origin "
        "first_seen_at last_seen_at ended_at duration_seconds session_seconds participant_seconds "
        "voice_seconds video_seconds dialin_seconds filled_seconds max_participants "
        "mean_participants",
        [
            (
                *(s.number, server[s.server], f"id-{s.number}", at(s.begin), tenant[s.tenant]),
                *(room[s.room], s.breakout, False, s.origin, at(s.samples[0].ts)),
                *(at(s.samples[-1].ts), None if past.open(s) else at(s.seen_until), s.length),
                *(s.seconds, s.total(), s.total("voice"), s.total("video"), s.total("dialins")),
                *(s.filled_seconds, s.most, s.mean),
            )
            for s in past.sessions
        ],
    )


def _load(samples: list[Sample]) -> tuple[int, ...]:
    main = [sample for sample in samples if not sample.of.breakout]
    return (
        len(main),
        sum(sample.participants for sample in main),
        sum(sample.voice for sample in main),
        sum(sample.video for sample in main),
        0,
        sum(sample.dialins for sample in main),
        len(samples) - len(main),
    )
