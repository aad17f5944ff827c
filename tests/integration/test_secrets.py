"""Secrets and people: told to the real program, looked for in all that it writes."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote, urlsplit, urlunsplit

import aiohttp
import asyncpg
import pytest
from aiohttp import web
from pydantic import BaseModel, SecretStr

from collector.bbb.checksum import checksum
from collector.settings import Settings
from tests.support.lines import Line
from tests.support.settings import make_server
from tests.support.spies import PEOPLE, ROOM, Spies

PATIENCE_S = 90.0  # only so that a test that hangs ends
PASSWORD = "p@ss/word-of-the-database"
BY_KEY = 'sEcret"by\\key/+&=ü%41#'
BY_FILE = "sEcret-by-file $(id) 'x'"
BY_ENV = "sEcret-by-variable-5b1d"
BROKEN = "sEcret-in-a-broken-file"


@pytest.fixture
async def spies() -> AsyncIterator[Spies]:
    """The servers, listening."""
    spies = Spies()
    app = web.Application()
    app.router.add_get("/{server}/{rest:.*}", spies.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    spies.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield spies
    await runner.cleanup()


@dataclass
class House:
    """Where the program works, and all that it was told and must not tell."""

    folder: Path
    spies: Spies
    line: Line
    dsn: str
    said: list[str] = field(default_factory=list)

    @property
    def config(self) -> Path:
        """The settings."""
        return self.folder / "bbbmeter.toml"

    @property
    def marks(self) -> set[str]:
        """What must be nowhere, in each way of writing it that the program could use."""
        secrets = {BY_KEY, BY_FILE, BY_ENV, BROKEN, PASSWORD}
        written = {json.dumps(s)[1:-1] for s in secrets} | {repr(s)[1:-1] for s in secrets}
        sums = {
            checksum(call, "", secret, algorithm)
            for call in ("getMeetings", "")
            for secret in (BY_KEY, BY_FILE, BY_ENV)
            for algorithm in ("sha1", "sha256", "sha512")
        }
        return (
            secrets | written | {quote(s, safe="") for s in secrets} | set(PEOPLE)
            | {json.dumps(name)[1:-1] for name in PEOPLE} | sums | self.spies.checksums
        )  # fmt: skip

    def found_in(self, text: str) -> set[str]:
        """Return the marks that `text` holds."""
        return {mark for mark in self.marks if mark in text}

    def configure(self, more: str = "", *, database: str | None = None) -> str:
        """Write settings, and return what was written."""
        (self.folder / "secret").write_text(BY_FILE, encoding="utf-8")
        lines = [
            f'database = "{database or self.dsn}"',
            'poll_interval_s = 5\nlog_level = "debug"',
        ]
        keys = {
            "good": f"secret = {json.dumps(BY_KEY, ensure_ascii=False)}",
            "filed": 'secret_file = "secret"\nchecksum = "sha512"',
            "refusing": 'secret_env = "A_SECRET"\nchecksum = "sha1"',
            **dict.fromkeys(("away", "redirecting", "halved"), 'secret_env = "A_SECRET"'),
        }
        for name, key in keys.items():
            url = f"{self.spies.base}/{name}/"
            lines.append(f'[[server]]\nname = "{name}"\nurl = "{url}"\n{key}')
        lines.append("[http]\nport = 0")
        text = "\n".join([*lines, more])
        self.config.write_text(text, encoding="utf-8")
        return text

    async def start(self, *arguments: str, **variables: str) -> asyncio.subprocess.Process:
        """Start `bbbmeter` with `arguments`."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("BBBMETER_")}
        env |= {"A_SECRET": BY_ENV, "BBBMETER_SPOOL__DIRECTORY": str(self.folder / "spool")}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-X", "dev", "-m", "collector", *arguments),
            *("--config", str(self.config)),
            cwd=self.folder,
            env=env | variables,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

    async def run(self, *arguments: str, **variables: str) -> str:
        """Run `bbbmeter` to its end and return all that it said."""
        process = await self.start(*arguments, **variables)
        async with asyncio.timeout(PATIENCE_S):
            said, _ = await process.communicate()
        assert said, arguments
        return said.decode()


@pytest.fixture
async def house(tmp_path: Path, spies: Spies, dsn: str) -> AsyncIterator[House]:
    """The program's folder; its database is behind a line, with our password where any will do."""
    url = urlsplit(dsn)
    assert url.hostname
    line = Line(url.hostname, url.port or 5432)
    async with line.open():
        user = url.username or "postgres"
        password = url.password or quote(PASSWORD, safe="")
        netloc = f"{user}:{password}@127.0.0.1:{line.port}"
        yield House(tmp_path, spies, line, urlunsplit(url._replace(netloc=netloc)))


def processes_of(pid: int) -> Iterator[int]:
    """Yield the process and its descendants."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text(encoding="ascii").split():
            yield from processes_of(int(child))


async def every_row(dsn: str) -> str:
    """Return all rows of all tables that bbbmeter or TimescaleDB keep for it, as text."""
    connection = await asyncpg.connect(dsn)
    try:
        tables = await connection.fetch(
            "SELECT oid::regclass::text AS name FROM pg_class WHERE relkind = 'r' AND "
            "relnamespace::regnamespace::text ~ '^(meter|_timescaledb_.*|public)$'"
        )
        rows = [
            row[0]
            for table in tables
            for row in await connection.fetch(f"SELECT x::text FROM {table['name']} AS x")  # noqa: S608
        ]
        rows += [row[0] for row in await connection.fetch("SELECT query FROM pg_stat_activity")]
    finally:
        await connection.close()
    return "\n".join(row for row in rows if row)


class Life:
    """A collector at work, and its log."""

    def __init__(self, process: asyncio.subprocess.Process, dsn: str) -> None:
        """Read what `process` says."""
        self.process = process
        self.log = ""
        self._dsn = dsn
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.log += line.decode()

    async def until(self, event: str, count: int = 1) -> None:
        """Wait until it has logged `event`, so many times in all."""
        async with asyncio.timeout(PATIENCE_S):
            while self.log.count(event) < count:
                assert self.process.returncode is None, self.log
                await asyncio.sleep(0.1)

    async def until_polled(self, polls: int, condition: str) -> None:
        """Wait until the database has so many polls more."""
        query = f"SELECT count(*) FROM meter.poll WHERE {condition}"  # noqa: S608
        connection = await asyncpg.connect(self._dsn)
        try:
            wanted = await connection.fetchval(query) + polls
            async with asyncio.timeout(PATIENCE_S):
                while await connection.fetchval(query) < wanted:  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
        except TimeoutError as late:
            raise AssertionError(self.log[-5000:]) from late
        finally:
            await connection.close()

    def arguments(self) -> str:
        """Return the command lines of the collector and of all that it started."""
        pids = processes_of(self.process.pid)
        return "\n".join(Path(f"/proc/{pid}/cmdline").read_text("utf-8") for pid in pids)

    async def end(self, *, well: bool = True) -> None:
        """See that it ends, and well."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM if well else signal.SIGKILL)
        await asyncio.wait_for(self.process.wait(), PATIENCE_S)
        await self._reader
        assert not well or self.process.returncode == 0, self.log[-3000:]


@asynccontextmanager
async def living(house: House, dsn: str) -> AsyncIterator[Life]:
    """Run the collector; it is killed at the end if it still runs."""
    life = Life(await house.start("run", BBBMETER_LOG_FORMAT="json"), dsn)
    try:
        yield life
    finally:
        await life.end(well=False)


async def answers(port: str) -> str:
    """Return all that the collector's own port says."""
    said = ""
    async with aiohttp.ClientSession() as session:
        for path in ("/healthz", "/readyz", "/metrics", "/nowhere"):
            async with session.get(f"http://127.0.0.1:{port}{path}") as response:
                said += f"{response.headers} {await response.text()}"
    return said


def files_in(folder: Path) -> str:
    """Return what all files below `folder` hold."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return "\n".join(f"{file} {file.read_bytes().decode(errors='replace')}" for file in files)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no /proc")
async def test_a_collector_tells_nobody(house: House, dsn: str) -> None:
    """A whole life with failing servers, a lost database and a broken file: nothing gets out."""
    good = house.configure()
    async with living(house, dsn) as life:
        await life.until('"collecting"')
        port = re.search(r'"health_port": (\d+)', life.log)
        assert port is not None
        await life.until_polled(2, "ok")
        await life.until_polled(4, "NOT ok")

        broken = (f'\n[[server]]\nsecret = "{BROKEN}\n', f'\nsecret = "{BROKEN}"\n')
        for number, more in enumerate(broken, start=1):
            house.config.write_text(good + more, encoding="utf-8")
            life.process.send_signal(signal.SIGHUP)
            await life.until("settings_refused", number)
        house.config.write_text(good, encoding="utf-8")

        # The database goes while polls come in: what waits may be on the disk now.
        said = len(life.log)
        house.line.cut = True
        house.line.hang_up()
        await asyncio.sleep(12)
        assert len(life.log) > said, "it said nothing of the lost database"
        for text in (files_in(house.folder / "spool"), life.arguments(), await answers(port[1])):
            assert house.found_in(text) == set()
        house.line.cut = False
        await life.until_polled(2, "ok")
        await life.end()

    assert len(house.spies.checksums) >= 3
    assert house.found_in(life.log) == set()
    rows = await every_row(dsn)
    assert ROOM in rows, "what is stored must be found by this search"
    assert house.found_in(rows) == set()


async def test_no_command_tells(house: House, dsn: str) -> None:
    """`check`, `migrate` and `report` name no secret, whether they succeed or fail, at any."""
    house.configure()
    said = [await house.run(command) for command in ("check", "migrate", "report")]
    assert "wrong secret, or algorithm not allowed" in said[0]
    house.line.cut = True
    said += [await house.run(command) for command in ("check", "migrate", "report", "run")]
    # Not encoded: a part of it is taken for the host or the port.
    for password in (PASSWORD, f"{BROKEN}/x", f"{BROKEN}#x"):
        house.configure(database=f"postgresql://meter:{password}@127.0.0.1/x")
        said += [await house.run(command) for command in ("check", "report", "run")]
    house.configure(f'[[server]]\nname = "x"\nsecret = "{BROKEN}')
    said.append(await house.run("check"))
    house.configure(f'[[server]]\nname = "x"\nurl = "http://x/{BROKEN}?a"\nsecret = ["{BROKEN}"]')
    said.append(await house.run("check"))
    house.configure()
    servers = json.dumps([{"name": "x", "url": 3, "secret": BROKEN}])
    said.append(await house.run("check", BBBMETER_SERVER=servers))
    said.append(await house.run("check", BBBMETER_SERVER=servers[:-2]))
    said.append(await house.run("check", BBBMETER_DATABASE=f"mysql://{BROKEN}"))
    for text in said:
        assert house.found_in(text) == set(), text
        assert "Traceback" not in text
    assert house.found_in(await every_row(dsn)) == set()


async def test_psql_gets_the_password_apart(house: House) -> None:
    """Also where it stands among the DSN's options, it is in no argument of psql."""
    program = house.folder / "psql"
    program.write_text('#!/bin/sh\necho "$@"\ntest -n "$PGPASSWORD" && echo apart\n', "utf-8")
    program.chmod(0o700)
    path = f"{house.folder}:{os.environ['PATH']}"
    for database in (
        f"postgresql://meter:{quote(PASSWORD, safe='')}@db.invalid/m",
        f"postgresql://meter@db.invalid/m?password={quote(PASSWORD, safe='')}&sslpassword={BROKEN}",
    ):
        house.configure(database=database)
        said = await house.run("psql", PATH=path)
        assert house.found_in(said) == set()
        assert "apart" in said


def fields(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each key of the settings with its annotation, tables and lists of tables too."""
    for name, info in model.model_fields.items():
        yield f"{path}{name}", info.annotation
        for part in parts(info.annotation):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from fields(part, f"{path}{name}.")


def parts(annotation: Any) -> Iterator[Any]:  # noqa: ANN401 - any type
    """Yield the types that an annotation is made of."""
    yield annotation
    for part in get_args(annotation):
        yield from parts(part)


def test_every_secret_is_kept_as_one() -> None:
    """A key that smells of a secret is a SecretStr: it is in no repr, no dump and no error."""
    smells = re.compile("secret|password|passw|token|salt|key$|dsn|database", re.IGNORECASE)
    # Where a secret is found, and the metadata key that names the tenant.
    harmless = {"server.secret_env", "server.secret_file", "attribution.rules.key"}
    harmless |= {"database_password_file"}
    found = {path: annotation for path, annotation in fields(Settings) if smells.search(path)}
    assert {"database", "server.secret"} <= found.keys()
    for path, annotation in found.items():
        if path not in harmless:
            assert SecretStr in set(parts(annotation)), path
            assert str not in set(parts(annotation)), path
    server = make_server("bbb1", secret=SecretStr(BY_KEY))
    settings = Settings(database=SecretStr(f"postgresql://u:{PASSWORD}@h/d"), server=(server,))
    for text in (
        repr(settings),
        str(settings),
        settings.model_dump_json(),
        str(settings.model_dump()),
    ):
        assert BY_KEY not in text
        assert PASSWORD not in text
