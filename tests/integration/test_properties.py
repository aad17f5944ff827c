"""What holds for any history of polls, checked against a model of what really happened.

Each case is a server of its own in one database. Its sessions begin and end at any second. Its
polls succeed, fail, are missing, cannot read a meeting, or leave one out. Its collectors restart
with any interval, two can poll at once, and batches arrive late in any order.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from collector.database.upkeep import settle, update_sessions
from collector.metering.pipeline import Pipeline
from collector.model import Answer, Batch, Meeting, PollResult
from collector.settings import Settings
from collector.storage.registry import last_polls
from collector.storage.writer import Writer
from tests.support.feed import Feed
from tests.support.polls import meeting
from tests.support.settings import make_server, make_settings
from tests.support.verify import look

CASES = 40
INTERVALS = (10, 15, 20, 30, 60)
# Some hours ago, on a full hour: polls may not be ahead of the database's clock.
T = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)
LASTS_S = 1200


@dataclass(frozen=True)
class Session:
    """A session of the model, in seconds from T; `hidden` are seconds in which answers lack it."""

    name: str
    begin_s: int
    end_s: int
    participants: int
    hidden: range

    def runs(self, at_s: int) -> bool:
        """Whether it runs at a second."""
        return self.begin_s <= at_s < self.end_s

    @property
    def seconds(self) -> int:
        """How long it really ran within the time of the case."""
        return max(min(self.end_s, LASTS_S) - max(self.begin_s, 0), 0)

    def shown(self) -> Meeting:
        """Return what an answer says of it."""
        began_at = T + timedelta(seconds=self.begin_s)
        created_ms = round(began_at.timestamp() * 1000)
        return meeting(
            self.name,
            self.participants,
            created_ms=created_ms,
            internal_id=f"{self.name}-{created_ms}",
        )


@dataclass
class Case:
    """A server with its sessions, and how it is polled."""

    name: str
    chance: random.Random
    sessions: list[Session] = field(default_factory=list)
    intervals: set[int] = field(default_factory=set)
    known: dict[int, int] = field(default_factory=dict)
    faults: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Invent the sessions, and decide which faults there are: few, so that all is covered."""
        share = self.chance.choice((0.1, 0.5))
        self.faults = {
            name
            for name in ("fails", "missing", "unread", "hidden", "restarts", "late")
            if self.chance.random() < share
        }
        for number in range(self.chance.randint(1, 4)):
            begin_s = self.chance.choice(
                (self.chance.randint(-200_000, 0), self.chance.randint(0, 900))
            )
            end_s = max(begin_s, 0) + self.chance.randint(1, 1400)
            hidden = range(0)
            if "hidden" in self.faults and end_s - max(begin_s, 0) > 400:
                # It comes back while it is polled, so that this can be known.
                first_s = max(begin_s, 0) + self.chance.randint(70, 150)
                last_s = min(first_s + self.chance.randint(20, 480), end_s - 130, LASTS_S - 130)
                hidden = range(first_s, max(first_s, last_s))
            self.sessions.append(
                Session(f"{self.name}-{number}", begin_s, end_s, self.chance.randint(1, 30), hidden)
            )

    @property
    def truth_s(self) -> int:
        """The true participant seconds."""
        return sum(s.participants * s.seconds for s in self.sessions)

    @property
    def error_s(self) -> int:
        """The participant seconds by which samples may be wrong: an interval for each edge."""
        longest_s = max(self.intervals)
        edges = (
            s.participants * longest_s * ((s.begin_s > 0) + (s.end_s < LASTS_S))
            for s in self.sessions
        )
        return sum(edges)

    def ticks(self) -> Iterator[tuple[int, int, bool]]:
        """Yield (second, interval, whether the collector has just started) for each poll due."""
        at_s = 0
        while at_s < LASTS_S:
            interval_s = self.chance.choice(INTERVALS)
            self.intervals.add(interval_s)
            until_s = at_s + self.chance.randint(60, 900) if "restarts" in self.faults else LASTS_S
            at_s = -(-at_s // interval_s) * interval_s
            first = True
            while at_s < min(until_s, LASTS_S):
                yield at_s, interval_s, first
                first = False
                at_s += interval_s

    def answer(self, at_s: int) -> PollResult | None:
        """Return the poll of a tick; None if nobody polls."""
        ts = T + timedelta(seconds=at_s)
        fault = self.chance.choice(("fails", "missing", "unread", *[""] * 12))
        fault = fault if fault in self.faults else ""
        if fault == "missing":
            return None
        if fault == "fails":
            return PollResult(self.name, ts, ok=False, latency_ms=9, outcome="timeout")
        running = [s for s in self.sessions if s.runs(at_s) and at_s not in s.hidden]
        unread = frozenset[str]()
        if running and fault == "unread":
            lost = running.pop(self.chance.randrange(len(running)))
            unread = frozenset({lost.shown().internal_id})
        answer = Answer(tuple(s.shown() for s in running), len(unread), unread)
        outcome = "partial" if unread else "ok"
        return PollResult(self.name, ts, True, 5, outcome, answer=answer)  # noqa: FBT003


class Collectors:
    """The collectors of a case, with the batches that wait in their spools."""

    def __init__(self, case: Case, feed: Feed, settings: Settings) -> None:
        """Poll the server of `case`."""
        self._case, self._feed, self._settings = case, feed, settings
        self._writer = Writer(feed.pool)
        self._running: list[tuple[int, Pipeline]] = []
        self._waiting: list[tuple[Pipeline, Batch]] = []

    async def play(self) -> None:
        """Poll to the end, and store all batches, some of them late."""
        chance = self._case.chance
        for at_s, interval_s, started in self._case.ticks():
            if started:
                await self._start(at_s, interval_s)
                await check_known(self._case, self._feed)
            elif chance.random() < 0.05:
                self._running = self._running[-1:]
            result = self._case.answer(at_s)
            for own_s, pipeline in self._running:
                if result is None or at_s % own_s:
                    continue
                batch = pipeline.process(result)
                if "late" in self._case.faults and chance.random() < 0.2:
                    self._waiting.append((pipeline, batch))
                else:
                    await self._store(pipeline, batch)
            if chance.random() < 0.03:
                await self._replay()
        await self._replay()

    async def _start(self, at_s: int, interval_s: int) -> None:
        """Start a collector. The one before can go on for a while, as in a handover."""
        own = self._settings.model_copy(update={"poll_interval_s": interval_s})
        pipeline = Pipeline(own)
        async with self._feed.pool.acquire() as connection:
            tick = T + timedelta(seconds=at_s)
            last = await last_polls(connection, [self._case.name], tick, own.max_gap_s)
        for name, poll in last.items():
            pipeline.restore(name, poll)
        before = self._running[-1:] if self._case.chance.random() < 0.5 else []
        self._running = [*before, (interval_s, pipeline)]

    async def _store(self, pipeline: Pipeline, batch: Batch, *, late: bool = False) -> None:
        stored = await self._writer.write(batch, late=late)
        if not stored.polls:
            pipeline.forget_sessions(self._case.name)

    async def _replay(self) -> None:
        """Store the batches that wait, in any order."""
        self._case.chance.shuffle(self._waiting)
        for pipeline, batch in self._waiting:
            await self._store(pipeline, batch, late=True)
        self._waiting.clear()


async def check_known(case: Case, feed: Feed) -> None:
    """Update sessions; what was known of each must not have become less."""
    await settle(feed.pool, timedelta(0))
    await update_sessions(feed.pool, 120)
    rows = await feed.pool.fetch(
        "SELECT session_id, participant_seconds FROM meter.session AS s "
        "INNER JOIN meter.server AS v ON s.server_id = v.id "
        "WHERE v.name = $1 AND participant_seconds IS NOT NULL",
        case.name,
    )
    for row in rows:
        assert row["participant_seconds"] >= case.known.get(row["session_id"], 0), case
        case.known[row["session_id"]] = row["participant_seconds"]


_OVERLAPS = """
SELECT a.session_id, a.ts, a.seconds, a.filled, b.ts, b.seconds, b.filled
FROM meter.sample AS a
INNER JOIN meter.sample AS b
    ON a.session_id = b.session_id AND a.ts <= b.ts
        AND a.ts + make_interval(secs => a.seconds) > b.ts
        AND (a.ts, a.seconds, a.filled) <> (b.ts, b.seconds, b.filled)
UNION ALL
SELECT a.session_id, a.ts, a.seconds, a.filled, a.ts, a.seconds, a.filled
FROM meter.sample AS a
GROUP BY a.session_id, a.ts, a.seconds, a.filled
HAVING count(*) > 1
"""


_UNNOTED = """
SELECT a.session_id, a.ts
FROM meter.sample AS a
INNER JOIN meter.poll AS p ON a.server_id = p.server_id AND a.ts = p.ts
WHERE a.filled AND p.ok AND NOT EXISTS (
    SELECT FROM meter.unseen AS u
    WHERE u.ts = a.ts AND u.server_id = a.server_id AND u.session_id = a.session_id
)
"""
_STORED = """
SELECT t.name AS tenant, sum(a.participants::bigint * a.seconds)::float8 AS participant_s
FROM meter.sample AS a
INNER JOIN meter.tenant AS t ON a.tenant_id = t.id
WHERE NOT a.breakout
GROUP BY t.name
"""


@pytest.mark.parametrize("seed", [1])
async def test_any_history(feed: Feed, seed: int) -> None:
    """No second counts twice, nothing shrinks, and coverage 1 means that the minutes are right."""
    cases = [Case(f"s{n:05}", random.Random(f"{seed}-{n}")) for n in range(CASES)]
    await feed.due(T, **{case.name: case.name for case in cases})
    settings = make_settings(
        server=[make_server(case.name, tenant=case.name) for case in cases],
        attribution={"rules": [{"type": "server"}]},
    )
    for case in cases:
        await Collectors(case, feed, settings).play()
        await check_known(case, feed)
    end = T + timedelta(seconds=LASTS_S)
    await feed.due(end)
    await update_sessions(feed.pool, 120)
    for query in (_OVERLAPS, _UNNOTED):
        assert [tuple(row) for row in await feed.pool.fetch(query)] == []
    rows = await feed.pool.fetch("SELECT * FROM meter.tenant_report($1, $2)", T, end)
    figures = {row["tenant"]: row for row in rows}
    rows = await feed.pool.fetch(_STORED)
    stored = {row["tenant"]: row["participant_s"] for row in rows}
    covered = 0
    for case in cases:
        row = figures[case.name]
        found_s = round((row["participant_minutes"] or 0) * 60)
        assert found_s == stored.get(case.name, 0), case
        assert found_s <= case.truth_s + case.error_s, case
        if row["coverage"] == 1:
            covered += 1
            assert abs(found_s - case.truth_s) <= case.error_s, case
    found = await look(feed, settings, until=end)
    for name, result in found.items():
        if name.startswith("rollup") or name in {"samples", "sessions"}:
            assert result.findings == (), name
    assert covered >= CASES / 5
