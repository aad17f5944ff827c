"""Connections to the database that a test can break."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit


class Line:
    """A proxy to the database that can break all connections."""

    def __init__(self, host: str, port: int) -> None:
        """Forward to `host` and `port`."""
        self._to = (host, port)
        self._writers: set[asyncio.StreamWriter] = set()
        self.cut = False
        self.port = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Line"]:
        """Listen on `port`."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.hang_up()
            await server.wait_closed()

    def hang_up(self) -> None:
        """Break every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.cut:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection(*self._to)
        self._writers |= {writer, back}
        await asyncio.gather(self._pump(reader, back), self._pump(there, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort()


class Cut:
    """A proxy that can break a connection at once, or before an answer passes."""

    def __init__(self) -> None:
        """Begin without a break."""
        self.cut_answers = False
        self.dsn = ""

    @asynccontextmanager
    async def to(self, dsn: str) -> AsyncIterator[None]:
        """Listen; the attribute `dsn` then leads through the proxy to the database of `dsn`."""
        place = urlsplit(dsn)
        tasks: set[asyncio.Task[None]] = set()

        async def pump(
            source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, answers: bool
        ) -> None:
            try:
                while data := await source.read(65536):
                    if answers and self.cut_answers:
                        break
                    sink.write(data)
                    await sink.drain()
            except ConnectionError:
                pass
            finally:
                sink.close()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await asyncio.open_connection(place.hostname, place.port)
            tasks.add(asyncio.create_task(pump(reader, far_writer, answers=False)))
            tasks.add(asyncio.create_task(pump(far_reader, writer, answers=True)))

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        login = place.netloc.rpartition("@")[0]
        self.dsn = urlunsplit(place._replace(netloc=f"{login}@127.0.0.1:{port}"))
        try:
            yield
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
