"""Work on the database beside polling: sessions, late data, rollups, policies."""

import asyncio
from datetime import datetime, timedelta

import asyncpg
import structlog

from collector.database.deadlines import READ_DEADLINE_S, REFRESH_DEADLINE_S
from collector.database.pool import Connection, borrowed
from collector.errors import DatabaseError
from collector.rollups import ROLLUPS

log = structlog.get_logger(__name__)

# No autovacuum runs there either.
VACUUM_EVERY = timedelta(hours=6)

# No write that is under way now can take longer to appear.
SETTLE_DELAY = timedelta(minutes=2)

# So much is refreshed in one transaction.
_REFRESH_PART = timedelta(days=1)
_REFRESH = (
    "CALL public.refresh_continuous_aggregate("
    "$1::regclass, $2::timestamptz, $3::timestamptz, force => $4)"
)
# A policy that refreshes the same buckets is soon done.
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
    """See to all that was stored late or filled, `delay` ago at least; return how many spans.

    Filled samples yield to real ones, ended sessions are opened again (`update_sessions` is to
    follow), and the rollups of exactly the time that was touched are refreshed.
    """
    async with borrowed(pool, "settle late data", READ_DEADLINE_S) as connection:
        spans = await connection.fetch("SELECT * FROM meter.settle($1)", delay)
    for span in spans:
        await refresh_rollups(pool, span["since"], span["until"])
    return len(spans)


async def refresh_rollup(
    connection: Connection, rollup: str, since: datetime, until: datetime, *, force: bool = False
) -> None:
    """Refresh a rollup, after whoever refreshes the same time now; by `force`, also unchanged rows.

    Raises what asyncpg raises.
    """
    while True:
        try:
            await connection.execute(_REFRESH, f"meter.{rollup}", since, until, force)
        except asyncpg.LockNotAvailableError:
            await asyncio.sleep(_REFRESH_PAUSE_S)
        else:
            return


async def refresh_rollups(pool: asyncpg.Pool, since: datetime, until: datetime) -> None:
    """Refresh every rollup over [since, until), each after what it is made from.

    As far as its policy would: not behind what retention has dropped, nor into buckets that are
    not over yet. Who does not own the rollups leaves all of it to the policies, whose windows
    reach as far back.
    """
    async with borrowed(pool, "refresh rollups", REFRESH_DEADLINE_S) as connection:
        reach = {row["rollup"]: row for row in await connection.fetch(_REFRESH_REACH)}
        for rollup in ROLLUPS:
            if rollup not in reach:
                continue
            # Only whole buckets are refreshed: one more on each side, and none is cut.
            width = ROLLUPS[rollup].grain.width
            begin = max(since - width, reach[rollup]["since"] or since - width)
            end = min(until + width, reach[rollup]["until"])
            while end - begin >= 2 * width:
                part = min(end, begin + max(_REFRESH_PART, 4 * width))
                try:
                    await refresh_rollup(connection, rollup, begin, part)
                except asyncpg.InsufficientPrivilegeError:
                    log.info("rollups_left_to_policies", rollup=rollup)
                    return
                # The bucket that `part` cuts is the next part's.
                begin = part - width if part < end else end


class PolicyRunner:
    """Runs due policies, and vacuums, where no background worker does: in the embedded engine."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        """Run policies through `pool`."""
        self._pool = pool
        self._last_run: dict[int, datetime] = {}
        self._vacuumed_at: datetime | None = None

    async def run_due(self, now: datetime) -> int:
        """Run each policy whose interval has passed since its last run here; return their number.

        One that fails is logged, runs again when it is due, and stops no other.
        Raises DatabaseError after the last one if any failed.
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
