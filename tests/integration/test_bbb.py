"""The client against real servers: what answers well, and every way in which one can fail."""

import asyncio
import contextlib
import gzip
import ssl
import subprocess
import threading
import traceback
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from yarl import URL

from collector.bbb import BbbClient, BbbClients
from collector.bbb.checksum import signed_url, verify
from collector.errors import PollError, SettingsError
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
pytestmark = pytest.mark.usefixtures("_no_proxy")


@dataclass
class Server:
    """A fake server: its port, the requests it got, and how many connections it saw."""

    port: int
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)


@contextlib.asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """Serve on a free port of the loopback: `handler` gets each request's head and the stream."""

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
        # A task of our own: asyncio complains if its own is cancelled.
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
    """Return a handler that sends `data`, and perhaps closes the connection."""

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


async def resets(_: bytes, writer: asyncio.StreamWriter) -> None:
    """Reset the connection."""
    writer.transport.abort()


@pytest.fixture
async def make_client() -> AsyncIterator[Callable[..., BbbClient[Answer]]]:
    """Make clients that share a session."""
    async with BbbClients() as clients:

        def make(
            port: int = 0,
            scheme: str = "http",
            parse: Callable[[bytes], Answer] = parse_meetings,
            **changes: Any,  # noqa: ANN401
        ) -> BbbClient[Answer]:
            values = {
                "url": f"{scheme}://127.0.0.1:{port}/bigbluebutton",
                "secret": SecretStr(SECRET),
                "timeout_s": 20,
                **changes,
            }
            server = make_server("bbb1", **values)
            made = clients.make([server], "getMeetings", parse, max_body_bytes=MAX_BODY_BYTES)
            return made["bbb1"]

        yield make


async def failure(client: BbbClient[Answer]) -> str:
    """Return the code of the PollError that a poll ends in; it gives nothing away."""
    with pytest.raises(PollError) as caught:
        await client.ask()
    shown = "".join(traceback.format_exception(caught.value)) + repr(client)
    assert "checksum=" not in shown
    assert SECRET not in shown
    return caught.value.full_outcome


# -- what answers ------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha384", "sha512"])
async def test_answer(make_client: Callable[..., BbbClient[Answer]], algorithm: str) -> None:
    """A request signed with any of the algorithms is answered."""
    async with serving(signed) as server:
        reply = await make_client(server.port, checksum=algorithm).ask()
    assert reply.value.meetings == ()
    assert b"User-Agent: bbbmeter/" in server.requests[0]


async def test_wrong_secret(make_client: Callable[..., BbbClient[Answer]]) -> None:
    """A wrong secret is told by BigBlueButton's key."""
    async with serving(signed) as server:
        client = make_client(server.port, secret=SecretStr("another"))
        assert await failure(client) == "api_error:checksumError"


async def test_connection_is_kept(make_client: Callable[..., BbbClient[Answer]]) -> None:
    """One connection serves one poll after the other."""
    async with serving(signed) as server:
        client = make_client(server.port)
        for _ in range(3):
            await client.ask()
    assert (len(server.requests), server.connections) == (3, 1)


async def test_server_closed_the_idle_connection(
    make_client: Callable[..., BbbClient[Answer]],
) -> None:
    """A connection that the server closed between two polls costs no sample."""
    async with serving(sends(response(EMPTY), close=True)) as server:
        client = make_client(server.port)
        for _ in range(3):
            await client.ask()
    assert server.connections == 3


async def test_gzip(make_client: Callable[..., BbbClient[Answer]]) -> None:
    """A compressed answer is decompressed, in steps if it is large."""
    body = EMPTY.replace(b"<meetings/>", b"<meetings>" + b" " * 900_000 + b"</meetings>")
    for content in (EMPTY, body):
        data = response(gzip.compress(content), "200 OK", "Content-Encoding: gzip")
        async with serving(sends(data)) as server:
            assert (await make_client(server.port).ask()).value.meetings == ()


async def test_large_answers_are_parsed_in_two_threads(
    make_client: Callable[..., BbbClient[Answer]],
) -> None:
    """What takes long to parse leaves the event loop alone, and waits while two others do."""
    free = threading.Event()
    started = threading.Semaphore(0)
    threads: list[threading.Thread] = []

    def watched(_: bytes) -> Answer:
        threads.append(threading.current_thread())
        if threads[-1] is not threading.main_thread():
            started.release()
            free.wait()
        return Answer()

    async with serving(signed) as server:
        await make_client(server.port, parse=watched).ask()
    assert threads == [threading.main_thread()]
    body = EMPTY.replace(b"<meetings/>", b"<meetings>" + b" " * 300_000 + b"</meetings>")
    async with serving(sends(response(body))) as server:
        client = make_client(server.port, parse=watched)
        tasks = [asyncio.create_task(client.ask()) for _ in range(4)]
        try:
            for _ in range(2):
                await asyncio.to_thread(started.acquire)
            assert len(threads) == 3
        finally:
            free.set()
        await asyncio.gather(*tasks)
    assert len(threads) == 5
    assert len(set(threads)) == 3


async def test_clock_ahead(make_client: Callable[..., BbbClient[Answer]]) -> None:
    """A reply has how far the server's clock is ahead, and no certificate without TLS."""
    ahead = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    async with serving(sends(response(EMPTY, "200 OK", f"Date: {ahead}"))) as server:
        reply = await make_client(server.port).ask()
    assert reply.value.meetings == ()
    assert reply.clock_skew_s == pytest.approx(3600, abs=60)
    assert reply.tls_expires_at is None


@pytest.mark.parametrize("header", ["X: y", "Date: soon", "Date: Fri, 31 Dec 9999 23:59:59 -2300"])
async def test_clock_unknown(make_client: Callable[..., BbbClient[Answer]], header: str) -> None:
    """Without a usable Date header the clock is unknown."""
    async with serving(sends(response(EMPTY, "200 OK", header))) as server:
        assert (await make_client(server.port).ask()).clock_skew_s is None


async def test_proxy_of_the_environment(
    make_client: Callable[..., BbbClient[Answer]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy is used where the environment names one, with its password; `no_proxy` is heeded."""
    async with serving(sends(response(EMPTY))) as proxy, serving(signed) as server:
        monkeypatch.setenv("http_proxy", f"http://user:word@127.0.0.1:{proxy.port}")
        await make_client(url="http://bbb.invalid/bigbluebutton").ask()
        assert proxy.requests[0].startswith(b"GET http://bbb.invalid/bigbluebutton/api/getMeetings")
        assert b"Proxy-Authorization: Basic dXNlcjp3b3Jk" in proxy.requests[0]
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        await make_client(server.port).ask()
    assert len(proxy.requests) == 1


# -- what fails --------------------------------------------------------------------------------


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


@pytest.mark.parametrize("host", ["nonexistent.invalid", "x" * 64 + ".invalid", "1.2.3.256"])
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


async def test_own_bug(make_client: Callable[..., BbbClient[Answer]]) -> None:
    """A bug of ours is told from the server's failures."""

    def broken(_: bytes) -> Answer:
        raise LookupError

    async with serving(signed) as server:
        assert await failure(make_client(server.port, parse=broken)) == "internal"


async def test_cancellation_passes_through(make_client: Callable[..., BbbClient[Answer]]) -> None:
    """A poll that is cancelled is cancelled, and no failure."""
    async with serving(sends(b"")) as server:
        task = asyncio.create_task(make_client(server.port).ask())
        await server.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


# -- redirects ---------------------------------------------------------------------------------


def redirects(*locations: str) -> Handler:
    """Return a handler that redirects to one location after the other, and then answers."""
    left = list(locations)

    async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
        if not left:
            await signed(head, writer)
            return
        query = head.split(b" ")[1].decode().partition("?")[2]
        location = left.pop(0).replace("QUERY", query)
        writer.write(response(b"moved", "302 Found", f"Location: {location}"))

    return handle


@pytest.mark.parametrize("count", [1, 3])
async def test_redirect_on_the_same_host(
    make_client: Callable[..., BbbClient[Answer]], count: int
) -> None:
    """Up to three redirects on the same host are followed, the query as it is."""
    async with serving(redirects(*["/bigbluebutton/api/getMeetings?QUERY"] * count)) as server:
        await make_client(server.port).ask()
    assert len(server.requests) == count + 1


@pytest.mark.parametrize(
    "location",
    [
        *("http://other.invalid/?QUERY", "//other.invalid/", "http://127.0.0.1.other.invalid/"),
        *("ftp://127.0.0.1/", "http://user@127.0.0.1/", "http://[", "http://127.0.0.1:x/"),
        *("javascript:alert(1)", "file:///etc/passwd", "http://127.0.0.1:99999/"),
        *("http://127.0.0.1:1/?QUERY", "http://127.0.0.1/?QUERY", "http://127.0.0.1:/?QUERY"),
        *("http://2130706433/?QUERY", "http://localhost/?QUERY", "gopher://127.0.0.1/"),
        *("http://127.0.0.1%2eother.invalid/", "http://127.0.0.1\\@other/"),
    ],
)
async def test_redirect_elsewhere(
    make_client: Callable[..., BbbClient[Answer]], location: str
) -> None:
    """Another host or port never sees the checksum."""
    async with serving(redirects(location)) as server:
        assert await failure(make_client(server.port)) == "redirect"
    assert len(server.requests) == 1


@pytest.mark.parametrize("location", ["/bigbluebutton/api/getMeetings?QUERY", "", "?QUERY"])
async def test_redirect_loop(make_client: Callable[..., BbbClient[Answer]], location: str) -> None:
    """A loop ends after three redirects."""
    async with serving(redirects(*[location] * 10)) as server:
        assert await failure(make_client(server.port)) == "redirect"
    assert len(server.requests) == 4


# -- TLS ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, valid for 30 days, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30"
    names = ["-subj", "/CN=bbb", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [*command.split(), *names, "-keyout", str(key), "-out", str(cert)],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return cert, key


@pytest.fixture
def tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    """The server's side of TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    return context


async def test_untrusted_certificate(
    make_client: Callable[..., BbbClient[Answer]], tls: ssl.SSLContext
) -> None:
    """A self-signed certificate is refused."""
    async with serving(signed, tls) as server:
        assert await failure(make_client(server.port, "https")) == "tls"
    assert not server.requests


async def test_own_authority(
    make_client: Callable[..., BbbClient[Answer]],
    tls: ssl.SSLContext,
    certificate: tuple[Path, Path],
) -> None:
    """With `ca_file` the certificate is trusted, and its end is known."""
    async with serving(signed, tls) as server:
        client = make_client(server.port, "https", ca_file=certificate[0])
        reply = await client.ask()
    assert reply.tls_expires_at is not None
    assert timedelta(29) < reply.tls_expires_at - datetime.now(UTC) < timedelta(31)


async def test_certificate_for_another_name(
    make_client: Callable[..., BbbClient[Answer]],
    tls: ssl.SSLContext,
    certificate: tuple[Path, Path],
) -> None:
    """A trusted certificate for another host is refused."""
    async with serving(signed, tls) as server:
        url = f"https://localhost:{server.port}/bigbluebutton"
        assert await failure(make_client(url=url, ca_file=certificate[0])) == "tls"


async def test_no_tls_behind_https(make_client: Callable[..., BbbClient[Answer]]) -> None:
    """A server that answers TLS in plain text, or hangs up, fails in TLS."""

    async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.transport.abort()

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(response(b"", "400 Bad Request"))
        await writer.drain()
        writer.close()

    for handler in (plain, hangs_up):
        listener = await asyncio.start_server(handler, "127.0.0.1", 0)
        async with listener:
            port = listener.sockets[0].getsockname()[1]
            assert await failure(make_client(port, "https")) == "tls"


async def test_no_way_from_https_to_http(
    make_client: Callable[..., BbbClient[Answer]],
    tls: ssl.SSLContext,
    certificate: tuple[Path, Path],
) -> None:
    """A redirect from HTTPS to HTTP is refused, one from HTTP to HTTPS followed."""
    ca_file = certificate[0]
    path = "/bigbluebutton/api/getMeetings?QUERY"
    async with serving(signed) as plain, serving(signed, tls) as secure:
        down, up = (
            f"http://127.0.0.1:{plain.port}{path}",
            f"https://127.0.0.1:{secure.port}{path}",
        )
        async with serving(redirects(down), tls) as server:
            assert await failure(make_client(server.port, "https", ca_file=ca_file)) == "redirect"
        assert not plain.requests
        async with serving(redirects(up)) as server:
            await make_client(server.port, ca_file=ca_file).ask()


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_unusable_ca_file(
    make_client: Callable[..., BbbClient[Answer]], tmp_path: Path, content: str | None
) -> None:
    """A `ca_file` that is missing or holds no certificate is a matter of the settings."""
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_text(content, encoding="utf-8")
    with pytest.raises(SettingsError, match=r"server\[bbb1\]: ca_file: .*ca\.pem"):
        make_client(1, "https", ca_file=ca_file)


async def test_missing_secret() -> None:
    """A secret that is missing is told before the first poll."""
    server = make_server("bbb1", secret=None, secret_env="BBBMETER_TEST_NO_SUCH_SECRET")
    async with BbbClients() as clients:
        with pytest.raises(SettingsError, match="BBBMETER_TEST_NO_SUCH_SECRET"):
            clients.make([server], "getMeetings", parse_meetings, max_body_bytes=1024)


def test_signed_url_is_not_shown() -> None:
    """The test of what is shown can fail: the URL does hold what must not be shown."""
    url = signed_url(URL("http://h/api/"), "getMeetings", SecretStr(SECRET), "sha256")
    assert "checksum=" in str(url)
