"""Clients of an embedded engine, and programs that use one in separate processes."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg

from collector.database.engine import EmbeddedEngine

PATIENCE_S = 60.0  # ends a test that hangs

# Each client waits until all others are connected, so that they really work concurrently.
CLIENT = """
import asyncio, os, signal, sys
import asyncpg

async def main(dsn, name, transactions, cache, last_act):
    async with asyncpg.create_pool(
        dsn, min_size=3, max_size=3, statement_cache_size=int(cache)
    ) as pool:
        async def work(worker):
            for n in range(int(transactions)):
                async with pool.acquire() as connection:
                    idle = await connection.prepare("SELECT $1::text")  # parsed, not yet executed
                    async with connection.transaction():
                        mark = f"{name}-{worker}-{n}"
                        await connection.execute("INSERT INTO public.mark VALUES ($1)", mark)
                        seen = await connection.fetchval(
                            "SELECT count(*) FROM public.mark WHERE name = $1", mark
                        )
                        assert seen == 1, seen
                    assert await idle.fetchval(mark) == mark
        print("ready", flush=True)
        sys.stdin.readline()
        await asyncio.gather(*(work(worker) for worker in range(3)))
        if last_act == "die":
            connection = await pool.acquire()
            await connection.execute("BEGIN; INSERT INTO public.mark VALUES ('lost')")
            os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(*sys.argv[1:]))
"""

WRITER = """
import asyncio, sys
import asyncpg

async def main(dsn):
    connection = await asyncpg.connect(dsn)
    n = 0
    while True:
        rows = list(range(n, n + 50))
        await connection.execute(
            "INSERT INTO public.written SELECT * FROM unnest($1::bigint[])", rows
        )
        n += 50
        print(n, flush=True)

asyncio.run(main(sys.argv[1]))
"""

HOST = """
import asyncio, sys
import structlog
from collector.database.engine import EmbeddedEngine

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

async def main(data_dir):
    async with EmbeddedEngine(data_dir) as engine:
        print(engine.pid, engine.dsn, flush=True)
        await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main(sys.argv[1]))
"""


@contextlib.asynccontextmanager
async def connect(engine: EmbeddedEngine, **options: str) -> AsyncIterator[asyncpg.Connection]:
    """Yield a connection that is closed at the end, also if the test fails."""
    connection = await asyncpg.connect(engine.dsn, server_settings=options, timeout=PATIENCE_S)
    try:
        yield connection
    finally:
        connection.terminate()


async def python(script: str, *arguments: str) -> asyncio.subprocess.Process:
    """Start another Python process with pipes to it."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        script,
        *arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


async def line(process: asyncio.subprocess.Process) -> str:
    """Return the next line that a process prints."""
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        return (await process.stdout.readline()).decode().strip()


async def reconnect(engine: EmbeddedEngine) -> asyncpg.Connection:
    """Return a connection as soon as the engine answers again."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                return await asyncpg.connect(engine.dsn)
            await asyncio.sleep(0.1)


def started_it(engine: EmbeddedEngine) -> bool:
    """Return whether this object started the server, so that `stop` ends it; else it joined one."""
    return engine._process is not None


def lives(pid: int) -> bool:
    """Return whether there is such a process; a zombie does not count."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return not stat.rpartition(") ")[2].startswith("Z")


async def psql_inserts(dsn: str, count: int) -> None:
    """Insert `count` marks, each with a separate psql."""
    for n in range(count):
        process = await asyncio.create_subprocess_exec(
            "psql",
            dsn,
            *("-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", "BEGIN"),
            *("-c", f"INSERT INTO public.mark VALUES ('psql-{n}')", "-c", "COMMIT"),  # noqa: S608
        )
        assert await process.wait() == 0
