"""`bbbmeter psql`: psql on the configured database, or a plain prompt where psql is missing."""

import asyncio
import shutil
import sys

import asyncpg
from rich.console import Console
from rich.table import Table

from collector.database import Connection, open_pool
from collector.engine import EmbeddedEngine, parse_embedded


async def open_console(database: str) -> int:
    """Run psql on `database`, or the plain prompt; return the exit code."""
    psql = shutil.which("psql")
    if psql is None:
        async with open_pool(database, max_size=1) as pool, pool.acquire() as connection:
            return await _prompt(connection)
    data_dir = parse_embedded(database)
    if data_dir is None:
        return await _run(psql, database)
    async with EmbeddedEngine(data_dir) as engine:
        return await _run(psql, engine.dsn)


async def _run(psql: str, dsn: str) -> int:
    process = await asyncio.create_subprocess_exec(psql, "-X", dsn)
    return await process.wait()


async def _prompt(connection: Connection) -> int:
    """Read statements that end in `;` from standard input, and print what they return."""
    console = Console()
    if sys.stdin.isatty():
        console.print("psql is not installed; this is a plain prompt. End a statement with ;")
    lines: list[str] = []
    while line := await asyncio.to_thread(_read_line, "meter> " if not lines else "    -> "):
        if not lines and line.strip() in {"\\q", "quit", "exit"}:
            break
        lines.append(line)
        if not line.rstrip().endswith(";"):
            continue
        statement, lines = "".join(lines), []
        try:
            records = await connection.fetch(statement)
        except asyncpg.PostgresError as error:
            console.print(f"{error.sqlstate}: {error}", style="red", markup=False)
            continue
        table = Table(*(records[0].keys() if records else ()))
        for record in records:
            table.add_row(*("" if value is None else str(value) for value in record.values()))
        console.print(table if records else "(no rows)")
    return 0


def _read_line(prompt: str) -> str:
    """Return a line with its end, "" at the end of the input."""
    if sys.stdin.isatty():
        try:
            return input(prompt) + "\n"
        except EOFError:
            return ""
    return sys.stdin.readline()
