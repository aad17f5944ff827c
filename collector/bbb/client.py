"""Clients that ask BigBlueButton servers; what an answer means is for others to say.

A request has one deadline, from the wait for a connection to the last byte of the body.
"""

import asyncio
import ssl
from asyncio import sslproto
from collections.abc import Callable, Collection
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from pathlib import Path
from typing import Generic, Self, TypeVar
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from collector import __version__
from collector.bbb.body import Holding, read_body
from collector.bbb.checksum import signed_url
from collector.bbb.failures import as_poll_error, redirected
from collector.bbb.resolver import Resolver
from collector.clock import utc
from collector.errors import HttpStatusError, RedirectError, SettingsError
from collector.settings import ServerSettings

# Longer than the longest poll interval, shorter than the 65 s after which nginx, as Debian and
# BigBlueButton set it up, closes an idle connection.
_KEEPALIVE_S = 63.0
# A connection with TLS takes some 150 kB while it is kept; to make one takes a millisecond of the
# processor. So those of larger fleets are closed.
_MAX_KEPT_CONNECTIONS = 1000
# asyncio sets aside 256 KiB for each connection with TLS, of which a record has 16 at most: with
# 64 KiB it reads as fast. All connections together are to have so much, if that is enough.
_TLS_BUFFERS_BYTES = 32 * 1024 * 1024
_MIN_TLS_BUFFER_BYTES, _MAX_TLS_BUFFER_BYTES = 16 * 1024, 64 * 1024
# Many servers can be one load balancer, seen with each tenant's secret.
_CONNECTIONS_PER_HOST = 16
_MAX_REDIRECTS = 3
_REDIRECTS = {301, 302, 303, 307, 308}
# Parsing more than this takes milliseconds and is left to a thread, of which there are few: what
# hostile servers send is parsed one after the other, and what others do in threads goes on.
_INLINE_PARSE_BYTES = 256 * 1024
_PARSER_THREADS = 2
# A clock that is further off than this tells nothing.
_MAX_SKEW_S = 100 * 366 * 86_400


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reply(Generic[T]):
    """What a server answered, parsed, and what its connection showed beside it.

    `clock_skew_s` is how many seconds the server's clock was ahead of ours, to a second or so;
    None where the server did not send its time. `tls_expires_at` is None without TLS.
    """

    value: T
    clock_skew_s: float | None
    tls_expires_at: datetime | None


class _Request(aiohttp.ClientRequest):
    """Takes no connection on which something came that nobody had asked for."""

    async def send(self, conn: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        # aiohttp would take it for the answer to this request, and be one behind from then on.
        if conn.protocol is not None and conn.protocol.should_close:
            raise aiohttp.ServerDisconnectedError  # which is tried once more, on another one
        return await super().send(conn)


class _Response(aiohttp.ClientResponse):
    """Keeps the peer's certificate, which is out of reach once the body has been read."""

    tls_expires_at: datetime | None = None

    async def start(self, connection: aiohttp.connector.Connection) -> Self:
        certificate = connection.transport and connection.transport.get_extra_info("peercert")
        if certificate:
            self.tls_expires_at = _certificate_time(certificate["notAfter"])
        await super().start(connection)
        return self


class BbbClients:
    """The clients of a fleet, and the HTTP session that they share; an async context manager."""

    async def __aenter__(self) -> Self:
        """Open the session.

        How many requests are under way is the poller's business, so connections have no limit
        but that per host. `trust_env` stays off, as aiohttp would then read ~/.netrc for each
        request and send what it finds there; clients look up their proxy themselves.
        """
        self._resolver = Resolver()
        self._holding = Holding()
        self._parsers = ThreadPoolExecutor(_PARSER_THREADS, thread_name_prefix="parser")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,
                limit_per_host=_CONNECTIONS_PER_HOST,
                keepalive_timeout=_KEEPALIVE_S,
                resolver=self._resolver,
                use_dns_cache=False,  # the resolver has its own
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(),
            headers={
                "User-Agent": f"bbbmeter/{__version__}",
                "Accept": "text/xml, application/xml",
                "Accept-Encoding": "gzip",
            },
            auto_decompress=False,
            request_class=_Request,
            response_class=_Response,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all connections, and give up what is being looked up or waits to be parsed."""
        await self._session.close()
        await self._resolver.close()
        self._parsers.shutdown(wait=False, cancel_futures=True)

    def make(
        self,
        servers: Collection[ServerSettings],
        call: str,
        parse: Callable[[bytes], T],
        *,
        max_body_bytes: int,
    ) -> dict[str, "BbbClient[T]"]:
        """Return a client for each of `servers`, by name, for one call of the API.

        `call` is its name, such as `getMeetings`. `parse` turns a body into the reply's value; it
        may raise PollErrors, and runs in a thread where a body is large. `max_body_bytes` limits
        a body as sent and after decompression. Raises SettingsError where a server's secret or
        `ca_file` cannot be used.
        """
        # Servers with the same authority share what was read of it: it takes half a megabyte.
        contexts: dict[Path | None, ssl.SSLContext | bool] = {}
        for server in servers:
            if server.ca_file not in contexts:
                contexts[server.ca_file] = _tls_context(server)
        return {
            server.name: BbbClient(
                server,
                signed_url(server.api_url, call, server.read_secret(), server.checksum),
                parse,
                self._session,
                self._holding,
                self._parsers,
                tls=contexts[server.ca_file],
                keep_connection=len(servers) <= _MAX_KEPT_CONNECTIONS,
                max_body_bytes=max_body_bytes,
            )
            for server in servers
        }


class BbbClient(Generic[T]):
    """Asks one server one call.

    A proxy is used where the environment names one for the server (`https_proxy`, `http_proxy`,
    `no_proxy`), as of the client's making.
    """

    def __init__(
        self,
        server: ServerSettings,
        url: URL,
        parse: Callable[[bytes], T],
        session: aiohttp.ClientSession,
        holding: Holding,
        parsers: Executor,
        *,
        tls: ssl.SSLContext | bool,
        keep_connection: bool,
        max_body_bytes: int,
    ) -> None:
        """Prepare requests of `url`, which is signed, to `server`; see `BbbClients.make`.

        `tls` verifies its certificate; True is aiohttp's own, which does.
        """
        self._url = url
        self._parse = parse
        self._timeout_s = server.timeout_s
        self._tls = tls
        self._headers = {} if keep_connection else {"Connection": "close"}
        self._proxy = _proxy_for(self._url)
        self._max_body_bytes = max_body_bytes
        self._session = session
        self._holding = holding
        self._parsers = parsers

    async def ask(self) -> Reply[T]:
        """Return the server's reply. Raises nothing but PollErrors."""
        with as_poll_error(), self._holding.body() as grow_to:
            fetched = await self._fetch(grow_to)
            return Reply(
                await self._parsed(fetched.value), fetched.clock_skew_s, fetched.tls_expires_at
            )

    async def _parsed(self, body: bytes) -> T:
        if len(body) <= _INLINE_PARSE_BYTES:
            return self._parse(body)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._parsers, self._parse, body)

    async def _fetch(self, grow_to: Callable[[int], None]) -> Reply[bytes]:
        url = self._url
        async with asyncio.timeout(self._timeout_s):
            for _ in range(_MAX_REDIRECTS + 1):
                asked_at = datetime.now(UTC)
                async with self._session.get(
                    url,
                    headers=self._headers,
                    allow_redirects=False,
                    ssl=self._tls,
                    proxy=self._proxy,
                ) as response:
                    if response.status in _REDIRECTS:
                        url = redirected(url, response.headers.get("Location", ""))
                        continue
                    if response.status != 200:  # noqa: PLR2004 - the one status that means yes
                        raise HttpStatusError(response.status)
                    # The server says its time with the head, before the body.
                    answered_at = datetime.now(UTC)
                    body = await read_body(response, self._max_body_bytes, grow_to)
                    middle = asked_at + (answered_at - asked_at) / 2
                    return Reply(
                        body,
                        _clock_skew_s(response.headers.get("Date"), middle),
                        getattr(response, "tls_expires_at", None),
                    )
        msg = f"more than {_MAX_REDIRECTS} redirects"
        raise RedirectError(msg)


def limit_tls_buffers(servers: int) -> None:
    """Bound what asyncio sets aside for reading TLS, in this whole process, for `servers` servers.

    By a private attribute of asyncio's: there is no public way. Where Python has it no more, this
    does nothing.
    """
    share_bytes = _TLS_BUFFERS_BYTES // max(servers, 1)
    sslproto.SSLProtocol.max_size = min(
        max(share_bytes, _MIN_TLS_BUFFER_BYTES), _MAX_TLS_BUFFER_BYTES
    )


def _tls_context(server: ServerSettings) -> ssl.SSLContext | bool:
    """Return what verifies the server's certificate; True is aiohttp's own, which verifies."""
    if server.ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=server.ca_file)
    except OSError as error:  # ssl.SSLError is one
        problem = f"ca_file: {server.ca_file}: {error.strerror or 'holds no certificate'}"
        raise SettingsError([problem], f"server[{server.name}]") from error


def _proxy_for(url: URL) -> URL | None:
    proxy = getproxies().get(url.scheme)
    return URL(proxy) if proxy and not proxy_bypass(url.host or "") else None


def _clock_skew_s(date: str | None, now: datetime) -> float | None:
    """Return how far a clock that says `date` (a header) is ahead of `now`; None if unclear."""
    said = _date(date or "")
    if said is None:
        return None
    skew_s = (said - now).total_seconds()
    return skew_s if abs(skew_s) < _MAX_SKEW_S else None


# A fleet's servers say the same few seconds, and have certificates of a few days.
@lru_cache(maxsize=64)
def _date(header: str) -> datetime | None:
    """Return what a Date header says; one that names no zone means GMT, as all are to do."""
    try:
        said = parsedate_to_datetime(header)
        return said.astimezone(UTC) if said.tzinfo else said.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


@lru_cache(maxsize=1024)
def _certificate_time(text: str) -> datetime:
    return utc(ssl.cert_time_to_seconds(text))
