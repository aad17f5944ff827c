"""Maintenance of the database: sessions, late data, rollups, policies."""

import asyncio
from datetime import datetime, timedelta

import asyncpg
import structlog

from collector.database.deadlines import READ_DEADLINE_S, REFRESH_DEADLINE_S
from collector.database.pool import Connection, borrowed
from collector.errors import DatabaseError
from collector.rollups import ROLLUPS

log = structlog.get_logger(__name__)

# The embedded engine has no autovacuum.
VACUUM_EVERY = timedelta(hours=6)

# A write that has begun is committed within this time, so no late data are missed.
SETTLE_DELAY = timedelta(minutes=2)

# The longest span that one transaction refreshes, so that it holds its locks only briefly.
_REFRESH_PART = timedelta(days=1)
_REFRESH = (
    "CALL public.refresh_continuous_aggregate("
    "$1::regclass, $2::timestamptz, $3::timestamptz, force => $4)"
)
# Pause before another attempt, while a policy refreshes the same buckets.
_REFRESH_PAUSE_S = 1.0
_REFRESH_REACH = """
SELECT
    c.view_name AS rollup,
    now() - (j.config ->> 'start_offset')::interval AS since,
    now() - (j.config ->> 'end_offset')::interval AS until
FROM timescaledb_information.jobs AS j
INNER JOIN timescaledb_information.continuous_aggregates AS c
    ON j.hypertable_name IN (c.materialization_hypertable_name, c.view_name)
WHERE c.view_schema = 'meter' AND j.proc_name = 'policy_refresh_continuous_aggregate'
"""

_POLICIES = """
SELECT
    job_id, proc_name, hypertable_name, schedule_interval
FROM timescaledb_information.jobs
WHERE scheduled AND (
    hypertable_schema = 'meter'
    OR (hypertable_schema, hypertable_name) IN (
        SELECT materialization_hypertable_schema, materialization_hypertable_name
        FROM timescaledb_information.continuous_aggregates
        WHERE view_schema = 'meter'
    )
)
ORDER BY job_id
"""


async def update_sessions(pool: asyncpg.Pool, close_after_s: int) -> int:
    """Compute the figures of open sessions and close those that ended; return their number."""
    async with borrowed(pool, "update sessions", READ_DEADLINE_S) as connection:
        touched: int = await connection.fetchval("SELECT meter.update_sessions($1)", close_after_s)
    return touched


async def settle(pool: asyncpg.Pool, delay: timedelta = SETTLE_DELAY) -> int:
    """Settle data that were stored late or filled at least `delay` ago; return how many spans.

    Real samples replace filled ones. Ended sessions are reopened, so call `update_sessions` next.
    Exactly the rollup buckets over the touched time are refreshed. Raises DatabaseError.
    """
    async with borrowed(pool, "settle late data", READ_DEADLINE_S) as connection:
        spans = await connection.fetch("SELECT * FROM meter.settle($1)", delay)
    for span in spans:
        await refresh_rollups(pool, span["since"], span["until"])
    return len(spans)


async def refresh_rollup(
    connection: Connection, rollup: str, since: datetime, until: datetime, *, force: bool = False
) -> None:
    """Refresh a rollup over [since, until), once no other refresh of the same time is running.

    With `force` rows that are not noted as changed are computed too. Raises what asyncpg raises.
    """
    while True:
        try:
            await connection.execute(_REFRESH, f"meter.{rollup}", since, until, force)
        except asyncpg.LockNotAvailableError:
            await asyncio.sleep(_REFRESH_PAUSE_S)
        else:
            return


async def refresh_rollups(pool: asyncpg.Pool, since: datetime, until: datetime) -> None:
    """Refresh every rollup over [since, until), each after its source. Raises DatabaseError.

    The limits are those of the rollup's policy: no time that retention has dropped, and no bucket
    that is not over yet. A role that does not own the rollups leaves all of it to the policies,
    whose windows reach as far back.
    """
    async with borrowed(pool, "refresh rollups", REFRESH_DEADLINE_S) as connection:
        reach = {row["rollup"]: row for row in await connection.fetch(_REFRESH_REACH)}
        for rollup in ROLLUPS:
            if rollup not in reach:
                continue
            # A refresh skips partial buckets, so one bucket is added at the end, and two at the
            # begin: if the policy's reach ends soon after the touched bucket, the span must still
            # be two buckets long, to hold a whole one.
            width = ROLLUPS[rollup].grain.width
            begin = max(since - 2 * width, reach[rollup]["since"] or since - 2 * width)
            end = min(until + width, reach[rollup]["until"])
            while end - begin >= 2 * width:
                part = min(end, begin + max(_REFRESH_PART, 4 * width))
                try:
                    await refresh_rollup(connection, rollup, begin, part)
                except asyncpg.InsufficientPrivilegeError:
                    log.info("rollups_left_to_policies", rollup=rollup)
                    return
                # If `part` is inside a bucket, the next part refreshes that bucket.
                begin = part - width if part < end else end


class PolicyRunner:
    """Runs due policies and vacuums in the embedded engine, which has no background workers."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        """Run policies through `pool`."""
        self._pool = pool
        self._last_run: dict[int, datetime] = {}
        self._vacuumed_at: datetime | None = None

    async def run_due(self, now: datetime) -> int:
        """Run each policy whose interval has passed since its last run here; return their number.

        A failed policy is logged and runs again when it is due; the others run all the same.
        Raises DatabaseError after the last policy if any failed.
        """
        failed = []
        ran = 0
        async with borrowed(self._pool, "read the policies", READ_DEADLINE_S) as connection:
            jobs = await connection.fetch(_POLICIES)
        for job in jobs:
            due_at = self._last_run.get(job["job_id"], datetime.min.replace(tzinfo=now.tzinfo))
            every: timedelta = job["schedule_interval"]
            if now < due_at + every:
                continue
            self._last_run[job["job_id"]] = now
            try:
                operation = f"{job['proc_name']} of {job['hypertable_name']}"
                async with borrowed(self._pool, operation, READ_DEADLINE_S) as connection:
                    await connection.execute(f"CALL run_job({int(job['job_id'])})")
                ran += 1
            except DatabaseError as error:
                log.error("policy_failed", job=job["proc_name"], error=str(error))
                failed.append(str(error))
        if self._vacuumed_at is None or now - self._vacuumed_at >= VACUUM_EVERY:
            self._vacuumed_at = now
            async with borrowed(self._pool, "vacuum", READ_DEADLINE_S) as connection:
                await connection.execute("VACUUM (ANALYZE)")
        if failed:
            raise DatabaseError("; ".join(failed))
        return ran
