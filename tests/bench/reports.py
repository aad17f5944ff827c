"""Measures reports and storage, compared with BBBLB's `meeting_stats`, and over a year.

Each size is an invented history (tests.support.history). `meeting_stats` is filled from the same
samples. Its report is the query from BBBLB's documentation, over a month.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg

from tests.bench.database import past, rows
from tests.support.history import History

_BEFORE = """
SELECT h.hypertable_name AS name, s.*
FROM timescaledb_information.hypertables AS h
CROSS JOIN LATERAL
    public.hypertable_columnstore_stats(format('%I.%I', h.hypertable_schema, h.hypertable_name))
    AS s
WHERE h.hypertable_name = ANY('{sample, poll, session}') AND s.number_compressed_chunks > 0
"""
# The number of rows in compressed chunks.
_ROWS = """
SELECT count(*) FROM meter.{table} WHERE {time} < (
    SELECT max(range_end) FROM timescaledb_information.chunks
    WHERE hypertable_schema = 'meter' AND hypertable_name = '{table}' AND is_compressed
)
"""
_TIME = {"sample": "ts", "poll": "ts", "session": "started_at"}

_MEETING_STATS = """
CREATE TABLE public.meeting_stats (
    id serial CONSTRAINT pk_meeting_stats PRIMARY KEY,
    ts timestamptz NOT NULL,
    uuid uuid NOT NULL,
    meeting_id varchar NOT NULL,
    tenant_fk integer REFERENCES meter.tenant (id),
    users integer NOT NULL,
    voice integer NOT NULL,
    video integer NOT NULL
);
INSERT INTO public.meeting_stats (ts, uuid, meeting_id, tenant_fk, users, voice, video)
SELECT
    a.ts, md5(a.session_id::text)::uuid, coalesce(r.external_id, s.internal_id), a.tenant_id,
    a.participants, a.voice, a.video
FROM meter.sample AS a
INNER JOIN meter.session AS s ON a.session_id = s.session_id
LEFT JOIN meter.room AS r ON s.room_id = r.id
WHERE NOT a.breakout AND NOT a.filled
ORDER BY a.ts;
CREATE INDEX ON public.meeting_stats USING brin (ts);
VACUUM ANALYZE public.meeting_stats
"""
_THEIR_REPORT = """
WITH meeting AS (
    SELECT
        m.tenant_fk, m.uuid, extract(EPOCH FROM max(m.ts) - min(m.ts)) AS duration,
        avg(m.users) AS users_avg, max(m.users) AS users_max
    FROM public.meeting_stats AS m
    WHERE m.ts >= $1 AND m.ts < $2
    GROUP BY m.tenant_fk, m.uuid
)
SELECT
    t.name, sum(m.users_avg * m.duration) / 60, avg(m.duration) / 60, avg(m.users_avg),
    max(m.users_max), count(*) FILTER (WHERE m.users_max > 100), count(*)
FROM meeting AS m
INNER JOIN meter.tenant AS t ON m.tenant_fk = t.id
GROUP BY t.name
"""
# Question: query. Except the first, these are the most frequent queries of a tenant's dashboards.
_OUR_QUERIES = {
    "report of a month, all tenants": "SELECT * FROM meter.tenant_report($1, $2)",
    "a month by day, all tenants": "SELECT * FROM meter.tenant_usage($1, $2, 'day')",
    "a month by room": "SELECT * FROM meter.usage_by($1, $2, 'room')",
    "who was above a contract": "SELECT * FROM meter.over_limit($1, $2)",
}


async def _median_ms(
    connection: asyncpg.Connection, query: str, period: Sequence[datetime], repeats: int
) -> float:
    took = []
    for _ in range(repeats):
        begun = time.perf_counter()
        await connection.fetch(query, *period)
        took.append((time.perf_counter() - begun) * 1000)
    return round(statistics.median(took), 1)


async def _month(connection: asyncpg.Connection, history: History) -> tuple[datetime, datetime]:
    """Return the last 30 complete billing days, or fewer if there are fewer."""
    row = await connection.fetchrow(
        """
        SELECT
            u.until,
            meter.billing_trunc('day', u.until - interval '29 days 12 hours'),
            meter.billing_trunc('day', $1::timestamptz + interval '1 day')
        FROM (SELECT meter.billing_trunc('day', $2::timestamptz) AS until) AS u
        """,
        history.begin,
        history.end,
    )
    assert row is not None
    until, since, first = row
    # If there is no complete day, use the part of a day that exists.
    return max(since, first if first < until else history.begin), until


async def storage(connection: asyncpg.Connection) -> list[dict[str, Any]]:
    """Return bytes per row of the largest tables, as rows and in columns, with indexes."""
    found = []
    for row in await connection.fetch(_BEFORE):
        name = row["name"]
        count = await connection.fetchval(_ROWS.format(table=name, time=_TIME[name]))
        found.append(
            {
                "table": name,
                "rows": count,
                "bytes_as_row": round(row["before_compression_total_bytes"] / count, 1),
                "bytes_in_columns": round(row["after_compression_total_bytes"] / count, 2),
            }
        )
    return found


async def measure(history: History, keep: str | None, repeats: int) -> dict[str, Any]:
    """Return the costs of one history: its storage, and the time of its queries."""
    async with past(history, keep) as (dsn, engine):
        connection = await asyncpg.connect(dsn)
        try:
            period = await _month(connection, history)
            result: dict[str, Any] = {
                "days": history.days,
                "engine": engine,
                "rows": dict(await rows(dsn)),
                "database_mib": round(
                    await connection.fetchval("SELECT pg_database_size(current_database())") / 2**20
                ),
                "storage": await storage(connection),
                "queries_ms": {
                    name: await _median_ms(connection, query, period, repeats)
                    for name, query in _OUR_QUERIES.items()
                },
            }
        finally:
            await connection.close()
    return result


async def beside(history: History, keep: str | None, repeats: int) -> dict[str, Any]:
    """Return the costs of `meeting_stats` with the same data."""
    async with past(history, keep) as (dsn, _):
        connection = await asyncpg.connect(dsn)
        try:
            period = await _month(connection, history)
            await connection.execute("DROP TABLE IF EXISTS public.meeting_stats")
            for statement in _MEETING_STATS.split(";"):
                await connection.execute(statement)
            count = await connection.fetchval("SELECT count(*) FROM public.meeting_stats")
            size = await connection.fetchval(
                "SELECT pg_total_relation_size('public.meeting_stats')"
            )
            return {
                "rows": count,
                "bytes_a_row": round(size / count, 1),
                "report_ms": await _median_ms(connection, _THEIR_REPORT, period, repeats),
            }
        finally:
            await connection.execute("DROP TABLE IF EXISTS public.meeting_stats")
            await connection.close()


async def main(arguments: argparse.Namespace) -> int:
    """Measure each length of history, print a table, and write all figures as JSON."""
    end = datetime.now(UTC).replace(second=0, microsecond=0)
    found: dict[str, Any] = {"history": []}
    for days in arguments.days:
        made = History(end, days, arguments.servers, arguments.sessions)
        keep = f"{arguments.keep}_{days}" if arguments.keep else None
        one = await measure(made, keep, arguments.repeats)
        found["history"].append(one)
        print(f"{days} days: {one['rows']}, {one['database_mib']} MiB, {one['engine']}")
        for table in one["storage"]:
            print(
                f"  {table['table']:>8}: {table['bytes_as_row']} bytes as row, "
                f"{table['bytes_in_columns']} in columns"
            )
        for name, took_ms in one["queries_ms"].items():
            print(f"  {took_ms:8.1f} ms  {name}")
        if days == arguments.beside:
            theirs = found["meeting_stats"] = await beside(made, keep, arguments.repeats)
            print(
                f"  meeting_stats: {theirs['rows']} rows of {theirs['bytes_a_row']} bytes, "
                f"its report {theirs['report_ms']} ms"
            )
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, nargs="+", default=[1, 7, 30])
    parser.add_argument("--servers", type=int, default=6)
    parser.add_argument("--sessions", type=float, default=25.0, help="mean concurrent number")
    parser.add_argument("--beside", type=int, default=30, help="days that meeting_stats has too")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--keep", help="keep the databases under this name, and reuse them")
    parser.add_argument("--out", type=Path, help="write all figures to this file, as JSON")
    sys.exit(asyncio.run(main(parser.parse_args())))
