"""Databases for benchmarks and previews: empty, or with a history stored as in production."""

import logging
import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import structlog

from collector.database.engine import EmbeddedEngine
from tests.support.database import migrate_unscheduled
from tests.support.history import History, fill
from tests.support.settings import PAST_RETENTION, make_settings

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))

# Run the columnstore policies only: retention would drop the history.
_COMPRESS = """
SELECT job_id FROM timescaledb_information.jobs
WHERE proc_name = 'policy_compression' ORDER BY job_id
"""


@asynccontextmanager
async def empty(keep: str | None = None) -> AsyncIterator[tuple[str, str]]:
    """Create an empty database; yield its DSN and the engine's name.

    It is a new database on the server of BBBMETER_TEST_DSN, else an embedded engine. With `keep`,
    the database on the server has this name, is not deleted, and is reused the next time.
    """
    server = os.environ.get("BBBMETER_TEST_DSN")
    if server is None:
        with tempfile.TemporaryDirectory(prefix="bbbmeter-bench-") as folder:
            async with EmbeddedEngine(folder) as engine:
                yield engine.dsn, "embedded"
        return
    name = keep or f"bench_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(server)
    try:
        if not await admin.fetchval("SELECT count(*) FROM pg_database WHERE datname = $1", name):
            await admin.execute(f'CREATE DATABASE "{name}"')
        yield urlunsplit(urlsplit(server)._replace(path=f"/{name}")), "native"
    finally:
        if keep is None:
            await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        await admin.close()


@asynccontextmanager
async def past(history: History, keep: str | None = None) -> AsyncIterator[tuple[str, str]]:
    """Yield a database as `empty` does, with `history` in it; it is written if missing."""
    async with empty(keep) as (dsn, engine):
        connection = await asyncpg.connect(dsn)
        made = await connection.fetchval("SELECT to_regnamespace('meter') IS NOT NULL")
        await connection.close()
        if not made:
            await _make(dsn, history)
        yield dsn, engine


async def rows(dsn: str) -> Mapping[str, int]:
    """Return the number of rows of the largest tables."""
    connection = await asyncpg.connect(dsn)
    try:
        return {
            table: await connection.fetchval(f"SELECT count(*) FROM meter.{table}")  # noqa: S608
            for table in ("server", "session", "poll", "sample")
        }
    finally:
        await connection.close()


async def _make(dsn: str, history: History) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await migrate_unscheduled(connection, make_settings(retention=PAST_RETENTION))
        await fill(connection, history)
    finally:
        await connection.close()
    # Settings that the migration gave the role apply only to new connections.
    connection = await asyncpg.connect(dsn)
    try:
        for job in await connection.fetch(_COMPRESS):
            await connection.execute(f"CALL public.run_job({job['job_id']})")
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()
