"""Clients that send requests to BigBlueButton servers. The caller says how to parse an answer.

A request has one deadline, `timeout_s`, from connecting to the last byte of the body. Clients do
not limit the number of connections, so a request never waits here for one of them. The caller
limits concurrent requests, also those to one host.
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

# Seconds for which an idle connection is kept. It is longer than the longest poll interval, and
# shorter than the 65 s after which nginx closes it, with the settings of Debian and BigBlueButton.
_KEEPALIVE_S = 63.0
# An open TLS connection takes about 150 kB; opening one takes a millisecond of processor time. So
# fleets with more servers than this close their connections after each answer.
_MAX_KEPT_CONNECTIONS = 1000
# Memory for reading TLS. asyncio allocates 256 KiB per connection, but a TLS record has at most
# 16 KiB, and 64 KiB are as fast. The buffers of all connections together should fit in the first
# number; each buffer has at least the second and at most the third.
_TLS_BUFFERS_BYTES = 32 * 1024 * 1024
_MIN_TLS_BUFFER_BYTES, _MAX_TLS_BUFFER_BYTES = 16 * 1024, 64 * 1024
_MAX_REDIRECTS = 3
_REDIRECTS = {301, 302, 303, 307, 308}
# Parsing a larger body takes milliseconds and runs in a thread, so that the event loop continues.
# There are few threads, so that large answers of hostile servers do not occupy the processor.
_INLINE_PARSE_BYTES = 256 * 1024
_PARSER_THREADS = 2
# Seconds (100 years). A Date header with a larger difference is ignored.
_MAX_SKEW_S = 100 * 366 * 86_400


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reply(Generic[T]):
    """A server's parsed answer, its clock skew, and when its certificate expires.

    `clock_skew_s` is how many seconds the server's clock was ahead of ours, to about a second.
    It is None if the server did not send its time. `tls_expires_at` is None without TLS.
    """

    value: T
    clock_skew_s: float | None
    tls_expires_at: datetime | None


class _Request(aiohttp.ClientRequest):
    """Rejects a kept connection on which the server sent data without a request."""

    async def send(self, conn: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        # aiohttp would take these data for the answer to this request, and each later answer for
        # that to the request after its own.
        if conn.protocol is not None and conn.protocol.should_close:
            raise aiohttp.ServerDisconnectedError  # aiohttp retries once, on another connection
        return await super().send(conn)


class _Response(aiohttp.ClientResponse):
    """Reads when the certificate expires; after the body, the connection is not accessible."""

    tls_expires_at: datetime | None = None

    async def start(self, connection: aiohttp.connector.Connection) -> Self:
        certificate = connection.transport and connection.transport.get_extra_info("peercert")
        if certificate:
            self.tls_expires_at = _certificate_time(certificate["notAfter"])
        await super().start(connection)
        return self


class BbbClients:
    """Makes the clients of a fleet, which share one HTTP session. An async context manager."""

    async def __aenter__(self) -> Self:
        """Open the session.

        It does not limit connections: waiting for one would use up the deadline of the request.
        `trust_env` stays off: with it, aiohttp would read ~/.netrc for each request and send the
        credentials from there. Clients look up their proxy themselves.
        """
        self._resolver = Resolver()
        self._holding = Holding()
        self._parsers = ThreadPoolExecutor(_PARSER_THREADS, thread_name_prefix="parser")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,
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
        """Close all connections, and cancel pending DNS lookups and parsing."""
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

        `call` is the call's name, such as `getMeetings`. `parse` turns a body into the reply's
        value. It may raise PollErrors, and it runs in a thread if the body is large.
        `max_body_bytes` limits a body as sent and after decompression. Raises SettingsError if
        the secret or `ca_file` of a server cannot be used.
        """
        # Servers with the same ca_file share a TLS context, which takes half a megabyte.
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
    """Sends one call to one server.

    It uses the proxy that the environment names for the server (`https_proxy`, `http_proxy`,
    `no_proxy`). The environment is read when the client is made.
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
        """Prepare requests to `server` with the signed `url`; see `BbbClients.make`.

        `tls` is the TLS context that verifies the certificate, or True for aiohttp's own.
        """
        self.host = server.host
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
        """Return the server's reply. Raises only PollErrors."""
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
                    # The Date header comes before the body, so take the time here.
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
    """Limit asyncio's buffers for reading TLS in this whole process, which polls `servers` servers.

    asyncio has no public way to do this, so it sets a private attribute. If a version of Python
    does not have the attribute, this has no effect.
    """
    share_bytes = _TLS_BUFFERS_BYTES // max(servers, 1)
    sslproto.SSLProtocol.max_size = min(
        max(share_bytes, _MIN_TLS_BUFFER_BYTES), _MAX_TLS_BUFFER_BYTES
    )


def _tls_context(server: ServerSettings) -> ssl.SSLContext | bool:
    """Return the TLS context for `ca_file`, or True for aiohttp's own; both verify certificates.

    Raises SettingsError if `ca_file` cannot be read or holds no certificate.
    """
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
    """Return how many seconds `date`, a Date header, is ahead of `now`; None if not usable."""
    said = _date(date or "")
    if said is None:
        return None
    skew_s = (said - now).total_seconds()
    return skew_s if abs(skew_s) < _MAX_SKEW_S else None


# Cached, as the servers of a fleet send the same few times and have few different certificates.
@lru_cache(maxsize=64)
def _date(header: str) -> datetime | None:
    """Return the time of a Date header, None if it is not valid. Without a zone it is GMT."""
    try:
        said = parsedate_to_datetime(header)
        return said.astimezone(UTC) if said.tzinfo else said.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


@lru_cache(maxsize=1024)
def _certificate_time(text: str) -> datetime:
    return utc(ssl.cert_time_to_seconds(text))
