"""The tick: polls every server of this collector, and puts each result into the outbox."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

import structlog

from collector.bbb import BbbClients
from collector.bbb.client import limit_tls_buffers
from collector.clock import tick_at
from collector.daemon.context import Context
from collector.metering.attribution import Attribution
from collector.model import PollResult
from collector.outcomes import Outcome, word
from collector.settings import Settings
from collector.sources.polling.parser import parse_meetings
from collector.sources.polling.poller import Poller

log = structlog.get_logger(__name__)

# Seconds between the end of a tick and the begin of the next, so that two never overlap.
TICK_MARGIN_S = 1.0


class Ticks:
    """Polls this collector's servers at every tick.

    `servers` are the polled servers. `last_at` is when the last tick ran; before the first one, it
    is when this object was created. `covered_until` is the end of the time for which the polls of
    the last tick count; None before the first one. `new_certificates` are the expiry times of
    certificates, by server, that are not stored yet. Hold `lock` to change what a tick uses: no
    tick runs meanwhile.
    """

    def __init__(
        self,
        context: Context,
        clients: BbbClients,
        on_result: Callable[[PollResult], None] | None = None,
    ) -> None:
        """Begin without servers; `on_result` gets each processed result.

        Raises SettingsError if a server's secret is missing.
        """
        self._context = context
        self._clients = clients
        self._on_result = on_result
        self._poller = self.poller_for(context.settings)
        self._certificates: dict[str, datetime] = {}
        self.new_certificates: dict[str, datetime] = {}
        self.servers: frozenset[str] = frozenset()
        self.lock = asyncio.Lock()
        self.last_at = context.clock.now()
        self.covered_until: datetime | None = None

    def poller_for(self, settings: Settings) -> Poller:
        """Return a poller for the enabled servers.

        Raises SettingsError if a server's secret is missing.
        """
        servers = settings.enabled_servers
        limit_tls_buffers(len(servers))
        parse = partial(
            parse_meetings,
            metadata_keys=Attribution(settings.attribution).metadata_keys,
            room_names=settings.store_room_names,
        )
        clients = self._clients.make(
            servers, "getMeetings", parse, max_body_bytes=settings.max_body_bytes
        )
        return Poller(clients, settings.concurrent_requests, settings.connections_per_host)

    def use(self, poller: Poller) -> None:
        """Use `poller` from the next tick on."""
        poller.turns.remember(self._poller.turns)
        self._poller = poller

    def next_at(self, settings: Settings, not_before: datetime | None = None) -> datetime:
        """Return the next tick in the future that is not before `not_before`."""
        now = self._context.clock.now()
        instant = max(now, not_before or now)
        tick = tick_at(instant, settings.poll_interval_s)
        due = tick == not_before
        return tick if due else tick + timedelta(seconds=settings.poll_interval_s)

    async def run(self) -> None:
        """Poll every server for the present tick, and process each result when it arrives."""
        clock, metrics = self._context.clock, self._context.metrics
        async with self.lock:
            now = clock.now()
            interval_s = self._context.settings.poll_interval_s
            ts = tick_at(now, interval_s)
            self.last_at = now
            self.covered_until = ts + timedelta(seconds=interval_s)
            left_s = interval_s - (now - ts).total_seconds() - TICK_MARGIN_S
            await self._poller.poll(ts, max(left_s, TICK_MARGIN_S), self._deliver, self.servers)
            metrics.tick_seconds.observe((clock.now() - ts).total_seconds())

    def cut(self, grace_s: float) -> None:
        """End the running tick within `grace_s` seconds."""
        self._poller.cut(grace_s)

    def forget(self, server: str) -> None:
        """Forget a server that this collector has given up or has just taken over."""
        self._context.pipeline.forget(server)
        # A collector that takes over the server must store its certificate's expiry again.
        self._certificates.pop(server, None)
        self._context.metrics.forget(server)

    def _deliver(self, result: PollResult) -> None:
        pipeline, metrics = self._context.pipeline, self._context.metrics
        try:
            batch = pipeline.process(result)
        except Exception as failure:  # noqa: BLE001 - one server's answer must not stop the others
            # Only the type is logged: the message could contain data that the server sent.
            log.error("result_unusable", server=result.server, error=type(failure).__name__)
            pipeline.forget(result.server)
            result = PollResult(
                result.server,
                result.ts,
                ok=False,
                latency_ms=result.latency_ms,
                outcome=Outcome.INTERNAL,
            )
            batch = pipeline.process(result)
        metrics.polls.labels(word(result.outcome)).inc()
        if result.outcome != Outcome.NOT_ASKED:  # which says nothing about the server
            metrics.poll_seconds.observe(result.latency_ms / 1000)
            metrics.server_up.labels(result.server).set(result.ok)
        self._note_certificate(result)
        self._context.outbox.put(batch)
        if self._on_result is not None:
            self._on_result(result)

    def _note_certificate(self, result: PollResult) -> None:
        expires_at = result.tls_expires_at
        if expires_at is None or self._certificates.get(result.server) == expires_at:
            return
        self._certificates[result.server] = self.new_certificates[result.server] = expires_at
        metric = self._context.metrics.tls_expires
        metric.labels(result.server).set(expires_at.timestamp())
