"""This collector's share of the fleet: its signs of life, and the servers that it polls."""

import structlog

from collector.daemon.context import Context
from collector.daemon.sharing import State
from collector.daemon.ticks import Ticks
from collector.database import borrowed
from collector.database.deadlines import SHORT_DEADLINE_S
from collector.errors import DatabaseError
from collector.storage.registry import last_polls, store_certificates

log = structlog.get_logger(__name__)


class Share:
    """Takes and leaves servers as other collectors go and come."""

    def __init__(self, context: Context, ticks: Ticks) -> None:
        """Share the servers that `ticks` polls."""
        self._context = context
        self._ticks = ticks

    async def beat(self) -> None:
        """Give a sign of life, then take or leave servers. Raises DatabaseError."""
        context = self._context
        await context.sharing.beat(context.pool, context.outbox.unsafe_since, self._state())
        await self.apply()
        if new := dict(self._ticks.new_certificates):
            async with borrowed(context.pool, "store certificates", SHORT_DEADLINE_S) as connection:
                await store_certificates(connection, new)
            self._ticks.new_certificates = {
                k: v for k, v in self._ticks.new_certificates.items() if new.get(k) != v
            }

    async def beat_if_met(self) -> None:
        """Give a sign of life once the database was met."""
        if self._context.outbox.open:
            await self.beat()

    async def apply(self) -> None:
        """Poll the servers that are this collector's from the next tick on.

        What it remembers of a server that it left and takes again may be old; what another
        collector left in the database lets it fill the gap of the handover.
        """
        context = self._context
        enabled = (server.name for server in context.settings.enabled_servers)
        mine = frozenset(filter(context.sharing.owns, enabled))
        context.metrics.collectors.set(len(context.sharing.living))
        context.metrics.servers.set(len(mine))
        before, self._ticks.servers = self._ticks.servers, mine
        if mine == before:
            return
        for name in before ^ mine:
            self._ticks.forget(name)
        log.info("servers_shared", mine=len(mine), collectors=len(context.sharing.living))
        if gained := mine - before:
            await self._restore(gained)

    async def _restore(self, servers: frozenset[str]) -> None:
        context = self._context
        tick = self._ticks.next_at(context.settings)
        max_gap_s = context.settings.max_gap_s
        try:
            async with borrowed(
                context.pool, "read the last polls", SHORT_DEADLINE_S
            ) as connection:
                last = await last_polls(connection, servers, tick, max_gap_s)
        except DatabaseError as error:
            log.warning("gaps_not_filled", error=str(error))
            return
        for name, poll in last.items():
            context.pipeline.restore(name, poll)

    def leads(self) -> bool:
        """Say whether this collector does what one does for all: it needs the database."""
        return self._context.outbox.open and self._context.sharing.owns("jobs")

    def _state(self) -> State:
        """Return what the sign of life reports of this collector."""
        spool = self._context.spool
        return State(
            servers=len(self._ticks.servers),
            newest_stored_at=self._context.outbox.newest_stored,
            spool_polls=spool.polls if spool else None,
            spool_bytes=spool.bytes if spool else None,
            spool_max_bytes=spool.max_bytes if spool else None,
            quarantined_batches=spool.quarantined if spool else None,
        )
