"""Checks that chunks, policies and their jobs are as the settings say."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from collector.rollups import ROLLUPS
from collector.settings import Settings
from collector.verify.result import Result, Tally
from collector.verify.scope import FIRST_DAY, IN_ADVANCE, Scope

# Policies for the columnstore and retention run every 12 and 24 hours, and one run may fail. A
# chunk that is older than its limit by more than this is a finding.
_SLACK = timedelta(days=1, hours=12)
# A job counts as not running only after this time without a run: a run can take long after an
# outage.
_LEAST_SILENCE = timedelta(minutes=30)

_REFRESH = "policy_refresh_continuous_aggregate"
_COLUMNS = "policy_compression"
_RETENTION = "policy_retention"
_JOBS = """
WITH relation AS (
    SELECT
        h.hypertable_schema::text AS schema_name, h.hypertable_name::text AS table_name,
        h.hypertable_name::text AS name
    FROM timescaledb_information.hypertables AS h
    WHERE h.hypertable_schema = 'meter'
    UNION
    SELECT x.schema_name, x.table_name, c.view_name
    FROM timescaledb_information.continuous_aggregates AS c
    CROSS JOIN LATERAL (
        VALUES
        (c.view_schema, c.view_name),
        (c.materialization_hypertable_schema, c.materialization_hypertable_name)
    ) AS x (schema_name, table_name)
    WHERE c.view_schema = 'meter'
)
SELECT
    r.name AS relation, j.job_id, j.proc_name::text AS proc, j.scheduled,
    j.schedule_interval AS every,
    (j.config ->> 'start_offset')::interval AS start_offset,
    (j.config ->> 'end_offset')::interval AS end_offset,
    (j.config ->> 'compress_after')::interval AS compress_after,
    (j.config ->> 'drop_after')::interval AS drop_after,
    -- A refresh that met another running refresh has not failed: the other one does the work.
    s.last_run_status = 'Failed' AND e.sqlerrcode IS DISTINCT FROM '55P03' AS has_failed,
    nullif(s.last_run_started_at, '-infinity') AS last_run_started_at,
    coalesce(nullif(s.last_run_started_at, '-infinity'), j.next_start)
        < now() - greatest(3 * j.schedule_interval, $1) AS is_silent,
    e.err_message AS error
FROM timescaledb_information.jobs AS j
INNER JOIN relation AS r
    ON (j.hypertable_schema, j.hypertable_name) = (r.schema_name, r.table_name)
LEFT JOIN timescaledb_information.job_stats AS s ON j.job_id = s.job_id
LEFT JOIN LATERAL (
    SELECT x.sqlerrcode, x.err_message
    FROM timescaledb_information.job_errors AS x
    WHERE x.job_id = j.job_id
    ORDER BY x.start_time DESC
    LIMIT 1
) AS e ON TRUE
ORDER BY j.job_id
"""
# Only where TimescaleDB's library is preloaded do background workers run the jobs.
_WORKERS = "SELECT current_setting('timescaledb.max_background_workers', TRUE)"


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy as it should be; None for an offset that its kind does not have, or without limit.

    `every` is None if the database chooses it.
    """

    start_offset: timedelta | None = None
    end_offset: timedelta | None = None
    compress_after: timedelta | None = None
    drop_after: timedelta | None = None
    every: timedelta | None = None

    def differing(self, job: asyncpg.Record) -> list[str]:
        """Return the names of the fields that differ in `job`."""
        return [
            name
            for name in self.__dataclass_fields__
            if job[name] != getattr(self, name) and not (name == "every" and self.every is None)
        ]


def policies_of(settings: Settings) -> dict[tuple[str, str], Policy]:
    """Return all policies that should exist, by (procedure, relation)."""
    wanted = {}
    for rollup in ROLLUPS.values():
        days_back = settings.refresh_days(rollup)
        wanted[_REFRESH, rollup.name] = Policy(
            start_offset=None if days_back is None else timedelta(days=days_back),
            end_offset=rollup.grain.delay,
            every=rollup.grain.every,
        )
    for relation, days in settings.columnstore_days.items():
        if days:
            wanted[_COLUMNS, relation] = Policy(compress_after=timedelta(days=days))
    for relation, days in settings.kept_days.items():
        if days:
            wanted[_RETENTION, relation] = Policy(drop_after=timedelta(days=days))
    return wanted


async def check_chunks(scope: Scope) -> Result:
    """Look for chunks that should be compressed, dropped, or should never have existed."""
    tally = Tally("chunks")
    columns, retention = scope.settings.columnstore_days, scope.settings.kept_days
    for chunk in scope.chunks:
        tally.examined += 1
        what = f"chunk {chunk.name} of {chunk.relation}, from {scope.local(chunk.since)}"
        if chunk.until < FIRST_DAY or chunk.since > scope.now + IN_ADVANCE:
            tally.add(what, "no chunk there", f"the year {chunk.since.year}")
            continue
        age = scope.now - chunk.until
        days = retention.get(chunk.relation)
        if days and age > timedelta(days=days) + _SLACK:
            tally.add(what, f"dropped after {days} days", "not dropped")
            continue
        days = columns.get(chunk.relation)
        if days and age > timedelta(days=days) + _SLACK and not chunk.is_columns:
            tally.add(what, f"columns after {days} days", "rows")
    return tally.result()


async def check_policies(scope: Scope) -> Result:
    """Compare the policies, and the settings in the day rollups' SQL, with the settings."""
    tally = Tally("policies")
    wanted = policies_of(scope.settings)
    seen = set()
    for job in await _jobs(scope):
        tally.examined += 1
        key = job["proc"], job["relation"]
        what = f"{key[0]} of {key[1]}"
        if key not in wanted or key in seen:
            tally.add(what, "no such policy", f"job {job['job_id']}")
            continue
        seen.add(key)
        if not job["scheduled"]:
            tally.add(what, "scheduled", "switched off")
        if other := wanted[key].differing(job):
            expected = ", ".join(f"{name} {_text(getattr(wanted[key], name))}" for name in other)
            found = ", ".join(f"{name} {_text(job[name])}" for name in other)
            tally.add(what, expected, found)
    for proc, relation in wanted.keys() - seen:
        tally.examined += 1
        tally.add(f"{proc} of {relation}", "a policy", "none")
    for setting, value in scope.baked.items():
        tally.examined += 1
        if value != str(getattr(scope.settings, setting)):
            tally.add(f"{setting} of the day rollups", str(getattr(scope.settings, setting)), value)
    if tally.total:
        tally.remarks.append("run `bbbmeter migrate` to set them from the settings")
    return tally.result()


async def check_jobs(scope: Scope) -> Result:
    """Look for policies whose last run failed, or that have not run for too long."""
    tally = Tally("jobs")
    if await scope.pool.fetchval(_WORKERS) is None:
        note = "the embedded engine does not record runs: see the collector's log"
        return Result(tally.name, "skipped", note=note)
    for job in await _jobs(scope):
        if not job["scheduled"]:
            continue
        tally.examined += 1
        what = f"{job['proc']} of {job['relation']}"
        if job["has_failed"]:
            tally.add(what, "success", f"failure: {job['error'] or 'no error text'}")
        elif job["is_silent"]:
            last: datetime | None = job["last_run_started_at"]
            ran = f"last run {scope.local(last)}" if last else "never ran"
            tally.add(what, f"a run every {_text(job['every'])}", ran)
    return tally.result()


async def _jobs(scope: Scope) -> list[asyncpg.Record]:
    rows: list[asyncpg.Record] = await scope.pool.fetch(_JOBS, _LEAST_SILENCE)
    return rows


def _text(value: timedelta | None) -> str:
    return "without limit" if value is None else str(value)
