"""Connections of the HTTP port: few, short, and quiet in the log.

The port has no login. Whatever a client does with it, polling must have file descriptors, and the
log must not fill the disk.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog
from aiohttp import web

log = structlog.get_logger(__name__)

# Concurrent connections. A new one closes the oldest, so that a probe gets its answer also while
# somebody holds connections open.
MAX_CONNECTIONS = 64
# Connections that one turn of the event loop accepts, before it closes those that are too many.
BACKLOG = 16
# A connection is closed after this time, whatever was sent: an answer takes milliseconds.
CONNECTION_S = 10.0
# Errors of the port are logged at most once in this time.
LOG_EVERY_S = 60.0


class Connections:
    """Makes the protocol of each connection, and bounds what all connections together can use."""

    def __init__(self, server: web.Server) -> None:
        """Pass requests to `server`."""
        self.server = server
        self._quiet_until_s = float("-inf")

    def connect(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        return _Connection(self)

    def request_failed(self, error: BaseException | None) -> None:
        """Log a request that could not be answered, without its address and its content."""
        if self._may_log():
            log.warning("http_request_failed", error=type(error).__name__)

    def loop_failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle an error that the event loop found; without a file descriptor, it has many."""
        if "accept" not in context["message"]:
            loop.default_exception_handler(context)
        elif self._may_log():
            log.warning("http_accept_failed", error=str(context.get("exception")))

    def _may_log(self) -> bool:
        """Return whether an error may be logged: at most one in LOG_EVERY_S."""
        now_s = time.monotonic()
        if now_s < self._quiet_until_s:
            return False
        self._quiet_until_s = now_s + LOG_EVERY_S
        return True


class _Connection(web.RequestHandler):
    """One connection, which ends in time."""

    def __init__(self, connections: Connections) -> None:
        super().__init__(connections.server, loop=asyncio.get_running_loop(), access_log=None)  # type: ignore[arg-type]
        self._connections = connections
        self._end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._end = asyncio.get_running_loop().call_later(CONNECTION_S, self.abort)
        # Those that are closing already are still in the list.
        open_ones = [c for c in self._connections.server.connections if c.transport is not None]
        for oldest in open_ones[: max(len(open_ones) - MAX_CONNECTIONS, 0)]:
            oldest.abort()  # type: ignore[attr-defined]

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)

    def abort(self) -> None:
        """Close the connection now, without waiting for the client."""
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()

    def log_exception(self, *_: object, exc_info: BaseException | None = None) -> None:
        self._connections.request_failed(exc_info)


@asynccontextmanager
async def listening(server: web.Server, host: str, port: int) -> AsyncIterator[int]:
    """Accept bounded connections for `server` until the context ends; yield the port.

    Raises OSError if the port cannot be used.
    """
    loop = asyncio.get_running_loop()
    connections = Connections(server)
    before = loop.get_exception_handler()
    listener = await loop.create_server(connections.connect, host, port, backlog=BACKLOG)
    loop.set_exception_handler(connections.loop_failed)
    try:
        bound: int = listener.sockets[0].getsockname()[1]
        yield bound
    finally:
        loop.set_exception_handler(before)
        listener.close()
