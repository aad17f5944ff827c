"""The simulated fleet over HTTP: a port per server, checksums, nginx's behaviour, and faults."""

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from functools import partial
from typing import Self

from aiohttp import web
from pydantic import SecretStr
from yarl import URL

from collector.bbb.checksum import verify
from collector.clock import Clock, SystemClock
from collector.simulator import render
from collector.simulator.faults import SLOW_S, Fault, FaultKind, distort, malform, skew
from collector.simulator.fleet import Fleet

_ROOT = "/bigbluebutton/"
_API = f"{_ROOT}api"
_SHUTDOWN_S = 0.2
_CHECKSUM_ERROR = render.failed("checksumError", "Checksums do not match")
_UNSUPPORTED = render.failed("unsupportedRequest", "This request is not supported.")
_GARBAGE = bytes(range(256)) * 4
_Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class SimulatedFleet:
    """The servers of a fleet, which listen while this async context manager is open.

    Simulated time begins at the plan's start when this object is made. It advances by `speed`
    simulated seconds per second of `clock`. With `base_port`, the servers use this port and the
    following ones, otherwise any free ports. With `balancer`, all servers have one port and differ
    in the path, like the tenants of a load balancer. `views` are further servers by name, which
    list the meetings of these servers: a load balancer, or a second name of one server. Each answer
    is delayed by `latency_s` real seconds. Nothing is logged. Entering raises OSError if a port
    cannot be used.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        secret: SecretStr,
        host: str = "127.0.0.1",
        base_port: int = 0,
        balancer: bool = False,
        views: Mapping[str, tuple[str, ...]] | None = None,
        speed: float = 1.0,
        latency_s: float = 0.0,
        clock: Clock | None = None,
    ) -> None:
        """Prepare the servers, which do not listen yet. All have the shared secret `secret`."""
        self.fleet = fleet
        self.urls: dict[str, str] = {}
        self._secret = secret
        self._host = host
        self._base_port = base_port
        self._balancer = balancer
        self._views = views or {}
        self._speed = speed
        self._latency_s = latency_s
        self._clock = clock or SystemClock()
        self._anchor = self._clock.now()
        self._faults: list[Fault] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Listen on every server's port, and set `urls`: the URL of each server by name."""
        async with AsyncExitStack() as stack:
            names = (*self.fleet.plan.server_names, *self._views)
            if self._balancer:
                url = await self._listen(stack, self._base_port, self._handle_tenant)
                self.urls = {name: f"{url}/{name}{_ROOT}" for name in names}
            else:
                for number, name in enumerate(names):
                    port = self._base_port + number if self._base_port else 0
                    url = await self._listen(stack, port, partial(self._handle, name))
                    self.urls[name] = f"{url}{_ROOT}"
            self._stack = stack.pop_all()
        return self

    async def _listen(self, stack: AsyncExitStack, port: int, handler: _Handler) -> str:
        """Listen on `port`, or any free one for 0, until `stack` is closed; return the origin."""
        server = web.Server(handler, access_log=None, handler_cancellation=True)
        runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_S)
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        await web.TCPSite(runner, self._host, port).start()
        return str(URL.build(scheme="http", host=self._host, port=runner.addresses[0][1]))

    async def __aexit__(self, *_: object) -> None:
        """Close all ports, and abort requests that are not finished."""
        await self._stack.aclose()

    def now(self) -> datetime:
        """Return the current simulated time."""
        # If the clock is set back, do not return a time before the plan's start.
        passed = max(self._clock.now() - self._anchor, timedelta(0))
        return self.fleet.plan.start + passed * self._speed

    def fault(self, server: str, kind: FaultKind, since: datetime, until: datetime) -> None:
        """Add a fault to a server, in [since, until) of simulated time."""
        self._faults.append(Fault(server, kind, since, until))

    async def _handle_tenant(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer as the load balancer of which each server is a tenant."""
        name = request.raw_path.removeprefix("/").partition("/")[0]
        if name not in self.urls:
            return _nginx_page(404, "Not Found")
        return await self._handle(name, request, f"/{name}")

    async def _handle(
        self, name: str, request: web.BaseRequest, root: str = ""
    ) -> web.StreamResponse:
        """Answer as the server `name`, whose paths begin with `root`."""
        now = self.now()
        faults = {
            fault.kind for fault in self._faults if fault.server == name and fault.active(now)
        }
        if "refuse" in faults:
            return _cut(request)
        if "hang" in faults:
            await asyncio.Event().wait()  # until the client or this server gives up
        await asyncio.sleep(self._latency_s + (SLOW_S if "slow" in faults else 0))
        if "http_502" in faults:
            return _nginx_page(502, "Bad Gateway")
        if "garbage" in faults:
            return _xml(request, _GARBAGE)
        target = request.raw_path.removeprefix(root)
        response = self._answer(name, request, target, now, faults)
        if "reset" in faults and isinstance(response.body, bytes):
            return await _reset(request, response, response.body)
        return response

    def _answer(
        self,
        name: str,
        request: web.BaseRequest,
        target: str,
        now: datetime,
        faults: set[FaultKind],
    ) -> web.Response:
        """Return the answer of bbb-web, or of the nginx in front of it, for path and query."""
        path, _, query = target.partition("?")
        if path.rstrip("/") == _API:
            return _xml(request, render.VERSION)
        if not path.startswith(f"{_API}/"):
            return _nginx_page(404, "Not Found")
        call = path.removeprefix(f"{_API}/")
        if call != "getMeetings":
            return _xml(request, _UNSUPPORTED)
        if "checksum" in faults or not verify(call, query, self._secret.get_secret_value()):
            return _xml(request, _CHECKSUM_ERROR)
        if "empty" in faults:
            return _xml(request, render.NO_MEETINGS)
        shown = self._views.get(name, (name,))
        body = render.joined([self._listed(server, now) for server in shown])
        body = distort(body, faults)
        return _xml(request, malform(body) if "malformed" in faults else body)

    def _listed(self, server: str, now: datetime) -> bytes:
        """Return the answer of a server, by its own clock."""
        body = self.fleet.answer(server, now)
        for fault in self._faults:
            if fault.kind == "skew" and fault.server == server:
                body = skew(body, fault)
        return body


def _xml(request: web.BaseRequest, body: bytes) -> web.Response:
    """Return a body as nginx sends it: compressed if the client accepts gzip."""
    headers = {"Server": "nginx", "Content-Type": "text/xml;charset=utf-8"}
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
        body = gzip.compress(body, compresslevel=1, mtime=0)
    return web.Response(body=body, headers=headers)


def _nginx_page(status: int, reason: str) -> web.Response:
    """Return an error page of nginx."""
    title = f"{status} {reason}"
    text = (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n"
        f"<center><h1>{title}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    )
    return web.Response(
        status=status,
        reason=reason,
        text=text,
        content_type="text/html",
        headers={"Server": "nginx"},
    )


def _cut(request: web.BaseRequest) -> web.Response:
    """Close the connection immediately. aiohttp needs a response, but does not send it."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _reset(
    request: web.BaseRequest, response: web.Response, body: bytes
) -> web.StreamResponse:
    """Send half of the body and close the connection."""
    half = web.StreamResponse(headers={**response.headers, "Content-Length": str(len(body))})
    await half.prepare(request)
    await half.write(body[: len(body) // 2])
    _cut(request)
    return half
