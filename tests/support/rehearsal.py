"""A rehearsal: a simulated fleet is metered on a virtual clock, and compared with the truth.

Weeks take minutes. Everything after the bytes of an answer is the real program: parser, pipeline,
writer, sessions, rollups, report. Only HTTP and waiting are left out. Tests and docs/accuracy.md
use it.
"""

import random
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from collector.database.upkeep import settle, update_sessions
from collector.errors import ImplausibleError
from collector.metering.attribution import Attribution
from collector.metering.pipeline import Pipeline
from collector.model import Batch, PollResult
from collector.reports.usage import Request, fetch_report
from collector.rollups import ROLLUPS
from collector.settings import Settings
from collector.simulator import Fleet, Truth
from collector.simulator.faults import FaultKind, distort
from collector.simulator.marks import attribution_rules
from collector.simulator.render import joined
from collector.sources.polling.parser import parse_meetings
from collector.storage.duplicates import counted_elsewhere, find_duplicates
from collector.storage.outbox import MAX_STATEMENT_SAMPLES
from collector.storage.registry import sync_fleet
from collector.storage.writer import Writer


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """The result of a run: the rows of the report and of BBBLB's documented query, and the truth.

    `polls` and `failed` count one per server and tick, `faults` the answers that were distorted;
    `seconds` is the duration of the run.
    """

    report: dict[str, dict[str, Any]]
    bbblb: dict[str, dict[str, Any]]
    truth: Truth
    interval_s: int
    polls: int
    failed: int
    faults: int
    samples: int
    seconds: float


async def rehearse(
    pool: asyncpg.Pool,
    settings: Settings,
    fleet: Fleet,
    *,
    fail_share: float = 0.0,
    fault_share: float = 0.0,
    faults: Collection[FaultKind] = (),
    views: Mapping[str, tuple[str, ...]] | None = None,
    fail_seed: int = 1,
) -> Rehearsal:
    """Run the whole plan of `fleet` into the migrated, empty database of `pool`.

    Each poll fails independently with probability `fail_share`. Of the others, `fault_share` have
    one of `faults`, which change what an answer lists. `views` are servers of the settings that
    list the meetings of these. The plan must begin and end at full minutes.
    """
    began = time.monotonic()
    plan, interval_s, views = fleet.plan, settings.poll_interval_s, views or {}
    async with pool.acquire() as connection:
        await sync_fleet(connection, settings.server, settings.tenant, plan.start)
    pipeline, writer = Pipeline(settings), Writer(pool)
    metadata_keys = Attribution(settings.attribution).metadata_keys
    chance = random.Random(fail_seed)
    batch, polls, failed, distorted, samples = Batch(), 0, 0, 0, 0
    for tick in _ticks(plan.start, plan.end, interval_s):
        for server in settings.server:
            result = PollResult(server.name, tick, ok=False, latency_ms=0, outcome="timeout")
            if chance.random() >= fail_share:
                shown = views.get(server.name, (server.name,))
                body = joined([fleet.answer(name, tick) for name in shown])
                if faults and chance.random() < fault_share:
                    body = distort(body, {chance.choice([*faults])})
                    distorted += 1
                result = _polled(result, body, metadata_keys)
            failed += not result.ok
            batch.extend(pipeline.process(result))
            polls += 1
        if views or len(batch.samples) >= MAX_STATEMENT_SAMPLES:
            samples += (await writer.write(batch)).samples
            batch = Batch()
        if views:
            async with pool.acquire() as connection:
                await find_duplicates(connection)
                pipeline.elsewhere = await counted_elsewhere(connection)
        if tick.minute == 0 and tick.second == 0:
            await settle(pool, timedelta(0))
            await update_sessions(pool, settings.close_after_s)
    samples += (await writer.write(batch)).samples
    await settle(pool, timedelta(0))
    await update_sessions(pool, settings.close_after_s)
    async with pool.acquire() as connection:
        # Polls are due until the plan's end, not until today.
        await sync_fleet(connection, (), settings.tenant, plan.end)
    for rollup in ROLLUPS:
        await pool.execute(f"CALL refresh_continuous_aggregate('meter.{rollup}', NULL, NULL)")
    async with pool.acquire() as connection:
        rows = await fetch_report(connection, Request(plan.start, plan.end))
        bbblb = await connection.fetch(_BBBLB)
    return Rehearsal(
        report={row["tenant"]: row for row in rows},
        bbblb={row["tenant"]: dict(row) for row in bbblb},
        truth=fleet.truth(plan.start, plan.end),
        interval_s=interval_s,
        polls=polls,
        failed=failed,
        faults=distorted,
        samples=samples,
        seconds=time.monotonic() - began,
    )


def _polled(failed: PollResult, body: bytes, metadata_keys: frozenset[str]) -> PollResult:
    """Return the poll with this answer instead of `failed`."""
    try:
        answer = parse_meetings(body, metadata_keys=metadata_keys)
    except ImplausibleError:
        return replace(failed, outcome="implausible")
    outcome = "partial" if answer.partial else "ok"
    return replace(failed, ok=True, outcome=outcome, answer=answer)


def _ticks(start: datetime, end: datetime, interval_s: int) -> Iterator[datetime]:
    while start < end:
        yield start
        start += timedelta(seconds=interval_s)


def settings_for(fleet: Fleet, *views: str, **changes: Any) -> Settings:  # noqa: ANN401 - any key
    """Return settings with the servers, views, tenants and rules of a simulated fleet."""
    values: dict[str, Any] = {
        "billing_timezone": "Europe/Berlin",
        "server": [
            {"name": name, "url": f"http://{name}.invalid/bigbluebutton/", "secret": "simulated"}
            for name in (*fleet.plan.server_names, *views)
        ],
        "tenant": [{"name": tenant.name} for tenant in fleet.plan.tenants],
        "attribution": {"rules": attribution_rules(fleet.plan.tenants)},
        **changes,
    }
    return Settings(**values)


# The six figures of BBBLB's documented query over its table meeting_stats, which has one row per
# meeting and poll. The duration is the last minus the first row. Participant minutes are the mean
# users times the duration.
_BBBLB = """
WITH meeting_stats AS (
    SELECT a.ts, a.session_id AS uuid, a.tenant_id AS tenant_fk, a.participants AS users
    FROM meter.sample AS a
    WHERE NOT a.breakout AND NOT a.filled
), meeting AS (
    SELECT
        m.tenant_fk, m.uuid, extract(EPOCH FROM max(m.ts) - min(m.ts)) AS duration,
        avg(m.users) AS users_avg, max(m.users) AS users_max
    FROM meeting_stats AS m
    GROUP BY m.tenant_fk, m.uuid
)
SELECT
    t.name AS tenant,
    (sum(m.users_avg * m.duration) / 60)::double precision AS participant_minutes,
    (avg(m.duration) / 60)::double precision AS avg_session_minutes,
    avg(m.users_avg)::double precision AS avg_session_size,
    max(m.users_max) AS max_session_size,
    count(*) FILTER (WHERE m.users_max > 100) AS large_sessions,
    count(*) AS sessions
FROM meeting AS m
INNER JOIN meter.tenant AS t ON m.tenant_fk = t.id
GROUP BY t.name
"""
