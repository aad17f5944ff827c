"""The database of the run: a separate embedded engine, or a new database on a test server."""

import asyncio
import json
import os
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from collector.database.node import find_node
from collector.database.packages import engine_folder
from collector.database.upkeep import PolicyRunner
from tests.chaos.process import Process

_START_DEADLINE_S = 120.0


class Database(Protocol):
    """A database that can be killed, and then started again with all acknowledged data."""

    name: str

    async def run_policies(self) -> None:
        """Run due policies if the database has no scheduler."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""

    def dsn(self, port: int | None = None) -> str:
        """Return the DSN, through another port of this machine if wished."""

    async def start(self) -> None:
        """Start with an empty database."""

    async def kill(self) -> None:
        """Kill the database without a clean shutdown."""

    async def revive(self) -> None:
        """Start the database again with its data."""

    async def end(self) -> None:
        """Stop the database permanently and delete its data."""

    def processes(self) -> list[Process]:
        """Return the processes that this run started."""


class EmbeddedDatabase:
    """The embedded engine's server as a process, which `kill -9` ends."""

    name = "embedded"

    def __init__(self, folder: Path) -> None:
        """Keep the data in `folder`."""
        self._data = folder / "engine"
        self._process = Process("engine", [], folder / "engine.log")
        self._port = 0

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return "127.0.0.1", self._port

    def dsn(self, port: int | None = None) -> str:
        """Return the DSN, through another port of this machine if wished."""
        return f"postgresql://postgres@127.0.0.1:{port or self._port}/postgres?sslmode=disable"

    async def start(self) -> None:
        """Start the server and return when it answers; a restart uses the same port."""
        node = await asyncio.to_thread(find_node)
        script = engine_folder() / "server.mjs"
        arguments = ["--data", str(self._data), "--port", str(self._port)]
        arguments += ["--parent-pid", str(os.getpid())]
        self._process.command = [str(node), str(script), *arguments]
        await self._process.start()
        async with asyncio.timeout(_START_DEADLINE_S):
            while (ready := self._process.find(r'(\{"ready":true.*\})')) is None:
                if self._process.pid is None:
                    message = "".join(self._process.lines) or "the engine ended without a message"
                    raise RuntimeError(message)
                self._process.said.clear()
                await self._process.said.wait()
        self._port = json.loads(ready)["port"]

    async def kill(self) -> None:
        """`kill -9`."""
        await self._process.kill()

    async def revive(self) -> None:
        """Start the server again with its data and its port."""
        await self.start()

    async def run_policies(self) -> None:
        """Run all policies: rollups then hold the present data, and late data come afterwards."""
        async with asyncpg.create_pool(self.dsn(), min_size=1, max_size=1) as pool:
            await PolicyRunner(pool).run_due(datetime.now(UTC))

    async def end(self) -> None:
        """Stop the server cleanly."""
        await self._process.end()

    def processes(self) -> list[Process]:
        """Return the server's process."""
        return [self._process]


class ServerDatabase:
    """A new database on a server that others also use: only its connections are killed."""

    name = "server"

    def __init__(self, dsn: str) -> None:
        """Use a new database on the server of `dsn`."""
        self._server = dsn
        self._name = f"chaos_{uuid.uuid4().hex}"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        url = urlsplit(self._server)
        return url.hostname or "127.0.0.1", url.port or 5432

    def dsn(self, port: int | None = None) -> str:
        """Return the DSN, through another port of this machine if wished."""
        url = urlsplit(self._server)
        login, at, _ = url.netloc.rpartition("@")
        place = f"{login}{at}127.0.0.1:{port}" if port else url.netloc
        return urlunsplit(url._replace(netloc=place, path=f"/{self._name}"))

    async def start(self) -> None:
        """Create the database."""
        await self._ask(f"CREATE DATABASE {self._name}")

    async def kill(self) -> None:
        """Terminate all connections to it; meanwhile the proxies refuse new ones."""
        await self._ask(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "  # noqa: S608
            f"WHERE datname = '{self._name}' AND backend_type = 'client backend'"
        )

    async def revive(self) -> None:
        """Do nothing: the server was never away."""

    async def run_policies(self) -> None:
        """Do nothing: the server's scheduler runs them."""

    async def end(self) -> None:
        """Drop the database."""
        await self._ask(f"DROP DATABASE IF EXISTS {self._name} WITH (FORCE)")

    def processes(self) -> list[Process]:
        """Return none: this run did not start the server."""
        return []

    async def _ask(self, query: str) -> None:
        connection = await asyncpg.connect(self._server)
        try:
            await connection.execute(query)
        finally:
            await connection.close()
