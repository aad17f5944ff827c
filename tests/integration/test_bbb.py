"""The client against real servers: what answers well, which redirects are followed."""

import asyncio
import gzip
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from pydantic import SecretStr
from yarl import URL

from collector.bbb import BbbClient, BbbClients
from collector.bbb.checksum import signed_url
from collector.errors import SettingsError
from collector.model import Answer
from collector.sources.polling.parser import parse_meetings
from tests.support.fake_servers import (
    EMPTY,
    SECRET,
    failure,
    redirects,
    response,
    sends,
    serving,
    signed,
)
from tests.support.settings import make_server

pytestmark = pytest.mark.usefixtures("_no_proxy")


# -- what answers -------------------------------------------------------------------------------


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


# -- redirects ----------------------------------------------------------------------------------


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


# -- what is not the server's fault -------------------------------------------------------------


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


async def test_a_request_does_not_wait_for_others(
    make_client: Callable[..., BbbClient[Answer]],
) -> None:
    """Requests to one host all begin at once, so that no wait uses up their deadline.

    The server answers when it has all of them.
    """
    number = 40
    asked = 0
    all_asked = asyncio.Event()

    async def answers_all_together(head: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        if asked == number:
            all_asked.set()
        await all_asked.wait()
        await signed(head, writer)

    async with serving(answers_all_together) as server:
        client = make_client(server.port)
        await asyncio.gather(*(client.ask() for _ in range(number)))


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
