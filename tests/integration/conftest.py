"""Fixtures of several integration tests: a schema to migrate, a simulated fleet to meter."""

import shutil
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr

from collector.database import migrate as migration
from collector.simulator import Fleet, FleetPlan
from collector.simulator.command import settings_toml
from collector.simulator.plan import sim_tenants
from collector.simulator.server import SimulatedFleet
from tests.support.daemons import INTERVAL_S, SECRET


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
