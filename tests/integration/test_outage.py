"""A day without the database: everything waits on disk and comes in afterwards, in order."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg

from collector.clock import tick_at
from collector.database.deadlines import WRITE_DEADLINE_S
from collector.database.upkeep import settle, update_sessions
from collector.errors import DatabaseError
from collector.metering.attribution import Attribution
from collector.metering.pipeline import Pipeline
from collector.metrics import Metrics
from collector.model import Batch, PollResult
from collector.rollups import ROLLUPS
from collector.simulator import Fleet, FleetPlan
from collector.simulator.plan import sim_tenants
from collector.sources.polling.parser import parse_meetings
from collector.storage.outbox import Outbox
from collector.storage.registry import sync_fleet
from collector.storage.spool import Spool
from collector.storage.writer import Stored, Writer
from collector.verify import verify
from tests.support.rehearsal import settings_for

INTERVAL_S = 60
HOUR = timedelta(hours=1)
PATIENCE_S = 300
NOT_HERE = {"policies", "jobs", "chunks"}


class Outage(Writer):
    """The real writer, to a database that is away at times; remembers its order."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        """Begin with a database that is there."""
        super().__init__(pool)
        self.away = False
        self.replayed: list[datetime] = []

    async def write(
        self, batch: Batch, *, late: bool = False, deadline_s: float = WRITE_DEADLINE_S
    ) -> Stored:
        """Write, or fail as one does whose database is away."""
        if self.away:
            raise DatabaseError
        stored = await super().write(batch, late=late, deadline_s=deadline_s)
        if late:
            self.replayed += [poll.ts for poll in batch.polls]
        return stored


@asynccontextmanager
async def running(outbox: Outbox) -> AsyncIterator[None]:
    """Run the outbox meanwhile."""
    task = asyncio.create_task(outbox.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
        await outbox.close()


async def test_a_day_without_the_database_is_replayed_whole(
    pool: asyncpg.Pool, tmp_path: Path
) -> None:
    """No poll is lost, none comes twice; sessions and rollups are as if nothing had happened."""
    end = tick_at(datetime.now(UTC), 3600)
    plan = FleetPlan(
        seed=11,
        start=end - 26 * HOUR,
        end=end,
        tenants=sim_tenants(4),
        servers=3,
        concurrent_sessions=8,
    )
    fleet = Fleet(plan)
    settings = settings_for(fleet, poll_interval_s=INTERVAL_S)
    keys = Attribution(settings.attribution).metadata_keys
    async with pool.acquire() as connection:
        await sync_fleet(connection, settings.server, settings.tenant, plan.start)
    pipeline, writer = Pipeline(settings), Outage(pool)
    spool = Spool.open(tmp_path, 1024**3)
    outbox = Outbox(writer, spool, Metrics(), not_stored=pipeline.forget_sessions, late_days=29)
    samples: list[tuple[datetime, int]] = []

    async def poll(since: datetime, until: datetime) -> None:
        ts = since
        while ts < until:
            for server in plan.server_names:
                answer = parse_meetings(fleet.answer(server, ts), metadata_keys=keys)
                batch = pipeline.process(
                    PollResult(server, ts, ok=True, latency_ms=5, answer=answer)
                )
                samples.extend((s.ts, s.participants) for s in batch.samples)
                outbox.put(batch)
            ts += timedelta(seconds=INTERVAL_S)
            await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE_S):
            await outbox.drain()

    async with running(outbox), asyncio.timeout(PATIENCE_S):
        await poll(plan.start, plan.start + HOUR)
        writer.away = True
        await poll(plan.start + HOUR, plan.start + 25 * HOUR)
        assert spool.polls >= 24 * 60 * 3
        # It is back: the policies find nothing of that day, and materialize that nothing was.
        await update_sessions(pool, settings.close_after_s)
        for rollup in ROLLUPS:
            await pool.execute(f"CALL refresh_continuous_aggregate('meter.{rollup}', NULL, NULL)")
        writer.away, writer.replayed = False, []
        await poll(plan.start + 25 * HOUR, plan.end)
        while spool.polls:  # noqa: ASYNC110 - no event says so
            await asyncio.sleep(0.05)
    assert writer.replayed == sorted(writer.replayed)
    # The backlog noted what it touched; a minute later all of it is settled.
    assert await settle(pool, timedelta(0)) >= 1
    await update_sessions(pool, settings.close_after_s)

    rows = await pool.fetch("SELECT ok, count(*) AS n FROM meter.poll GROUP BY ok")
    assert [(row["ok"], row["n"]) for row in rows] == [(True, 26 * 60 * 3)]
    stored = await pool.fetch("SELECT ts, participants FROM meter.sample")
    assert sorted((row["ts"], row["participants"]) for row in stored) == sorted(samples)
    # Policies do not run by themselves here, and are none of this test's business.
    results = [r for r in await verify(pool, settings, second_look_s=0) if r.name not in NOT_HERE]
    assert [finding for result in results for finding in result.findings] == []
    assert all(result.ok for result in results)
    examined = {result.name for result in results if result.examined}
    rollups = {f"rollup {name}" for name in ("usage_1m", "usage_1h", "session_1h", "server_1h")}
    assert examined >= rollups | {"sessions", "samples", "polls"}
    spool.close()
