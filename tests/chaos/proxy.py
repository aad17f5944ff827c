"""A TCP proxy in front of the database that disturbs connections as networks do."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

_CHUNK_BYTES = 65_536
_PATIENCE_S = 5.0
# With a linger time of 0, closing sends a reset (RST) to the peer.
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Weather:
    """The disturbances that apply to every connection now.

    Each chunk takes `latency_s` longer, and its bytes pass at `bytes_per_s` (0: at once). With
    `refuse` the port is closed. `lose` names directions (`up` to the database, `down` from it)
    whose bytes vanish. A connection that has lost bytes is lost permanently, and neither end is
    notified.
    """

    latency_s: float = 0.0
    bytes_per_s: float = 0.0
    refuse: bool = False
    lose: frozenset[str] = frozenset()


FAIR = Weather()


class Proxy:
    """A port on loopback that forwards to the database while the weather is good.

    `target` is called for the database's address at each connection. `accepted` counts all
    connections, and `ended` those that this proxy broke.
    """

    def __init__(self, target: Callable[[], tuple[str, int]]) -> None:
        """Prepare the proxy; it does not listen yet."""
        self._target = target
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self.port = 0
        self.weather = FAIR
        self.accepted = self.ended = 0

    async def __aenter__(self) -> Self:
        """Listen on any free port; the proxy keeps it from then on."""
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        """End every connection and close the port."""
        await self._close()
        for link in self._links:
            link.end(reset=True)
        await asyncio.gather(*(link.gone.wait() for link in list(self._links)))

    async def set(self, weather: Weather) -> None:
        """Change the weather; connections that are lost already stay lost."""
        self.weather = weather
        if weather.refuse:
            await self._close()
        elif self._server is None:
            await self._listen()
        for link in self._links:
            link.notice(weather)

    def cut(self, *, reset: bool) -> int:
        """End all connections now, with RST or FIN; return their number."""
        links = [link for link in self._links if not link.lost]
        for link in links:
            link.end(reset=reset)
        self.ended += len(links)
        return len(links)

    def cut_midway(self, direction: str) -> None:
        """End each connection at its next chunk in `direction`, in the middle of it."""
        for link in self._links:
            link.cut_next = direction

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        link = _Link(self, reader, writer)
        self._links.add(link)
        try:
            await link.run(*self._target())
        finally:
            self._links.discard(link)
            link.gone.set()


class _Link:
    """One client's connection, and its connection to the database."""

    def __init__(
        self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._proxy = proxy
        self._client = reader, writer
        self._writers = [writer]
        self._ended = asyncio.Event()
        self.gone = asyncio.Event()
        self.cut_next = ""
        self.lost = False

    def notice(self, weather: Weather) -> None:
        """Lose the connection if the weather loses bytes now, even if none are on the way."""
        self.lost = self.lost or bool(weather.lose)

    def end(self, *, reset: bool) -> None:
        """Close both sides: with a reset, or after sending everything that was received."""
        for writer in self._writers:
            if reset:
                peer: socket.socket | None = writer.get_extra_info("socket")
                with contextlib.suppress(OSError, AttributeError):
                    assert peer is not None
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                writer.transport.abort()
            else:
                writer.close()
        self._ended.set()

    async def run(self, host: str, port: int) -> None:
        """Pass bytes in both directions until a side or the weather ends the connection."""
        self.notice(self._proxy.weather)
        if self.lost:
            # The connection was accepted, and then nothing is answered.
            await self._ended.wait()
            return
        try:
            async with asyncio.timeout(_PATIENCE_S):
                upstream = await asyncio.open_connection(host, port)
        except (OSError, TimeoutError):
            self.end(reset=True)
            return
        self._writers.append(upstream[1])
        ways = [
            asyncio.create_task(self._pass(self._client[0], upstream[1], "up")),
            asyncio.create_task(self._pass(upstream[0], self._client[1], "down")),
        ]
        await self._ended.wait()
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: str
    ) -> None:
        try:
            while chunk := await reader.read(_CHUNK_BYTES):
                weather = self._proxy.weather
                delay_s = weather.latency_s
                if weather.bytes_per_s:
                    delay_s += len(chunk) / weather.bytes_per_s
                if delay_s:
                    await asyncio.sleep(delay_s)
                if self.lost:
                    # The other direction may still work, but its peer gets no answers.
                    if direction in (self._proxy.weather.lose or {"up", "down"}):
                        continue
                elif self.cut_next == direction:
                    writer.write(chunk[: max(1, len(chunk) // 2)])
                    await writer.drain()
                    self._proxy.ended += 1
                    self.end(reset=False)
                    return
                writer.write(chunk)
                await writer.drain()
        except OSError:
            self.end(reset=True)
            return
        if not self.lost:  # the peers of a lost connection do not notice its end either
            self.end(reset=False)
