"""Fixtures of several integration tests: a schema, a fleet, a client, a command, data to read."""

import shutil
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr

from collector.bbb import BbbClient, BbbClients
from collector.database import migrate as migration
from collector.model import Answer
from collector.settings import Settings
from collector.simulator import Fleet, FleetPlan
from collector.simulator.command import settings_toml
from collector.simulator.plan import sim_tenants
from collector.simulator.server import SimulatedFleet
from tests.support.daemons import INTERVAL_S, SECRET
from tests.support.fake_servers import client_of
from tests.support.feed import Feed
from tests.support.roles import House, furnish
from tests.support.settings import KEEP_ALL, make_settings
from tests.support.shell import Shell, meter_an_hour
from tests.support.verify import three_days


@pytest.fixture
async def connection(empty_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database without our schema."""
    connection = await asyncpg.connect(empty_dsn)
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
def schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the schema's folder that migrations are taken from, to be changed by the test."""
    copy = tmp_path / "schema"
    shutil.copytree(migration.schema_dir(), copy)
    monkeypatch.setattr(migration, "schema_dir", lambda: copy)
    return copy


@pytest.fixture
def server_count() -> int:
    """How many servers `fleet` has."""
    return 3


@pytest.fixture
async def fleet(server_count: int) -> AsyncIterator[SimulatedFleet]:
    """Simulated servers with lessons under way."""
    start = datetime.now(UTC)
    plan = FleetPlan(
        seed=5,
        start=start,
        end=start + timedelta(hours=1),
        tenants=sim_tenants(3),
        servers=server_count,
        concurrent_sessions=4 * server_count,
    )
    async with SimulatedFleet(Fleet(plan), secret=SecretStr(SECRET)) as simulated:
        yield simulated


@pytest.fixture
def write_config(tmp_path: Path, dsn: str, fleet: SimulatedFleet) -> Callable[..., Path]:
    """A function that writes settings for the fleet, with more lines if wished."""

    def write(more: str = "", database: str = dsn) -> Path:
        path = tmp_path / "bbbmeter.toml"
        head: dict[str, str | int] = {"database": database, "poll_interval_s": INTERVAL_S}
        text = settings_toml(fleet, {"secret": SECRET}, head)
        path.write_text(f"{text}\n[http]\nport = 0\n{more}", encoding="utf-8")
        return path

    return write


@pytest.fixture
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the machine's proxies out of the tests."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


# -- asking a server ----------------------------------------------------------------------------


@pytest.fixture
async def make_client() -> AsyncIterator[Callable[..., BbbClient[Answer]]]:
    """Make clients that share a session."""
    async with BbbClients() as clients:
        yield partial(client_of, clients)


# -- the command line ---------------------------------------------------------------------------


@pytest.fixture
def bbbmeter(tmp_path: Path) -> Shell:
    """The command, in an empty folder."""
    return Shell(tmp_path)


@pytest.fixture
async def metered(bbbmeter: Shell, feed: Feed, empty_dsn: str) -> Shell:
    """The command, with settings for an hour of two servers and two tenants."""
    await meter_an_hour(feed)
    bbbmeter.configure(empty_dsn)
    return bbbmeter


# -- roles of the database ----------------------------------------------------------------------


@pytest.fixture
async def logins(feed: Feed) -> AsyncIterator[Iterator[str]]:
    """Names for roles that no other test has; what was made of them is dropped at the end."""
    names: list[str] = []

    def fresh() -> Iterator[str]:
        while True:
            names.append(f"t_{uuid.uuid4().hex}")
            yield names[-1]

    yield fresh()
    for name in reversed(names):
        await feed.pool.execute(
            f"DO $$ BEGIN IF to_regrole('{name}') IS NOT NULL THEN "
            f"DROP OWNED BY {name}; DROP ROLE {name}; END IF; END $$"
        )


@pytest.fixture
async def house(
    feed: Feed, empty_dsn: str, _embedded_dsn: str | None, logins: Iterator[str]
) -> House:
    """An hour of two tenants on a shared server and on one of the second, in rows and columns."""
    return await furnish(feed, empty_dsn, logins, native=_embedded_dsn is None)


# -- verify -------------------------------------------------------------------------------------


@pytest.fixture
def settings() -> Settings:
    """Settings that keep everything for ever."""
    return make_settings(retention=KEEP_ALL)


@pytest.fixture
async def whole(feed: Feed) -> Feed:
    """Three days of two servers, with failures and filled gaps, and all that follows from them."""
    await three_days(feed)
    return feed
