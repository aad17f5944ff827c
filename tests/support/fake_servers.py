"""Fake BigBlueButton servers on loopback, and clients of them."""

import asyncio
import contextlib
import ssl
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import SecretStr

from collector.bbb import BbbClient, BbbClients
from collector.bbb.checksum import verify
from collector.errors import PollError
from collector.model import Answer
from collector.sources.polling.parser import parse_meetings
from tests.support.settings import make_server

SECRET = "the-secret-of-this-test"
EMPTY = (
    b"<response><returncode>SUCCESS</returncode><meetings/>"
    b"<messageKey>noMeetings</messageKey></response>"
)
REFUSED = (
    b"<response><returncode>FAILED</returncode><messageKey>checksumError</messageKey></response>"
)
MAX_BODY_BYTES = 1 << 20
Handler = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """A fake server: its port, the requests that it got, and its number of connections."""

    port: int
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)


@contextlib.asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """Serve on a free loopback port; `handler` gets the head of each request and the stream."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                server.requests.append(head)
                server.asked.set()
                await handler(head, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A separate task, because asyncio logs an error if its own task is cancelled.
        tasks.append(asyncio.create_task(connected(reader, writer)))

    tasks: list[asyncio.Task[None]] = []
    listener = await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=tls)
    server = Server(listener.sockets[0].getsockname()[1])
    try:
        yield server
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def response(
    body: bytes, status: str = "200 OK", *headers: str, length: int | None = None
) -> bytes:
    """Return an HTTP response."""
    length = len(body) if length is None else length
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {length}", *headers])
    return head.encode() + b"\r\n\r\n" + body


def sends(data: bytes, *, close: bool = False) -> Handler:
    """Return a handler that sends `data`, and can close the connection."""

    async def handle(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        if close:
            await writer.drain()
            writer.close()

    return handle


async def signed(head: bytes, writer: asyncio.StreamWriter) -> None:
    """Answer as BigBlueButton does: no meetings, or FAILED for a wrong checksum."""
    path, _, query = head.split(b" ")[1].decode().partition("?")
    right = path == "/bigbluebutton/api/getMeetings" and verify("getMeetings", query, SECRET)
    writer.write(response(EMPTY if right else REFUSED))


def redirects(*locations: str) -> Handler:
    """Return a handler that redirects to each location in turn, and then answers."""
    left = list(locations)

    async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
        if not left:
            await signed(head, writer)
            return
        query = head.split(b" ")[1].decode().partition("?")[2]
        location = left.pop(0).replace("QUERY", query)
        writer.write(response(b"moved", "302 Found", f"Location: {location}"))

    return handle


def client_of(
    clients: BbbClients,
    port: int = 0,
    scheme: str = "http",
    parse: Callable[[bytes], Answer] = parse_meetings,
    **changes: Any,  # noqa: ANN401 - any key of a server's settings
) -> BbbClient[Answer]:
    """Return a client of the server on loopback port `port`; `changes` are other settings."""
    values = {
        "url": f"{scheme}://127.0.0.1:{port}/bigbluebutton",
        "secret": SecretStr(SECRET),
        "timeout_s": 20,
        **changes,
    }
    server = make_server("bbb1", **values)
    made = clients.make([server], "getMeetings", parse, max_body_bytes=MAX_BODY_BYTES)
    return made["bbb1"]


async def failure(client: BbbClient[Answer]) -> str:
    """Return the code of the PollError of a poll; its text must not contain secrets."""
    with pytest.raises(PollError) as caught:
        await client.ask()
    shown = "".join(traceback.format_exception(caught.value)) + repr(client)
    assert "checksum=" not in shown
    assert SECRET not in shown
    return caught.value.full_outcome
