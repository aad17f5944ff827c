"""The HTTP port, with clients that hold connections, send garbage, or read slowly."""

import asyncio
import contextlib
import logging
import os
import resource
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs

from collector.metrics import Metrics
from collector.settings import HttpSettings
from collector.web import connections
from collector.web.health import serve_health

PATIENCE_S = 60.0  # ends a test that hangs


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """The port of a collector that is well."""
    async with serve_health(
        HttpSettings(port=0), Metrics(), alive=lambda: None, ready=lambda: None
    ) as port:
        yield port


@pytest.fixture
def no_files() -> Iterator[Callable[[], None]]:
    """A function that uses up the file descriptors of this process until the test ends."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []

    def take() -> None:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))

    used = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 64, before[1]))
    yield take
    for descriptor in taken:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection to the port."""
    return await asyncio.open_connection("127.0.0.1", port)


async def ok(port: int) -> str:
    """Return what /healthz answers."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/healthz") as response,
    ):
        return await response.text()


async def test_the_oldest_of_too_many_connections_is_closed(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only so many are open at once, and a probe is answered all the same."""
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 5)
    held = [await connect(port) for _ in range(12)]
    async with asyncio.timeout(PATIENCE_S):
        assert await ok(port) == "ok"
        for reader, _ in held[:7]:
            assert await ended(reader)
        await asyncio.sleep(0)
        assert not any(reader.at_eof() for reader, _ in held[-4:])
    for _, writer in held:
        writer.close()


async def ended(reader: asyncio.StreamReader) -> bool:
    """Wait until the port closes a connection, without a byte of an answer."""
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    "sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"POST /metrics HTTP/1.1\r\n"]
)
async def test_a_slow_client_is_cut_off(
    port: int, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    """A client that sends nothing, or a byte now and then, is closed after a fixed time."""
    monkeypatch.setattr(connections, "CONNECTION_S", 0.5)
    reader, writer = await connect(port)
    writer.write(sent)
    end = asyncio.create_task(ended(reader))
    async with asyncio.timeout(PATIENCE_S):
        while not end.done():
            writer.write(b"x" if sent else b"")
            await asyncio.sleep(0.05)
    assert await end
    writer.close()


async def test_no_connection_is_kept(port: int) -> None:
    """Each answer, also to a wrong path, closes its connection."""
    for path in ("/healthz", "/readyz", "/metrics", "/nowhere"):
        reader, writer = await connect(port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        async with asyncio.timeout(PATIENCE_S):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 404" if path == "/nowhere" else b"HTTP/1.1 200")
        writer.close()


async def test_garbage_is_logged_once(port: int, caplog: pytest.LogCaptureFixture) -> None:
    """Bad requests are one line a minute, without the client's address or what it sent."""
    caplog.set_level(logging.WARNING)
    with capture_logs() as logged:
        for _ in range(20):
            reader, writer = await connect(port)
            writer.write(b"GET /mallory HTTP/9.secret\r\n\r\n")
            async with asyncio.timeout(PATIENCE_S):
                await reader.read()
            writer.close()
    assert caplog.text == ""
    assert [entry["event"] for entry in logged] == ["http_request_failed"]
    assert "secret" not in repr(logged)
    assert "127.0.0.1" not in repr(logged)


async def test_no_log_flood_without_file_descriptors(
    port: int, no_files: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Where no file can be opened, the port says so in one line a minute."""
    caplog.set_level(logging.WARNING)
    with contextlib.ExitStack() as stack, capture_logs() as logged:
        for _ in range(10):
            client = stack.enter_context(socket.socket())
            client.connect(("127.0.0.1", port))
        no_files()
        async with asyncio.timeout(PATIENCE_S):
            while not logged and not caplog.text:  # noqa: ASYNC110 - no event says so
                await asyncio.sleep(0.05)
        await asyncio.sleep(1.5)  # the event loop tries again after a second
    assert caplog.text == ""
    assert [entry["event"] for entry in logged] == ["http_accept_failed"]
