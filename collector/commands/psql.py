"""`bbbmeter psql`: open psql on the database, or a plain prompt if psql is not installed."""

import asyncio
import os
import shutil
import sys
from collections.abc import Iterator
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import asyncpg
from rich.console import Console
from rich.table import Table
from rich.text import Text

from collector.commands.options import Config, load
from collector.database import Connection, open_pool, translated
from collector.database.engine import EmbeddedEngine, parse_embedded


def psql(config: Config = None) -> None:
    """Open psql on the database (without psql: a plain prompt)."""
    settings = load(config)
    sys.exit(asyncio.run(open_console(settings.database.get_secret_value())))


async def open_console(database: str) -> int:
    """Run psql on `database`, or the plain prompt; return the exit code."""
    program = shutil.which("psql")
    if program is None:
        async with open_pool(database, max_size=1) as pool, pool.acquire() as connection:
            return await _prompt(connection)
    data_dir = parse_embedded(database)
    if data_dir is None:
        return await _run(program, database)
    async with EmbeddedEngine(data_dir) as engine:
        return await _run(program, engine.dsn)


async def _run(psql: str, dsn: str) -> int:
    """Run psql. Pass the password by the environment, as all users can see its arguments."""
    bare, password = without_password(dsn)
    env = {**os.environ, "PGPASSWORD": password} if password else None
    process = await asyncio.create_subprocess_exec(psql, "-X", bare, env=env)
    return await process.wait()


def without_password(dsn: str) -> tuple[str, str | None]:
    """Return `dsn` without passwords, and the database's password, or None if it has none.

    The password can be in the login or in the query. The password of a client certificate's key
    (`sslpassword`) is removed and not returned: psql asks for it.
    """
    url = urlsplit(dsn)
    login, _, hosts = url.netloc.rpartition("@")
    user, _, password = login.partition(":")
    options = parse_qsl(url.query, keep_blank_values=True)
    kept = [(key, value) for key, value in options if key not in {"password", "sslpassword"}]
    bare = f"{url.scheme}://{user}{'@' if user else ''}{hosts}{url.path}"
    if kept:
        bare += "?" + urlencode(kept, quote_via=quote)
    return bare, unquote(password) or dict(options).get("password")


async def _prompt(connection: Connection) -> int:
    """Read statements from standard input, and print their results. Return exit code 0."""
    console = Console()
    if sys.stdin.isatty():
        console.print(
            "psql is not installed; this is a plain prompt. End each statement with a semicolon. "
            "To leave, type quit."
        )
    statements = _statements()
    while statement := await asyncio.to_thread(next, statements, ""):
        with translated("psql"):
            await _execute(connection, statement, console)
    return 0


async def _execute(connection: Connection, statement: str, console: Console) -> None:
    try:
        records = await connection.fetch(statement)
    except asyncpg.PostgresError as error:
        console.print(Text(f"{error.sqlstate}: {error}", style="red"))
        return
    if not records:
        console.print("(no rows)")
        return
    # Text, because stored values come from outside, and rich would read `[` as markup.
    table = Table()
    for name in records[0].keys():  # noqa: SIM118 - a record iterates over its values
        table.add_column(Text(name), overflow="fold")
    for record in records:
        table.add_row(*(Text("" if v is None else str(v)) for v in record.values()))
    console.print(table)


def _statements() -> Iterator[str]:
    """Yield each statement that ends in `;`, and the rest of the input, if any, at its end."""
    lines: list[str] = []
    while line := _read_line("    -> " if lines else "meter> "):
        if not lines and line.strip() in {"\\q", "quit", "exit"}:
            return
        if lines or line.strip():
            lines.append(line)
        if line.rstrip().endswith(";"):
            yield "".join(lines)
            lines = []
    if lines:
        yield "".join(lines)


def _read_line(prompt: str) -> str:
    """Return a line with its line end, or "" at the end of the input."""
    if sys.stdin.isatty():
        try:
            return input(prompt) + "\n"
        except EOFError:
            return ""
    return sys.stdin.readline()
