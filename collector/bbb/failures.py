"""Turns failures between collector and server into PollErrors, and checks redirects.

No message contains the signed URL. Exceptions of aiohttp that contain it are not kept as causes.
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
    """Return the target of a redirect from `url` to `location`.

    Raises RedirectError unless the target has the same host and port, or is HTTPS of the same host
    from HTTP.
    """
    try:
        target = url.join(URL(location, encoded=True))
        port = target.port  # yarl checks the port only here
    except ValueError:
        target, port = URL(), None
    if target.scheme not in {"http", "https"} or not port or target.user or target.password:
        msg = "the server redirects to an address that is not usable"
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
    """Turn every exception inside the context into a PollError."""
    try:
        yield
    except PollError:
        raise
    except TimeoutError as error:
        msg = "no complete answer within timeout_s"
        raise RequestTimeoutError(msg) from error
    except (aiohttp.ClientResponseError, aiohttp.InvalidURL) as error:
        raise _poll_error(error) from None  # they carry the signed URL
    except Exception as error:
        raise _poll_error(error) from error


def _poll_error(error: Exception) -> PollError:
    """Return the PollError that describes `error`."""
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
            # The connection was made and broke before the request, so in the TLS handshake.
            kind, msg = TlsError, "the connection broke in the TLS handshake"
        case aiohttp.ClientHttpProxyError():
            kind, msg = ConnectError, f"the proxy answered with HTTP status {error.status}"
        case aiohttp.ClientConnectorError():
            kind, msg = ConnectError, f"no connection: {cause}"
        case aiohttp.ClientResponseError():
            kind, msg = DisconnectError, "the answer is not valid HTTP"
        case aiohttp.ClientError() | OSError():
            kind, msg = DisconnectError, "the connection broke before the answer was complete"
        case zlib.error():
            kind, msg = EncodingError, "the answer cannot be decompressed"
        case _:
            kind, msg = InternalError, f"{type(error).__name__} while asking the server"
    return kind(msg)
