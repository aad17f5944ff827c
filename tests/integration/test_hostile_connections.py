"""Connections of hostile servers: one that is used again, one that never comes about."""

import asyncio
import contextlib
import socket
import threading
from typing import Any

import pytest

from collector.bbb import BbbClients, resolver
from collector.model import PollResult
from collector.sources.polling.parser import parse_meetings
from collector.sources.polling.poller import Poller
from tests.support.fake_servers import EMPTY, MAX_BODY_BYTES
from tests.support.hostile_servers import (
    LONG_S,
    OK,
    ONE,
    SHORT_S,
    TICK,
    Handler,
    bytewise,
    listening,
    poll_both,
    response,
)
from tests.support.settings import make_server

pytestmark = pytest.mark.usefixtures("_no_proxy")


# -- connections that are used again ------------------------------------------------------------


async def polls(handler: Handler, count: int = 3) -> tuple[list[str], int]:
    """Poll one server again and again; return the outcomes, and how many connections it took."""
    outcomes: list[str] = []

    def deliver(result: PollResult) -> None:
        seen = f"{len(result.answer.meetings)} meetings"
        outcomes.append(seen if result.ok else result.outcome)

    async with listening(handler) as listener, BbbClients() as clients:
        url = f"http://127.0.0.1:{listener.port}/bigbluebutton"
        server = make_server("bbb1", url=url, timeout_s=LONG_S)
        poller = Poller(
            clients.make([server], "getMeetings", parse_meetings, max_body_bytes=MAX_BODY_BYTES), 1
        )
        for _ in range(count):
            await poller.poll(TICK, LONG_S, deliver)
            await asyncio.sleep(0.05)  # for what comes late
    return outcomes, listener.connections


def once_then(late: bytes, *, close: bool) -> Handler:
    """Return a handler that answers one request and then says `late`, without being asked."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response())
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.write(late)
        await writer.drain()
        if not close:
            await reader.read()

    return handle


@pytest.mark.parametrize(
    ("late", "close"),
    [
        (b"", True),
        (b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n", True),  # as HAProxy does
        (response(ONE), False),
        (b"garbage", False),
        (b"\r\n\r\n", True),
    ],
)
async def test_what_an_idle_connection_brings(late: bytes, *, close: bool) -> None:
    """It is no answer to the next request, which takes a connection of its own."""
    outcomes, connections = await polls(once_then(late, close=close))
    assert outcomes == ["0 meetings"] * 3
    assert connections == 3


@pytest.mark.parametrize("trailer", [response(ONE), b"garbage"])
async def test_trailing_garbage(trailer: bytes) -> None:
    """What comes behind an answer, at once, is never taken for the next one's."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(response() + trailer)
            await writer.drain()

    outcomes, connections = await polls(handle)
    assert set(outcomes) <= {"0 meetings", "disconnect"}
    assert connections == 3


async def test_connection_that_died_between_polls() -> None:
    """A reset of a connection that was used before costs no sample: it is tried once more."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response())
        await writer.drain()
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    assert await polls(handle) == (["0 meetings"] * 3, 3)


async def test_one_more_try_and_no_more() -> None:
    """A server that resets each connection is asked twice a poll."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    assert await polls(handle) == (["disconnect"] * 3, 6)


async def test_slow_but_in_time() -> None:
    """An answer that comes byte by byte, whole and in time, is one."""
    outcomes, _ = await polls(bytewise(response(ONE), 0.0001), count=1)
    assert outcomes == ["1 meetings"]


# -- no connection ------------------------------------------------------------------------------


async def test_full_backlog() -> None:
    """A server that takes no connections any more is a timeout, and nobody else's."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)  # noqa: FBT003 - the socket's own word
            filler.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/bigbluebutton"
        results = await poll_both(make_server("hostile", url=url, timeout_s=SHORT_S))
    assert (results["hostile"].outcome, results["healthy"].outcome) == ("timeout", "ok")


async def test_brown_out_of_the_dns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that hang time out alone; a server that was found once goes on being polled.

    Each poll takes a connection of its own, and many more names hang than the event loop has
    threads.
    """
    free = threading.Event()
    known = {"well.test"}

    def getaddrinfo(host: str, *_: object, **__: object) -> list[Any]:
        if host not in known:
            free.wait()
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(resolver, "FRESH_S", 0.0)
    monkeypatch.setattr(resolver, "PATIENCE_S", 0.05)
    results: dict[str, str] = {}
    answer = OK + b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(EMPTY), EMPTY)

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    try:
        async with listening(once) as listener, BbbClients() as clients:
            servers = [
                make_server(name, url=f"http://{name}.test:{listener.port}/", timeout_s=timeout_s)
                for name, timeout_s in [*((f"hung{n}", SHORT_S) for n in range(50)), ("well", 60)]
            ]
            poller = Poller(
                clients.make(servers, "getMeetings", parse_meetings, max_body_bytes=MAX_BODY_BYTES),
                100,
            )
            for _ in range(3):
                await poller.poll(TICK, LONG_S, lambda r: results.update({r.server: r.outcome}))
                assert results.pop("well") == "ok"
                assert set(results.values()) == {"timeout"}
                known.clear()  # from the second tick on, nobody is resolved
            assert listener.connections == 3
    finally:
        free.set()
