"""The daemon's HTTP port: `/healthz`, `/readyz` and `/metrics`."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from collector.metrics import Metrics
from collector.settings import HttpSettings
from collector.web.connections import listening

# Returns None if the daemon is alive or ready, else the reason why it is not.
Probe = Callable[[], str | None]


@asynccontextmanager
async def serve_health(
    http: HttpSettings, metrics: Metrics, *, alive: Probe, ready: Probe
) -> AsyncIterator[int]:
    """Serve `/healthz`, `/readyz` and `/metrics` until the context ends; yield the port.

    `/healthz` and `/readyz` answer 200 `ok`, or 503 with the reason. Raises OSError if the port
    cannot be used.
    """

    def answer(probe: Probe) -> Callable[[web.Request], object]:
        async def handle(_request: web.Request) -> web.Response:
            reason = probe()
            return web.Response(text=reason or "ok", status=503 if reason else 200)

        return handle

    async def scrape(_request: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    app = web.Application()
    app.router.add_get("/healthz", answer(alive))  # type: ignore[arg-type]
    app.router.add_get("/readyz", answer(ready))  # type: ignore[arg-type]
    app.router.add_get("/metrics", scrape)
    app.on_response_prepare.append(_close)
    runner = web.AppRunner(app, handle_signals=False)
    await runner.setup()
    try:
        assert runner.server is not None  # noqa: S101 - setup has made it
        async with listening(runner.server, http.host, http.port) as port:
            yield port
    finally:
        await runner.cleanup()


async def _close(_request: web.Request, response: web.StreamResponse) -> None:
    """Close the connection after the answer, so that no client has to keep one."""
    response.force_close()
