"""What the tests share: a fresh, migrated database each, on whichever engine there is.

`BBBMETER_TEST_DSN` if set, else a container where a Docker engine answers, else the embedded
engine. All three run the same tests.
"""

import asyncio
import gc
import os
import uuid
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import hypothesis
import pytest
import structlog
from pydantic import SecretStr

from collector.engine import EmbeddedEngine
from collector.migrate import migrate
from collector.settings import ServerSettings, Settings
from tests.support.history import History, fill

# No test fails on a clock: machines that run tests are often busy.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")

# What the past has is never dropped.
PAST_RETENTION = {"sample": 400, "poll": 400}
IMAGE = "timescale/timescaledb:2.29.2-pg17"


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
    elif _docker_answers():
        from testcontainers.postgres import PostgresContainer  # noqa: PLC0415 - only with Docker

        with PostgresContainer(IMAGE, driver=None) as container:
            yield container.get_connection_url()
    else:
        yield None


def _docker_answers() -> bool:
    import docker  # noqa: PLC0415 - slow to import

    with warnings.catch_warnings():
        # A client that finds no engine leaves its socket to the garbage collector, who would warn.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            docker.from_env(timeout=5).close()
        except docker.errors.DockerException:
            found = False
        else:
            found = True
        gc.collect()
    return found


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


@asynccontextmanager
async def _database(server_dsn: str | None, embedded_dsn: str | None) -> AsyncIterator[str]:
    """The DSN of a database without our schema: one of its own where there is a server."""
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


async def _migrate(dsn: str, settings: Settings) -> None:
    """Migrate a database; its policies will not run by themselves."""
    connection = await asyncpg.connect(dsn)
    # Tests say when a rollup is refreshed: in one transaction, so that no policy runs between.
    async with connection.transaction():
        await migrate(connection, settings)
        await connection.execute(
            "SELECT public.alter_job(job_id, scheduled => FALSE) "
            "FROM timescaledb_information.jobs WHERE job_id >= 1000"
        )
    await connection.close()


@pytest.fixture
async def empty_dsn(_server_dsn: str | None, _embedded_dsn: str | None) -> AsyncIterator[str]:
    """The DSN of a database without our schema."""
    async with _database(_server_dsn, _embedded_dsn) as dsn:
        yield dsn


@pytest.fixture
async def dsn(empty_dsn: str) -> str:
    """The DSN of a fresh, migrated database whose policies do not run by themselves."""
    await _migrate(empty_dsn, make_settings())
    return empty_dsn


@pytest.fixture(scope="module")
def past(_server_dsn: str | None, _embedded_dsn: str | None) -> Iterator[str]:
    """The DSN of a database with two weeks of a made-up fleet, up to now; for reading only.

    Not beside `dsn` in one module: the embedded engine has one database.
    """
    end = datetime.now(UTC).replace(second=0, microsecond=0)
    made = History(end, days=15, servers=4, sessions=2, interval_s=60)
    database = _database(_server_dsn, _embedded_dsn)
    with asyncio.Runner() as runner:
        dsn = runner.run(database.__aenter__())
        try:
            runner.run(_make_past(dsn, made))
            yield dsn
        finally:
            runner.run(database.__aexit__(None, None, None))


async def _make_past(dsn: str, made: History) -> None:
    await _migrate(dsn, make_settings(retention=PAST_RETENTION))
    connection = await asyncpg.connect(dsn)
    await fill(connection, made, hourly_chunks_since=made.begin)
    await connection.close()


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[asyncpg.Pool]:
    """A pool on a fresh, migrated database."""
    async with asyncpg.create_pool(dsn, min_size=1, max_size=2) as pool:
        yield pool


def make_settings(**changes: Any) -> Settings:  # noqa: ANN401 - any key of the settings
    """Return settings for tests: a day is a day in Berlin, one server `bbb1`."""
    values: dict[str, Any] = {
        "billing_timezone": "Europe/Berlin",
        "server": [make_server("bbb1")],
        **changes,
    }
    return Settings(**values)


def make_server(name: str, **changes: Any) -> ServerSettings:  # noqa: ANN401 - any key
    """Return a server's settings with an invented address and secret."""
    values: dict[str, Any] = {
        "name": name,
        "url": f"https://{name}.example.org/bigbluebutton/",
        "secret": SecretStr("an invented secret"),
        **changes,
    }
    return ServerSettings(**values)


@pytest.fixture(name="make_settings")
def _make_settings() -> Callable[..., Settings]:
    """The function `make_settings`."""
    return make_settings


@pytest.fixture(name="make_server")
def _make_server() -> Callable[..., ServerSettings]:
    """The function `make_server`."""
    return make_server


@pytest.fixture
def samples() -> Path:
    """The folder of the sample answers."""
    return Path(__file__).parent / "samples" / "getmeetings"
