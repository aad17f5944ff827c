"""Every way in which asking a server can fail has its code."""

import asyncio
import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import pytest

from collector.bbb import BbbClient
from collector.model import MAX_COUNT, Answer
from tests.support.fake_servers import (
    EMPTY,
    MAX_BODY_BYTES,
    failure,
    response,
    sends,
    serving,
    signed,
)
from tests.support.meetings import answer_xml, identity, meeting_xml

# 31 meetings with as many participants as one can have: more than a million together.
FULL = answer_xml(
    *(meeting_xml(internalMeetingID=identity(n), participantCount=MAX_COUNT) for n in range(31))
)

pytestmark = pytest.mark.usefixtures("_no_proxy")


async def resets(_: bytes, writer: asyncio.StreamWriter) -> None:
    """Reset the connection."""
    writer.transport.abort()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (response(b"<html>Bad Gateway</html>", "502 Bad Gateway"), "http_status:502"),
        (response(b"", "204 No Content"), "http_status:204"),
        (response(b"", "304 Not Modified"), "http_status:304"),
        (response(b"<html>Please log in</html>"), "not_xml"),
        (response(b""), "not_xml"),
        (response(EMPTY[:-5]), "not_xml"),
        (response(b"x" * (MAX_BODY_BYTES + 1)), "too_large"),
        (response(FULL), "implausible"),
        (response(b"x", "200 OK", "Content-Encoding: br"), "encoding"),
        (response(b"no gzip", "200 OK", "Content-Encoding: gzip"), "encoding"),
        (response(gzip.compress(EMPTY)[:-9], "200 OK", "Content-Encoding: gzip"), "encoding"),
        (response(gzip.compress(EMPTY) * 2, "200 OK", "Content-Encoding: gzip"), "encoding"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n", "disconnect"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", "disconnect"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", "disconnect"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "disconnect"),
    ],
)
async def test_failure(
    make_client: Callable[..., BbbClient[Answer]], data: bytes, code: str
) -> None:
    """Each kind of wrong answer has its code."""
    async with serving(sends(data)) as server:
        assert await failure(make_client(server.port)) == code


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "disconnect"),
        (b"HTTP/1.1 200 OK\r\nContent-", "disconnect"),
        (response(EMPTY, length=len(EMPTY) + 1), "disconnect"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n<resp\r\n", "disconnect"),
        (b"HTTP/1.0 200 OK\r\n\r\n" + EMPTY[:-5], "not_xml"),
    ],
)
async def test_early_end(
    make_client: Callable[..., BbbClient[Answer]], data: bytes, code: str
) -> None:
    """A connection that the server closes before the answer is complete gives no sample."""
    async with serving(sends(data, close=True)) as server:
        assert await failure(make_client(server.port)) == code


async def test_reset(make_client: Callable[..., BbbClient[Answer]]) -> None:
    """A connection that is reset, before or within the answer, is a disconnect."""

    async def resets_later(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(response(EMPTY, length=len(EMPTY) + 1))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.transport.abort()

    for handler in (resets, resets_later):
        async with serving(handler) as server:
            assert await failure(make_client(server.port)) == "disconnect"


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\nX: ", response(b"<", length=10_000)])
async def test_slow_server(make_client: Callable[..., BbbClient[Answer]], begin: bytes) -> None:
    """One deadline holds for silence, slow headers and slow bodies."""

    async def drips(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(begin)
        for _i in range(10_000 if begin else 0):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)
        await asyncio.Event().wait()

    async with serving(drips) as server:
        assert await failure(make_client(server.port, timeout_s=0.3)) == "timeout"


async def test_no_tls_handshake(make_client: Callable[..., BbbClient[Answer]]) -> None:
    """A server that accepts connections and says nothing to TLS is a timeout."""
    async with serving(sends(b"")) as server:
        assert await failure(make_client(server.port, "https", timeout_s=0.3)) == "timeout"


async def test_gzip_bomb(make_client: Callable[..., BbbClient[Answer]]) -> None:
    """A small body that decompresses to 256 MiB is stopped at the limit, and takes no memory."""
    packer = zlib.compressobj(9, wbits=31)
    block = b"\0" * (1 << 20)
    bomb = b"".join(packer.compress(block) for _ in range(256)) + packer.flush()
    async with serving(sends(response(bomb, "200 OK", "Content-Encoding: gzip"))) as server:
        assert len(bomb) < MAX_BODY_BYTES
        tracemalloc.start()
        assert await failure(make_client(server.port)) == "too_large"
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak_bytes < 8 * MAX_BODY_BYTES


async def test_endless_body(make_client: Callable[..., BbbClient[Answer]]) -> None:
    """A body without end is stopped at the limit."""

    async def endless(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1000\r\n" + b" " * 4096 + b"\r\n")
            await writer.drain()

    async with serving(endless) as server:
        assert await failure(make_client(server.port)) == "too_large"


async def test_nobody_listens(make_client: Callable[..., BbbClient[Answer]]) -> None:
    """A refused connection has its own code."""
    async with serving(signed) as server:
        pass
    assert await failure(make_client(server.port)) == "connect"


@pytest.mark.parametrize("host", ["nonexistent.invalid", "x" * 63 + ".invalid"])
async def test_unknown_host(make_client: Callable[..., BbbClient[Answer]], host: str) -> None:
    """A host name that does not exist, or cannot, has its own code."""
    assert await failure(make_client(url=f"http://{host}/bigbluebutton")) == "dns"


async def test_proxy_that_fails(
    make_client: Callable[..., BbbClient[Answer]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that refuses, or is away, means no connection."""
    url = "https://bbb.invalid/bigbluebutton"
    async with serving(sends(response(b"", "407 Proxy Authentication Required"))) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        client = make_client(url=url)
        assert await failure(client) == "connect"
    assert await failure(client) == "connect"
