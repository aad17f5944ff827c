"""A collector without HTTP and clock: from the bytes of an answer to the database.

Time is the present: a poll must not be ahead of the database's clock, and samples must be kept.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from collector.database.upkeep import settle, update_sessions
from collector.metering.pipeline import Pipeline
from collector.model import PollResult
from collector.settings import Settings
from collector.simulator.plan import epoch_ms
from collector.sources.polling.parser import parse_meetings
from collector.storage.duplicates import Duplicates, counted_elsewhere, find_duplicates
from collector.storage.writer import Writer
from tests.support.feed import Feed
from tests.support.meetings import answer_xml, meeting_xml
from tests.support.reports import report
from tests.support.settings import make_server, make_settings

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
TICK = timedelta(seconds=30)
# Two hours ago, on a full hour.
T = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - 2 * HOUR
CLOSE_AFTER_S = 120


def meeting(name: str, people: int, created_at: datetime = T, **changes: Any) -> str:  # noqa: ANN401
    """Render a meeting that was created at `created_at`."""
    created_ms = epoch_ms(created_at)
    metadata = {"bbblb-tenant": changes.pop("tenant", "acme")}
    fields = {
        "meetingID": name,
        "internalMeetingID": f"{name}-{created_ms}",
        "createTime": created_ms,
        "participantCount": people,
        "moderatorCount": 0,
        "hasUserJoined": "true",
        **changes,
    }
    return meeting_xml(metadata=metadata, **fields)


def breakout(name: str, people: int, parent: str, **changes: Any) -> str:  # noqa: ANN401
    """Render a meeting that calls itself a breakout of the internal id `parent`."""
    return meeting(name, people, isBreakout="true", parentMeetingID=parent, **changes)


def internal(name: str) -> str:
    """Return the internal id of a meeting that was created at T."""
    return f"{name}-{epoch_ms(T)}"


class Meter:
    """What a collector does with answers of one server, without HTTP and clock."""

    def __init__(self, feed: Feed, settings: Settings) -> None:
        """Store into the database of `feed`."""
        self.feed = feed
        self.settings = settings
        self.writer = Writer(feed.pool)
        self.pipeline = Pipeline(settings)

    async def poll(self, ts: datetime, answer: bytes | None, server: str = "bbb1") -> None:
        """Store the poll of a tick; no answer is a failed poll."""
        result = PollResult(server, ts, ok=False, latency_ms=9, outcome="timeout")
        if answer is not None:
            parsed = parse_meetings(answer, metadata_keys=frozenset({"bbblb-tenant"}))
            outcome = "partial" if parsed.partial else "ok"
            result = PollResult(server, ts, True, 5, outcome, answer=parsed)  # noqa: FBT003
        await self.writer.write(self.pipeline.process(result))

    async def play(
        self, since: datetime, until: datetime, answer: Callable[[datetime], bytes | None] | bytes
    ) -> None:
        """Store the polls of all ticks of [since, until), then update sessions."""
        for ts in self.feed.ticks(since, until):
            await self.poll(ts, answer if isinstance(answer, bytes) else answer(ts))
        await self.update()

    async def update(self) -> None:
        """Do what one collector does each minute."""
        await settle(self.feed.pool, timedelta(0))
        await update_sessions(self.feed.pool, CLOSE_AFTER_S)

    async def report(self, since: datetime = T, until: datetime = T + HOUR) -> dict[str, Any]:
        """Return the report by tenant, without tenants that have nothing."""
        rows = await report(self.feed, since, until)
        return {name: row for name, row in rows.items() if name != "unassigned"}

    async def sessions(self) -> list[asyncpg.Record]:
        """Return the sessions, by start and internal id."""
        rows: list[asyncpg.Record] = await self.feed.pool.fetch(
            "SELECT s.*, t.name AS tenant FROM meter.session AS s "
            "INNER JOIN meter.tenant AS t ON s.tenant_id = t.id "
            "ORDER BY s.started_at, s.internal_id, s.breakout"
        )
        return rows


# -- several servers -------------------------------------------------------------------------------

BY_MARK = [{"type": "metadata", "key": "bbblb-tenant"}, {"type": "server"}, {"type": "parent"}]
Answers = dict[str, list[str]]


def make_meter(feed: Feed, rules: list[dict[str, str]] = BY_MARK, **servers: str | None) -> Meter:
    """Return a collector of `servers`, each with its tenant; None is a shared server."""
    entries = [make_server(name, tenant=tenant) for name, tenant in servers.items()]
    return Meter(feed, make_settings(server=entries, attribution={"rules": rules}))


async def play(
    meter: Meter, since: datetime, until: datetime, answers: Answers, *, found: bool = True
) -> list[Duplicates]:
    """Poll all servers at each tick of [since, until); return the last duplicates found."""
    pairs: list[Duplicates] = []
    for ts in meter.feed.ticks(since, until):
        for server, meetings in answers.items():
            await meter.poll(ts, answer_xml(*meetings), server)
        if found:
            pairs = await find(meter)
    await meter.update()
    return pairs


async def find(meter: Meter) -> list[Duplicates]:
    """Do what a collector does at each tick."""
    async with meter.feed.pool.acquire() as connection:
        pairs = await find_duplicates(connection)
        meter.pipeline.elsewhere = await counted_elsewhere(connection)
    return pairs
