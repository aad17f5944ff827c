"""Fixtures of all tests: a fresh, migrated database each, on whichever engine there is.

`BBBMETER_TEST_DSN` if set, else a container where a Docker engine answers, else the embedded
engine. All three run the same tests.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import asyncpg
import hypothesis
import pytest
import structlog

from collector.database.engine import EmbeddedEngine
from collector.settings import Settings
from tests.support.database import (
    IMAGE,
    docker_answers,
    empty_database,
    make_past,
    migrate_unscheduled,
)
from tests.support.feed import Feed, MakeFeed
from tests.support.history import History
from tests.support.settings import KEEP_ALL, make_settings

# No test fails on a clock: machines that run tests are often busy.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _quiet_log() -> Iterator[None]:
    """Log nowhere, unless a test captures it."""

    def drop(*_: object) -> str:
        raise structlog.DropEvent

    structlog.configure(processors=[drop], cache_logger_on_first_use=False)
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def _server_dsn() -> Iterator[str | None]:
    """The DSN of a PostgreSQL server with TimescaleDB where tests may make databases, or None."""
    if dsn := os.environ.get("BBBMETER_TEST_DSN"):
        yield dsn
    elif docker_answers():
        from testcontainers.postgres import PostgresContainer  # noqa: PLC0415 - only with Docker

        with PostgresContainer(IMAGE, driver=None) as container:
            yield container.get_connection_url()
    else:
        yield None


@pytest.fixture(scope="session")
def _embedded_dsn(
    _server_dsn: str | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str | None]:
    """The DSN of an embedded engine of this test process, or None where there is a server."""
    if _server_dsn is not None:
        yield None
        return
    # The engine's guard needs a loop that lives as long as the engine: one of its own.
    with asyncio.Runner() as runner:
        engine = EmbeddedEngine(tmp_path_factory.mktemp("engine"))
        runner.run(engine.start())
        try:
            yield engine.dsn
        finally:
            runner.run(engine.stop())


@pytest.fixture
async def empty_dsn(_server_dsn: str | None, _embedded_dsn: str | None) -> AsyncIterator[str]:
    """The DSN of a database without our schema."""
    async with empty_database(_server_dsn, _embedded_dsn) as dsn:
        yield dsn


@pytest.fixture
async def dsn(empty_dsn: str) -> str:
    """The DSN of a fresh, migrated database whose policies do not run by themselves."""
    connection = await asyncpg.connect(empty_dsn)
    await migrate_unscheduled(connection, make_settings())
    await connection.close()
    return empty_dsn


@pytest.fixture(scope="module")
def past(_server_dsn: str | None, _embedded_dsn: str | None) -> Iterator[str]:
    """The DSN of a database with two weeks of a made-up fleet, up to now; for reading only.

    Not beside `dsn` in one module: the embedded engine has one database.
    """
    end = datetime.now(UTC).replace(second=0, microsecond=0)
    made = History(end, days=15, servers=4, sessions=2, interval_s=60)
    database = empty_database(_server_dsn, _embedded_dsn)
    with asyncio.Runner() as runner:
        dsn = runner.run(database.__aenter__())
        try:
            runner.run(make_past(dsn, made))
            yield dsn
        finally:
            runner.run(database.__aexit__(None, None, None))


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[asyncpg.Pool]:
    """A pool on a fresh, migrated database."""
    async with asyncpg.create_pool(dsn, min_size=1, max_size=2) as pool:
        yield pool


@pytest.fixture
async def make_feed(empty_dsn: str) -> AsyncIterator[MakeFeed]:
    """A function that migrates the database to its settings and returns a feed into it.

    Policies are there, but do not run by themselves.
    """
    async with asyncpg.create_pool(empty_dsn, min_size=1, max_size=3) as pool:

        async def make(settings: Settings) -> Feed:
            async with pool.acquire() as connection:
                await migrate_unscheduled(connection, settings)
            return Feed(pool, settings.poll_interval_s)

        yield make


@pytest.fixture
async def feed(make_feed: MakeFeed) -> Feed:
    """A feed into a fresh database that keeps all data; days are days in Berlin."""
    return await make_feed(make_settings(retention=KEEP_ALL))
