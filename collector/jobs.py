"""Work on the database beside polling: sessions are brought up to date, policies are run."""

from datetime import datetime, timedelta

import asyncpg
import structlog

from collector.database import translated
from collector.errors import DatabaseError

log = structlog.get_logger(__name__)

# No autovacuum runs there either.
VACUUM_EVERY = timedelta(hours=6)

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
    with translated("update sessions"):
        touched: int = await pool.fetchval("SELECT meter.update_sessions($1)", close_after_s)
    return touched


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
        with translated("read the policies"):
            jobs = await self._pool.fetch(_POLICIES)
        for job in jobs:
            due_at = self._last_run.get(job["job_id"], datetime.min.replace(tzinfo=now.tzinfo))
            every: timedelta = job["schedule_interval"]
            if now < due_at + every:
                continue
            self._last_run[job["job_id"]] = now
            try:
                with translated(f"{job['proc_name']} of {job['hypertable_name']}"):
                    await self._pool.execute(f"CALL run_job({int(job['job_id'])})")
                ran += 1
            except DatabaseError as error:
                log.error("policy failed", job=job["proc_name"], error=str(error))  # noqa: TRY400
                failed.append(str(error))
        if self._vacuumed_at is None or now - self._vacuumed_at >= VACUUM_EVERY:
            self._vacuumed_at = now
            with translated("vacuum"):
                await self._pool.execute("VACUUM (ANALYZE)")
        if failed:
            raise DatabaseError("; ".join(failed))
        return ran
