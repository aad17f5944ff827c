"""Servers that mean harm, or break as if they did: each fails alone, in time, and leaves nothing.

How each kind of failure is told from the others is in test_bbb.py; here a hostile server is one
of a fleet.
"""

import asyncio
import contextlib
import gzip
import socket
import ssl
import struct
import subprocess
import threading
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from collector.bbb import BbbClients, resolver
from collector.bbb import body as body_module
from collector.model import PollResult
from collector.settings import ServerSettings
from collector.sources.polling.parser import parse_meetings
from collector.sources.polling.poller import Poller
from tests.support.settings import make_server

TICK = datetime(2026, 2, 2, 8, tzinfo=UTC)
LONG_S = 60.0
SHORT_S = 0.4
MAX_BODY_BYTES = 1 << 20
EMPTY = (
    b"<response><returncode>SUCCESS</returncode><meetings/>"
    b"<messageKey>noMeetings</messageKey></response>"
)
ONE = (
    b"<response><returncode>SUCCESS</returncode><meetings><meeting><meetingID>r</meetingID>"
    b"<internalMeetingID>i-1770000000000</internalMeetingID><createTime>1770000000000</createTime>"
    b"<participantCount>1</participantCount></meeting></meetings></response>"
)
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
# After these the connection is of no more use.
FATAL = {"timeout", "disconnect", "too_large", "tls"}
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
pytestmark = pytest.mark.usefixtures("_no_proxy")


@dataclass
class Listener:
    """A fake server: its port, how many connections it had, and whether all of them are gone."""

    port: int
    connections: int = 0
    gone: asyncio.Event = field(default_factory=asyncio.Event)


@contextlib.asynccontextmanager
async def listening(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Listener]:
    """Listen on a free port of the loopback; `handler` gets each connection, until it is gone."""
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
        # A task of our own: asyncio complains if its own is cancelled.
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
    """Return a whole answer."""
    lines = [f"Content-Length: {len(body)}", *headers]
    return OK + "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body


async def healthy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every request."""
    while True:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response())
        await writer.drain()


def says(*parts: bytes, again: bytes = b"", pause_s: float = 0.0) -> Handler:
    """Return a handler that answers `parts`, then `again` for ever, or nothing more."""

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
        await reader.read()  # until the client has gone

    return handle


def bytewise(data: bytes, pause_s: float) -> Handler:
    """Return a handler that answers one byte at a time."""
    return says(*(data[at : at + 1] for at in range(len(data))), pause_s=pause_s)


def resets_after(data: bytes) -> Handler:
    """Return a handler that answers `data` and resets the connection (RST, no FIN)."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(0.05)  # or the client's kernel drops what it has not read
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        writer.transport.abort()

    return handle


def nested_bomb() -> bytes:
    """Return a gzip bomb that is compressed a second time, for 64 MiB in about 200 bytes."""
    return gzip.compress(gzip.compress(bytes(64 << 20)))


def gzip_without_end() -> Handler:
    """Return a handler that sends empty deflate blocks: nothing, for ever."""
    start = zlib.compressobj(wbits=31).flush(zlib.Z_SYNC_FLUSH)
    return says(OK + b"Content-Encoding: gzip\r\n\r\n" + start, again=b"\0\0\0\xff\xff" * 10_000)


HOSTILE: dict[str, tuple[Handler, str]] = {
    # slow-loris
    "head byte by byte": (bytewise(response(), 0.02), "timeout"),
    "body byte by byte": (bytewise(response(b" " * 10_000), 0.001), "timeout"),
    "chunks byte by byte": (says(CHUNKED, again=b"1\r\n \r\n", pause_s=0.01), "timeout"),
    "a header at a time": (says(OK, again=b"X: y\r\n", pause_s=0.02), "timeout"),
    "half a status line": (says(b"HTTP/1.1 2"), "timeout"),
    # without end
    "body": (says(OK + b"\r\n", again=b" " * 65_536), "too_large"),
    "headers": (says(OK, again=b"X: y\r\n" * 1000), "disconnect"),
    "header name": (says(OK, again=b"X" * 65_536), "disconnect"),
    "status line": (says(b"HTTP/1.1 200 ", again=b"O" * 65_536), "disconnect"),
    "chunk extension": (says(CHUNKED, b"1;", again=b"x" * 65_536), "timeout"),
    "trailers": (says(CHUNKED, b"0\r\n", again=b"X: y\r\n" * 1000), "disconnect"),
    "interim answers": (says(again=b"HTTP/1.1 100 Continue\r\n\r\n" * 100), "timeout"),
    "early hints": (says(again=b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" * 100), "timeout"),
    "gzip of nothing": (gzip_without_end(), "too_large"),
    "gzip file name": (
        says(OK + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x08\0\0\0\0\0\3", again=b"n" * 9999),
        "too_large",
    ),
    # compression that was not asked for, which is not touched
    "brotli": (says(response(b"x", "Content-Encoding: br")), "encoding"),
    "zstd": (says(response(b"x", "Content-Encoding: zstd")), "encoding"),
    "deflate": (says(response(zlib.compress(EMPTY), "Content-Encoding: deflate")), "encoding"),
    "twice": (says(response(nested_bomb(), "Content-Encoding: gzip, gzip")), "encoding"),
    "twice, in two headers": (
        says(response(nested_bomb(), *["Content-Encoding: gzip"] * 2)),
        "encoding",
    ),
    "twice, once concealed": (says(response(nested_bomb(), "Content-Encoding: gzip")), "not_xml"),
    "transfer encoding": (
        says(OK + b"Transfer-Encoding: gzip\r\n\r\n" + gzip.compress(EMPTY)),
        "timeout",  # such a body lasts as long as the connection
    ),
    # Content-Length
    "too small": (says(OK + b"Content-Length: 20\r\n\r\n" + EMPTY), "disconnect"),
    "too large": (says(OK + b"Content-Length: 2000\r\n\r\n" + EMPTY), "timeout"),
    "negative": (says(OK + b"Content-Length: -5\r\n\r\n" + EMPTY), "disconnect"),
    "past 64 bits": (says(OK + b"Content-Length: %d\r\n\r\n" % 10**30 + EMPTY), "disconnect"),
    "two of them": (says(response(EMPTY, "Content-Length: 5")), "disconnect"),
    "a list": (says(OK + b"Content-Length: 5, 5\r\n\r\n" + EMPTY), "disconnect"),
    "and chunked": (says(response(EMPTY, "Transfer-Encoding: chunked")), "disconnect"),
    # what is no answer
    "reset in the body": (
        resets_after(OK + b"Content-Length: 500\r\n\r\n" + EMPTY),
        "disconnect",
    ),
    "reset in the head": (resets_after(OK + b"Content-Le"), "disconnect"),
    "another protocol": (
        says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        "http_status:101",
    ),
    "NUL in a header": (says(OK + b"X: \0\r\nContent-Length: 0\r\n\r\n"), "disconnect"),
    "redirect with a body without end": (
        says(b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", again=b" " * 65_536),
        "redirect",
    ),
}


async def poll_both(
    hostile: ServerSettings, gone: asyncio.Event | None = None
) -> dict[str, PollResult]:
    """Poll a hostile server and a healthy one; with `gone`, wait for it before the end."""
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


def sockets() -> set[Path]:
    """Return this process's sockets."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(entry.readlink())
    return {link for link in found if link.name.startswith("socket:")}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_server(name: str) -> None:
    """It fails within its timeout with its code; the other one answers; nothing is left of it."""
    handler, code = HOSTILE[name]
    sockets_before = sockets()
    async with listening(handler) as listener:
        url = f"http://127.0.0.1:{listener.port}/bigbluebutton"
        hostile = make_server("hostile", url=url, timeout_s=SHORT_S if code == "timeout" else 20)
        results = await poll_both(hostile, listener.gone if code in FATAL else None)
    assert {name: result.outcome for name, result in results.items()} == {
        "hostile": code,
        "healthy": "ok",
    }
    for _ in range(200):  # closed sockets leave the loop a little later
        if asyncio.all_tasks() == {asyncio.current_task()} and sockets() <= sockets_before:
            break
        await asyncio.sleep(0.01)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert sockets() <= sockets_before


async def test_many_large_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What many servers send at once is held up to a limit; then the large ones are refused."""
    monkeypatch.setattr(body_module, "_MAX_HELD_BYTES", 2 * MAX_BODY_BYTES)
    monkeypatch.setattr(body_module, "_SHARE_BYTES", MAX_BODY_BYTES // 16)
    large = says(OK + b"\r\n", bytes(MAX_BODY_BYTES - 65_536))  # and then nothing, for ever
    outcomes: Counter[str] = Counter()
    async with (
        listening(large) as hostile,
        listening(healthy) as well,
        BbbClients() as clients,
    ):
        servers = [
            make_server(f"s{n}", url=f"http://127.0.0.1:{port}/bigbluebutton", timeout_s=timeout_s)
            for n, (port, timeout_s) in enumerate(
                [(hostile.port, 1.0)] * 10 + [(well.port, LONG_S)] * 2
            )
        ]
        poller = Poller(
            clients.make(servers, "getMeetings", parse_meetings, max_body_bytes=MAX_BODY_BYTES), 20
        )
        for _ in range(2):  # what was held is given back
            outcomes.clear()
            await poller.poll(TICK, LONG_S, lambda result: outcomes.update([result.outcome]))
            assert outcomes["ok"] == 2
            assert outcomes["timeout"] in {1, 2, 3}
            assert outcomes.total() == outcomes["ok"] + outcomes["timeout"] + outcomes["too_large"]


# -- connections that are used again -----------------------------------------------------------


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


# -- no connection -----------------------------------------------------------------------------


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


# -- TLS ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([b"\x16\x03\x03"], "timeout"),  # half a record's head
        ([b"\x16\x03\x03\x40\x00\x02", *[b"\0"] * 10_000], "timeout"),  # byte by byte
        ([b"\x16\x03\x03\xff\xff" + bytes(70_000)], "tls"),  # a record that is too long
        ([b"\x15\x03\x03\0\2\2\x28"], "tls"),  # the alert handshake_failure
    ],
)
async def test_handshake_that_goes_wrong(parts: list[bytes], code: str) -> None:
    """A handshake that hangs is a timeout, one that breaks a matter of TLS."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.001)
        while await reader.read(65_536):  # until the client has gone
            pass

    async with listening(handle) as listener:
        url = f"https://127.0.0.1:{listener.port}/bigbluebutton"
        hostile = make_server("hostile", url=url, timeout_s=SHORT_S if code == "timeout" else 20)
        results = await poll_both(hostile, listener.gone)
    assert (results["hostile"].outcome, results["healthy"].outcome) == (code, "ok")


CA_CONFIG = """
[ca]
default_ca = it
[it]
database = {folder}/index
serial = {folder}/serial
new_certs_dir = {folder}
default_md = sha256
policy = policy
x509_extensions = extensions
[policy]
commonName = supplied
[extensions]
subjectAltName = IP:127.0.0.1
basicConstraints = CA:TRUE
"""


def openssl(*arguments: str) -> None:
    """Run openssl."""
    command = ["openssl", *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def certificate(folder: Path, since: str, until: str) -> tuple[Path, Path]:
    """Make a self-signed certificate for 127.0.0.1, valid as said; return it and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    (folder / "index").touch()
    (folder / "serial").write_text("01\n")
    config = folder / "ca.conf"
    config.write_text(CA_CONFIG.format(folder=folder))
    request = folder / "request.pem"
    openssl(
        *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-subj", "/CN=bbb", "-keyout", str(key), "-out", str(request)),
    )
    openssl(
        *("ca", "-selfsign", "-batch", "-notext", "-config", str(config), "-keyfile", str(key)),
        *("-startdate", since, "-enddate", until, "-in", str(request), "-out", str(cert)),
    )
    return cert, key


@pytest.mark.parametrize(
    ("since", "until", "own", "code"),
    [
        ("20200101000000Z", "20990101000000Z", True, None),
        ("20200101000000Z", "20200201000000Z", True, "tls"),  # expired
        ("20980101000000Z", "20990101000000Z", True, "tls"),  # not yet valid
        ("20200101000000Z", "20990101000000Z", False, "tls"),  # of another authority
    ],
)
async def test_certificate(
    tmp_path: Path, since: str, until: str, *, own: bool, code: str | None
) -> None:
    """One that is out of its time, or of an authority that is not trusted, is refused."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    cert, key = certificate(folders[0], since, until)
    trusted = cert if own else certificate(folders[1], since, until)[0]
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert, key)
    async with listening(healthy, tls) as listener:
        url = f"https://127.0.0.1:{listener.port}/bigbluebutton"
        hostile = make_server("hostile", url=url, ca_file=trusted, timeout_s=LONG_S)
        results = await poll_both(hostile)
    assert (results["hostile"].outcome, results["healthy"].outcome) == (code, "ok")
