"""Databases for tests: empty, migrated, or with a history."""

import gc
import uuid
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from collector.database import Connection
from collector.database.migrate import migrate
from collector.settings import Settings
from tests.support.history import History, fill
from tests.support.settings import PAST_RETENTION, make_settings

# The image for testcontainers, if there is a Docker engine.
IMAGE = "timescale/timescaledb:2.29.2-pg17"


def docker_answers() -> bool:
    """Return whether there is a Docker engine that can start a database."""
    import docker  # noqa: PLC0415 - slow to import

    with warnings.catch_warnings():
        # Without an engine, the client leaves its socket open, and Python would warn about it.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            docker.from_env(timeout=5).close()
        except docker.errors.DockerException:
            found = False
        else:
            found = True
        gc.collect()
    return found


@asynccontextmanager
async def empty_database(server_dsn: str | None, embedded_dsn: str | None) -> AsyncIterator[str]:
    """Yield the DSN of a database without the schema; on a server it is a new database."""
    if server_dsn is None:
        assert embedded_dsn is not None
        connection = await asyncpg.connect(embedded_dsn)
        await connection.execute("DROP SCHEMA IF EXISTS meter CASCADE")
        await connection.close()
        yield embedded_dsn
        return
    name = f"test_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(server_dsn)
    await admin.execute(f"CREATE DATABASE {name}")
    try:
        yield urlunsplit(urlsplit(server_dsn)._replace(path=f"/{name}"))
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


async def migrate_unscheduled(connection: Connection, settings: Settings) -> None:
    """Migrate a database and unschedule its policies: tests decide when each one runs."""
    # One transaction, so that no policy can run in between.
    async with connection.transaction():
        await migrate(connection, settings)
        await connection.execute(
            "SELECT public.alter_job(job_id, scheduled => FALSE) "
            "FROM timescaledb_information.jobs WHERE job_id >= 1000"
        )


async def make_past(dsn: str, history: History) -> None:
    """Migrate an empty database and write `history` into it, the samples in chunks of an hour."""
    connection = await asyncpg.connect(dsn)
    await migrate_unscheduled(connection, make_settings(retention=PAST_RETENTION))
    await fill(connection, history, hourly_chunks_since=history.begin)
    await connection.close()
