"""The way to the database: what becomes of a connection that does not answer."""

import asyncio
import contextlib
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from collector.database import borrowed, open_pool
from collector.errors import DatabaseError


class Line:
    """A line to the database on which, while it is `dead`, every byte is lost in silence."""

    def __init__(self, dsn: str) -> None:
        """Lead to the database of `dsn`."""
        self._parts = urlsplit(dsn)
        self.dead = False

    async def pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Pass on bytes, or lose them."""
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if not self.dead:
                    sink.write(data)
                    await sink.drain()
        sink.close()

    async def link(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        """Lead one connection through."""
        far, forth = await asyncio.open_connection(self._parts.hostname, self._parts.port)
        await asyncio.gather(self.pump(near, forth), self.pump(far, back))

    def dsn(self, port: int) -> str:
        """Return the way through the line, which listens on `port`."""
        user, at, _ = self._parts.netloc.rpartition("@")
        return urlunsplit(self._parts._replace(netloc=f"{user}{at}127.0.0.1:{port}"))


async def test_a_connection_that_does_not_answer_is_thrown_away(dsn: str) -> None:
    """To cancel a statement and to hand it back in order would wait for the same dead line."""
    line = Line(dsn)
    server = await asyncio.start_server(line.link, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, asyncio.timeout(60), open_pool(line.dsn(port), max_size=1) as pool:
        async with borrowed(pool, "first", 30) as connection:
            assert await connection.fetchval("SELECT 1") == 1
        line.dead = True
        for _ in range(2):  # with the old connection, then with none
            with pytest.raises(DatabaseError, match=r"second: .*TimeoutError"):
                async with borrowed(pool, "second", 0.5) as connection:
                    await connection.fetchval("SELECT 1")
        line.dead = False
        async with borrowed(pool, "third", 30) as connection:
            assert await connection.fetchval("SELECT 1") == 1


async def test_what_the_database_says_costs_no_connection(dsn: str) -> None:
    """An error of a statement is an answer."""
    async with open_pool(dsn, max_size=1) as pool:
        with pytest.raises(DatabaseError, match="wrong: "):
            async with borrowed(pool, "wrong", 30) as connection:
                await connection.execute("SELECT no_such_column")
        assert pool.get_idle_size() == 1


async def test_the_drivers_own_confusion_is_the_databases(dsn: str) -> None:
    """Whoever calls while another call is under way gets a DatabaseError, and a new connection."""
    async with open_pool(dsn, max_size=1) as pool:
        error = asyncpg.InternalClientError("another operation (2) is in progress")
        with pytest.raises(DatabaseError, match="confused: another operation"):
            async with borrowed(pool, "confused", 30):
                raise error
        assert pool.get_idle_size() == 0
        async with borrowed(pool, "next", 30) as connection:
            assert await connection.fetchval("SELECT 1") == 1
