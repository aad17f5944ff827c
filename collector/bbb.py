"""Clients that ask BigBlueButton servers for their meetings.

A request has one deadline, from the wait for a connection to the last byte of the body.
"""

import asyncio
import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Self
from urllib.request import getproxies, proxy_bypass

import aiohttp
from pydantic import SecretStr
from yarl import URL

from collector import __version__
from collector.checksum import signed_url
from collector.clock import utc
from collector.errors import HttpStatusError, RedirectError, SettingsError
from collector.model import Answer
from collector.parser import parse_meetings
from collector.settings import ServerSettings
from collector.transport import as_poll_error, read_body, redirected

# Longer than the longest poll interval, shorter than the 65 s after which nginx, as Debian and
# BigBlueButton set it up, closes an idle connection.
_KEEPALIVE_S = 63.0
# Many servers can be one load balancer, seen with each tenant's secret.
_CONNECTIONS_PER_HOST = 16
_DNS_CACHE_S = 60
_MAX_REDIRECTS = 3
_REDIRECTS = {301, 302, 303, 307, 308}
# Parsing more than this takes milliseconds and is left to a thread.
_INLINE_PARSE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Probe:
    """What `bbbmeter check` wants to know of a server.

    `clock_skew_s` is how far the server's clock is ahead, to a second or so; None without a
    usable Date header. `tls_expires_at` is None without TLS.
    """

    answer: Answer
    latency_ms: int
    clock_skew_s: float | None
    tls_expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class _Fetched:
    body: bytes
    date: str | None
    tls_expires_at: datetime | None


class _Response(aiohttp.ClientResponse):
    """Keeps the peer's certificate, which is out of reach once the body has been read."""

    tls_expires_at: datetime | None = None

    async def start(self, connection: aiohttp.connector.Connection) -> Self:
        certificate = connection.transport and connection.transport.get_extra_info("peercert")
        if certificate:
            self.tls_expires_at = utc(ssl.cert_time_to_seconds(certificate["notAfter"]))
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
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,
                limit_per_host=_CONNECTIONS_PER_HOST,
                keepalive_timeout=_KEEPALIVE_S,
                ttl_dns_cache=_DNS_CACHE_S,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(),
            headers={
                "User-Agent": f"bbbmeter/{__version__}",
                "Accept": "text/xml, application/xml",
                "Accept-Encoding": "gzip",
            },
            auto_decompress=False,
            response_class=_Response,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        await self._session.close()

    def make(
        self,
        servers: Iterable[ServerSettings],
        *,
        max_body_bytes: int,
        metadata_keys: frozenset[str] = frozenset(),
        room_names: bool = False,
    ) -> dict[str, "BbbClient"]:
        """Return a client for each of `servers`, by name.

        `max_body_bytes` limits a body as sent and after decompression. `metadata_keys` and
        `room_names` are as for `parse_meetings`. Raises SettingsError where a server's secret
        or `ca_file` cannot be used.
        """
        return {
            server.name: BbbClient(
                server,
                server.read_secret(),
                self._session,
                max_body_bytes=max_body_bytes,
                metadata_keys=metadata_keys,
                room_names=room_names,
            )
            for server in servers
        }


class BbbClient:
    """Asks one server for its meetings.

    A proxy is used where the environment names one for the server (`https_proxy`, `http_proxy`,
    `no_proxy`), as of the client's making.
    """

    def __init__(
        self,
        server: ServerSettings,
        secret: SecretStr,
        session: aiohttp.ClientSession,
        *,
        max_body_bytes: int,
        metadata_keys: frozenset[str],
        room_names: bool,
    ) -> None:
        """Prepare requests to `server`, signed with `secret`; see `BbbClients.make`."""
        self._url = signed_url(server.api_url, "getMeetings", secret, server.checksum)
        self._timeout_s = server.timeout_s
        self._tls = _tls_context(server)
        self._proxy = _proxy_for(self._url)
        self._max_body_bytes = max_body_bytes
        self._metadata_keys = metadata_keys
        self._room_names = room_names
        self._session = session

    async def get_meetings(self) -> Answer:
        """Return the server's meetings. Raises nothing but PollErrors."""
        with as_poll_error():
            fetched = await self._fetch()
            return await self._parse(fetched.body)

    async def probe(self) -> Probe:
        """Ask as `get_meetings` does, and look at clock and certificate. Raises PollErrors."""
        with as_poll_error():
            started_s = time.monotonic()
            fetched = await self._fetch()
            latency_ms = round((time.monotonic() - started_s) * 1000)
            skew_s = _clock_skew_s(fetched.date, datetime.now(UTC))
            answer = await self._parse(fetched.body)
            return Probe(answer, latency_ms, skew_s, fetched.tls_expires_at)

    async def _parse(self, body: bytes) -> Answer:
        def parse() -> Answer:
            return parse_meetings(
                body, metadata_keys=self._metadata_keys, room_names=self._room_names
            )

        return parse() if len(body) <= _INLINE_PARSE_BYTES else await asyncio.to_thread(parse)

    async def _fetch(self) -> _Fetched:
        url = self._url
        async with asyncio.timeout(self._timeout_s):
            for _ in range(_MAX_REDIRECTS + 1):
                async with self._session.get(
                    url, allow_redirects=False, ssl=self._tls, proxy=self._proxy
                ) as response:
                    if response.status in _REDIRECTS:
                        url = redirected(url, response.headers.get("Location", ""))
                        continue
                    if response.status != 200:  # noqa: PLR2004 - the one status that means yes
                        raise HttpStatusError(response.status)
                    body = await read_body(response, self._max_body_bytes)
                    expires_at = getattr(response, "tls_expires_at", None)
                    return _Fetched(body, response.headers.get("Date"), expires_at)
        msg = f"more than {_MAX_REDIRECTS} redirects"
        raise RedirectError(msg)


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
    try:
        return (parsedate_to_datetime(date or "").astimezone(UTC) - now).total_seconds()
    except (ValueError, OverflowError):
        return None
