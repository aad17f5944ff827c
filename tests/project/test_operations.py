"""The commands of docs/operations.md, run from the page: backup and restore, and the move."""

import asyncio
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import asyncpg
import pytest

from collector.database.upkeep import settle, update_sessions
from collector.reports.usage import Request, fetch_report
from collector.rollups import ROLLUPS
from collector.settings import RetentionSettings
from tests.support.feed import Feed, Run
from tests.support.repository import DOCS

PAGE = (DOCS / "operations.md").read_text(encoding="utf-8")
TABLES = (
    *(
        "tenant",
        "server",
        "server_due",
        "server_tenant",
        "room",
        "session",
        "poll",
        "sample",
        "collector",
    ),
    *("contract", *ROLLUPS),
)
HOUR, DAY, TICK = timedelta(hours=1), timedelta(days=1), timedelta(seconds=30)
# The clocks change in Berlin on the second day.
DAYS = [datetime(2026, 3, day, 9, tzinfo=UTC) for day in (28, 29, 30)]
END = datetime(2026, 4, 1, tzinfo=UTC)
PATIENCE_S = 300.0  # only so that a test that hangs ends


def commands(heading: str) -> str:
    """Return the shell commands that stand under `heading`."""
    section = PAGE.partition(f"# {heading}\n")[2].partition("\n#")[0]
    (block,) = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return str(block)


async def shell(script: str, folder: Path, **variables: str) -> str:
    """Run `script` in `folder` to its good end, with this project's `bbbmeter`; return output."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("BBBMETER_", "PG"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{ours['PATH']}"
    process = await asyncio.create_subprocess_exec(
        *("sh", "-eu", "-c", script),
        cwd=folder,
        env=ours | {"PATH": path} | variables,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, out.decode()
    return out.decode()


@pytest.fixture
async def filled(feed: Feed) -> Feed:
    """Three days of two servers with late data and breakouts, in columns; all policies have run."""
    for day in DAYS:
        await feed.due(day, bbb1=None, bbb2="law")
        runs = [
            Run("bbb1", "arts", "a", day, day + HOUR, 5, voice=2, video=1),
            Run("bbb1", "arts", "b", day + 9 * TICK, day + HOUR, 2, breakout=True),
            Run("bbb2", "law", "c", day + 20 * TICK, day + HOUR, 7, dialins=2),
        ]
        ticks = list(feed.ticks(day, day + HOUR))
        await feed.play(["bbb1", "bbb2"], [t for t in ticks if t.minute < 40], runs)
        late = feed.batch(["bbb1", "bbb2"], [t for t in ticks if t.minute >= 40], runs)
        await feed.writer.write(late, late=True)
        await feed.due(day + HOUR)
        await feed.pool.execute(
            "INSERT INTO meter.collector (id, host, since, until, safe_until) "
            "VALUES ('one', 'h', $1, $2, $2)",
            day - HOUR,
            day + 2 * HOUR,
        )
    await settle(feed.pool, timedelta(0))
    await update_sessions(feed.pool, close_after_s=120)
    await feed.refresh()
    await feed.columnize()
    return feed


async def state(pool: asyncpg.Pool) -> dict[str, Any]:
    """Return what two equal databases have in common: the report, and each table's rows."""
    found: dict[str, Any] = {}
    async with pool.acquire() as connection:
        rows = await fetch_report(connection, Request(DAYS[0] - DAY, END, by="day"))
        found["report"] = [dict(row) for row in rows]
        for table in TABLES:
            found[table] = await connection.fetchval(
                "SELECT jsonb_agg(to_jsonb(x) ORDER BY to_jsonb(x)::text) "  # noqa: S608
                f"FROM meter.{table} AS x"
            )
    return found


def write_settings(path: Path, dsn: str) -> None:
    """Write settings such as the filled database was made with."""
    kept = "\n".join(f"{table} = 0" for table in RetentionSettings.model_fields)
    path.write_text(
        f'database = "{dsn}"\nbilling_timezone = "Europe/Berlin"\n[retention]\n{kept}\n',
        encoding="utf-8",
    )


async def go_on(pool: asyncpg.Pool) -> None:
    """Store another hour as a collector would: with a new server, tenant and room, and old ones."""
    # The policies are on. They and a manual refresh exclude each other.
    await pool.execute(
        "SELECT CASE WHEN current_setting('timescaledb.max_background_workers', TRUE) <> '' "
        "THEN _timescaledb_functions.stop_background_workers() END"
    )
    restored = Feed(pool)
    begin = DAYS[-1] + DAY
    await restored.due(begin, bbb1=None, bbb3=None)
    runs = [
        Run("bbb1", "arts", "a", begin, begin + HOUR),
        Run("bbb3", "new", "n", begin, begin + HOUR),
    ]
    stored = await restored.play(["bbb1", "bbb3"], restored.ticks(begin, begin + HOUR), runs)
    assert (len(stored.polls), stored.samples) == (240, 240)
    assert len(await pool.fetch("SELECT DISTINCT tenant_id FROM meter.sample")) == 3
    await restored.refresh()
    minutes = await pool.fetchval(
        "SELECT sum(participant_seconds) / 60 FROM meter.usage_1d WHERE bucket >= $1",
        begin.replace(hour=0) - 2 * HOUR,
    )
    assert minutes == 120


@asynccontextmanager
async def pool_of(dsn: str) -> AsyncIterator[asyncpg.Pool]:
    """Yield a pool on the database of `dsn`."""
    async with asyncpg.create_pool(dsn, min_size=1, max_size=2) as pool:
        yield pool


@pytest.fixture
async def server_environment(dsn: str, _embedded_dsn: str | None) -> dict[str, str]:
    """The variables by which PostgreSQL's own tools reach the test's server."""
    if _embedded_dsn is not None:
        pytest.skip("backup and restore are of a server's database, not the embedded engine's")
    connection = await asyncpg.connect(dsn)
    major = connection.get_server_version().major
    await connection.close()
    for tool in ("pg_dump", "pg_dumpall", "pg_restore", "createdb", "psql"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not on the PATH")
    process = await asyncio.create_subprocess_exec(
        "pg_dump", "--version", stdout=asyncio.subprocess.PIPE
    )
    version = re.search(rb"(\d+)", (await process.communicate())[0])
    if version is None or int(version[1]) < major:
        pytest.skip(f"pg_dump on the PATH is older than the server, which has version {major}")
    url = urlsplit(dsn)
    given = {
        "PGHOST": url.hostname,
        "PGPORT": str(url.port or 5432),
        "PGUSER": unquote(url.username or ""),
        "PGPASSWORD": unquote(url.password or ""),
    }
    return {key: value for key, value in given.items() if value}


async def test_a_backup_restores_everything(
    filled: Feed, dsn: str, tmp_path: Path, server_environment: dict[str, str]
) -> None:
    """The restored database is equal and sound, its policies are on, and a collector goes on."""
    before = await state(filled.pool)
    name = await filled.pool.fetchval("SELECT current_database()")
    copy_dsn = urlunsplit(urlsplit(dsn)._replace(path=f"/{name}_restored"))
    write_settings(tmp_path / "bbbmeter.toml", copy_dsn)
    variables = server_environment | {
        "BBBMETER_CONFIG": "bbbmeter.toml",
        "OWNER": await filled.pool.fetchval("SELECT current_user"),
    }
    await shell(commands("Backup"), tmp_path, PGDATABASE=name, **variables)
    roles = (tmp_path / "roles.sql").read_text()
    assert "CREATE ROLE bbbmeter_reader;" in roles
    assert "CREATE ROLE bbbmeter_writer;" in roles
    try:
        await shell(commands("Restore"), tmp_path, PGDATABASE=f"{name}_restored", **variables)
        async with pool_of(copy_dsn) as pool:
            assert await state(pool) == before
            columns = "SELECT count(*) FROM timescaledb_information.chunks WHERE is_compressed"
            assert await pool.fetchval(columns) == await filled.pool.fetchval(columns) > 0
            assert await pool.fetchval("SHOW timescaledb.restoring") == "off"
            # `bbbmeter migrate` set them again; the source's are off for the test.
            assert await pool.fetchval(
                "SELECT bool_and(scheduled) AND count(*) > 7 "
                "FROM timescaledb_information.jobs WHERE job_id >= 1000"
            )
            await go_on(pool)
    finally:
        await filled.pool.execute(f"DROP DATABASE IF EXISTS {name}_restored WITH (FORCE)")


async def test_tables_can_be_copied_to_another_engine(
    filled: Feed, dsn: str, tmp_path: Path
) -> None:
    """What is copied gives the same rollups and reports, and a collector goes on."""
    if shutil.which("psql") is None:
        pytest.skip("psql is not on the PATH")
    before = await state(filled.pool)
    for name in ("embedded", "server"):
        write_settings(tmp_path / f"{name}.toml", dsn)
    # Between the two halves, the one database of the test becomes the other one.
    empty = "echo 'DROP SCHEMA meter CASCADE;' | bbbmeter psql --config server.toml\n"
    script = commands("From the embedded engine to a server")
    await shell(script.replace("bbbmeter migrate", f"{empty}bbbmeter migrate", 1), tmp_path)
    async with pool_of(dsn) as pool:
        assert await state(pool) == before
        await go_on(pool)
