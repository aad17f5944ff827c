"""What can go wrong between the collector and a server, as PollErrors; redirects.

The signed URL is in no message: exceptions of aiohttp that carry it are not kept as causes.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
from yarl import URL

from collector.errors import (
    ConnectError,
    DisconnectError,
    DnsError,
    EncodingError,
    InternalError,
    PollError,
    RedirectError,
    RequestTimeoutError,
    TlsError,
)


def redirected(url: URL, location: str) -> URL:
    """Return where a redirect from `url` to `location` leads.

    Raises RedirectError unless that is the same host and port, or the host's HTTPS from HTTP.
    """
    try:
        target = url.join(URL(location, encoded=True))
        port = target.port  # looked at only now
    except ValueError:
        target, port = URL(), None
    if target.scheme not in {"http", "https"} or not port or target.user or target.password:
        msg = "the server redirects to no usable address"
        raise RedirectError(msg)
    if (target.host or "").lower() != url.host:
        msg = "the server redirects to another host"
        raise RedirectError(msg)
    if url.scheme == "https" and target.scheme == "http":
        msg = "the server redirects from HTTPS to HTTP"
        raise RedirectError(msg)
    if url.scheme == target.scheme and url.port != port:
        msg = "the server redirects to another port"
        raise RedirectError(msg)
    return target


@contextmanager
def as_poll_error() -> Iterator[None]:
    """Turn whatever goes wrong into a PollError."""
    try:
        yield
    except PollError:
        raise
    except TimeoutError as error:
        msg = "no complete answer in time"
        raise RequestTimeoutError(msg) from error
    except (aiohttp.ClientResponseError, aiohttp.InvalidURL) as error:
        raise _poll_error(error) from None  # they carry the signed URL
    except Exception as error:
        raise _poll_error(error) from error


def _poll_error(error: Exception) -> PollError:
    """Return the PollError that says what `error` means."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else None
    kind: type[PollError]
    match error:
        case aiohttp.ClientConnectorDNSError() | aiohttp.InvalidURL() | UnicodeError():
            kind, msg = DnsError, "the host name cannot be resolved"
        case aiohttp.ClientSSLError():
            kind, msg = TlsError, f"TLS: {cause}"
        case aiohttp.ClientConnectorError() if isinstance(
            cause, ConnectionResetError | ConnectionAbortedError
        ):
            # A connection that was made, and broke before the request: in the handshake.
            kind, msg = TlsError, "the connection broke in the TLS handshake"
        case aiohttp.ClientHttpProxyError():
            kind, msg = ConnectError, f"the proxy refuses with HTTP status {error.status}"
        case aiohttp.ClientConnectorError():
            kind, msg = ConnectError, f"no connection: {cause}"
        case aiohttp.ClientResponseError():
            kind, msg = DisconnectError, "the answer is no HTTP"
        case aiohttp.ClientError() | OSError():
            kind, msg = DisconnectError, "the connection broke before the answer was complete"
        case zlib.error():
            kind, msg = EncodingError, "the answer cannot be decompressed"
        case _:
            kind, msg = InternalError, f"{type(error).__name__} while asking the server"
    return kind(msg)
