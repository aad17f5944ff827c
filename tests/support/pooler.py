"""A small stand-in for PgBouncer: it lends few connections of the server to many clients."""

import asyncio
import contextlib
import random
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

MODES = ("session", "transaction", "statement")
_SSL_OR_GSS = {80877103, 80877104}
_CANCEL = 80877102


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def _fatal(code: bytes, text: bytes) -> bytes:
    return _message(b"E", b"SFATAL\0VFATAL\0C" + code + b"\0M" + text + b"\0\0")


@dataclass(eq=False)
class _Backend:
    """A connection to the server, and the client that has it now."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    client: "_Client | None" = None
    reading: asyncio.Task[None] | None = None


@dataclass(eq=False)
class _Client:
    """A client's connection, and the server's connection that it has now."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    backend: _Backend | None = None


@dataclass
class Pooler:
    """Forwards to the server at `host` and `port`.

    In the modes `transaction` and `statement`, a client gives its connection back at the end of
    each transaction. The one that was given back last is lent first, as in PgBouncer. Each client
    logs in on a new connection, so that passwords work. More than `limit` clients are refused.
    """

    host: str
    port: int
    mode: str = "transaction"
    limit: int = 100
    clients: int = 0
    _free: list[_Backend] = field(default_factory=list)
    _pooled: list[_Backend] = field(default_factory=list)
    _backends: list[_Backend] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client until it closes its connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.append(task)
        client = _Client(reader, writer)
        self.clients += 1
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                if await self._log_in(client):
                    await self._forward(client)
        except asyncio.CancelledError:
            pass  # asyncio would log it as an error of its own task
        finally:
            self.clients -= 1
            if client.backend is not None:  # in a session, or within a transaction
                client.backend.writer.close()
            writer.close()

    async def close(self) -> None:
        """Close all connections."""
        for task in self._tasks:
            task.cancel()
        for backend in self._backends:
            backend.writer.close()
            if backend.reading is not None:
                backend.reading.cancel()
        readings = [backend.reading for backend in self._backends if backend.reading]
        await asyncio.gather(*self._tasks, *readings, return_exceptions=True)

    async def _log_in(self, client: _Client) -> bool:
        """Pass the login through to a new connection; return whether there is one now."""
        while True:
            head = await client.reader.readexactly(8)
            length, code = struct.unpack("!ii", head)
            rest = await client.reader.readexactly(length - 8)
            if code not in _SSL_OR_GSS:
                break
            client.writer.write(b"N")
        if code == _CANCEL:
            return False
        if self.clients > self.limit:
            client.writer.write(_fatal(b"53300", b"no more connections allowed"))
            await client.writer.drain()
            return False
        backend = _Backend(*await asyncio.open_connection(self.host, self.port))
        self._backends.append(backend)
        self._lend(backend, client)
        backend.writer.write(head + rest)
        backend.reading = asyncio.create_task(self._answer(backend))
        return True

    async def _forward(self, client: _Client) -> None:
        """Pass a client's messages to the connection that it has, or to a free one."""
        while data := await client.reader.read(65_536):
            if self.mode == "statement" and b"BEGIN" in data:
                text = b"transaction blocks not allowed in statement pooling mode"
                client.writer.write(_fatal(b"08P01", text))
                await client.writer.drain()
                return
            if data[:1] == b"X" and client.backend is None:
                return  # the client says goodbye; the server's connection is not its own
            if client.backend is None:
                self._lend(self._free.pop(), client)
            assert client.backend is not None
            client.backend.writer.write(data)
            await client.backend.writer.drain()

    async def _answer(self, backend: _Backend) -> None:
        """Pass the server's messages to the client; take the connection back when it is idle."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await backend.reader.readexactly(5)
                body = await backend.reader.readexactly(struct.unpack("!i", head[1:])[0] - 4)
                client = backend.client
                if client is None:
                    continue
                if head[:1] == b"K":  # the key for cancelling: PgBouncer gives out its own
                    body = struct.pack("!i", random.randint(1 << 24, 1 << 30)) + body[4:]
                client.writer.write(head + body)
                if head[:1] == b"Z" and body == b"I" and self.mode != "session":
                    client.backend = backend.client = None
                    if self._free and backend not in self._pooled:
                        backend.writer.close()  # it was needed for the login only
                        return
                    self._pooled.append(backend)
                    self._free.append(backend)

    def _lend(self, backend: _Backend, client: _Client) -> None:
        backend.client, client.backend = client, backend


@contextlib.asynccontextmanager
async def pooling(dsn: str, mode: str, limit: int = 100) -> AsyncIterator[str]:
    """Yield the DSN of a pooler in `mode` in front of the database `dsn`."""
    parts = urlsplit(dsn)
    pooler = Pooler(parts.hostname or "127.0.0.1", parts.port or 5432, mode, limit)
    server = await asyncio.start_server(pooler.serve, "127.0.0.1", 0)
    login, at, _ = parts.netloc.rpartition("@")
    port = server.sockets[0].getsockname()[1]
    try:
        yield urlunsplit(parts._replace(netloc=f"{login}{at}127.0.0.1:{port}"))
    finally:
        server.close()
        await pooler.close()
