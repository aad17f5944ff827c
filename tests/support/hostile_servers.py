"""Fake servers with harmful answers, and a way to poll one together with a healthy one."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from collector.bbb import BbbClients
from collector.model import PollResult
from collector.settings import ServerSettings
from collector.sources.polling.parser import parse_meetings
from collector.sources.polling.poller import Poller
from tests.support.fake_servers import EMPTY, MAX_BODY_BYTES
from tests.support.settings import make_server

TICK = datetime(2026, 2, 2, 8, tzinfo=UTC)
# Seconds in which a server must answer: for servers that answer, and for those that do not.
LONG_S = 60.0
SHORT_S = 0.4
ONE = (
    b"<response><returncode>SUCCESS</returncode><meetings><meeting><meetingID>r</meetingID>"
    b"<internalMeetingID>i-1770000000000</internalMeetingID><createTime>1770000000000</createTime>"
    b"<participantCount>1</participantCount></meeting></meetings></response>"
)
OK = b"HTTP/1.1 200 OK\r\n"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Listener:
    """A fake server: its port, its number of connections, and whether all of them are closed."""

    port: int
    connections: int = 0
    gone: asyncio.Event = field(default_factory=asyncio.Event)


@contextlib.asynccontextmanager
async def listening(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Listener]:
    """Listen on a free loopback port; `handler` gets each connection until it is closed."""
    open_now = 0

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now
        listener.connections += 1
        open_now += 1
        listener.gone.clear()
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await handler(reader, writer)
        writer.close()
        open_now -= 1
        if not open_now:
            listener.gone.set()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A separate task, because asyncio logs an error if its own task is cancelled.
        tasks.append(asyncio.create_task(connected(reader, writer)))

    tasks: list[asyncio.Task[None]] = []
    server = await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=tls)
    listener = Listener(server.sockets[0].getsockname()[1])
    try:
        yield listener
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def response(body: bytes = EMPTY, *headers: str) -> bytes:
    """Return a complete answer."""
    lines = [f"Content-Length: {len(body)}", *headers]
    return OK + "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body


async def healthy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every request."""
    while True:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response())
        await writer.drain()


def says(*parts: bytes, again: bytes = b"", pause_s: float = 0.0) -> Handler:
    """Return a handler that sends `parts`, then `again` without end, or nothing more."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)
        while again:
            writer.write(again)
            await writer.drain()
            await asyncio.sleep(pause_s)
        await reader.read()  # until the client closes the connection

    return handle


def bytewise(data: bytes, pause_s: float) -> Handler:
    """Return a handler that sends its answer byte by byte."""
    return says(*(data[at : at + 1] for at in range(len(data))), pause_s=pause_s)


def resets_after(data: bytes) -> Handler:
    """Return a handler that sends `data` and resets the connection (RST, no FIN)."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(0.05)  # else the client's kernel drops data that it has not read
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        writer.transport.abort()

    return handle


async def poll_both(
    hostile: ServerSettings, gone: asyncio.Event | None = None
) -> dict[str, PollResult]:
    """Poll a hostile and a healthy server; with `gone`, wait for it before the end."""
    results: dict[str, PollResult] = {}
    async with listening(healthy) as listener, BbbClients() as clients:
        url = f"http://127.0.0.1:{listener.port}/bigbluebutton"
        servers = [hostile, make_server("healthy", url=url, timeout_s=LONG_S)]
        poller = Poller(
            clients.make(servers, "getMeetings", parse_meetings, max_body_bytes=MAX_BODY_BYTES), 10
        )
        await poller.poll(TICK, LONG_S, lambda result: results.update({result.server: result}))
        if gone is not None:
            await asyncio.wait_for(gone.wait(), LONG_S)
    return results
