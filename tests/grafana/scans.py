"""How many raw samples a query reads, by the chunks that it touches."""

from datetime import timedelta

import asyncpg

SCANS = """
SELECT
    c.chunk_name,
    c.range_end - c.range_start AS span,
    s.seq_scan + coalesce(s.idx_scan, 0) AS scans
FROM timescaledb_information.chunks AS c
INNER JOIN pg_stat_xact_all_tables AS s
    ON s.schemaname = c.chunk_schema AND s.relname = c.chunk_name
WHERE c.hypertable_name = 'sample'
"""


async def raw_read(reader: asyncpg.Connection, sql: str) -> timedelta:
    """Return how much time the chunks of samples span that a query reads."""
    async with reader.transaction():
        # The counts may begin before the transaction.
        before = {row["chunk_name"]: row["scans"] for row in await reader.fetch(SCANS)}
        await reader.fetch(sql)
        spans = [
            row["span"]
            for row in await reader.fetch(SCANS)
            if row["scans"] > before.get(row["chunk_name"], 0)
        ]
    return sum(spans, timedelta(0))
