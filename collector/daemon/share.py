"""This collector's share of the servers, and its heartbeats."""

import structlog

from collector.daemon.context import Context
from collector.daemon.rendezvous import State
from collector.daemon.ticks import Ticks
from collector.database import borrowed
from collector.database.deadlines import SHORT_DEADLINE_S
from collector.errors import DatabaseError
from collector.storage.duplicates import counted_elsewhere
from collector.storage.registry import (
    keep_due,
    last_polls,
    store_certificates,
    tenant_names,
)

log = structlog.get_logger(__name__)


class Share:
    """Takes over and gives up servers as other collectors stop and start."""

    def __init__(self, context: Context, ticks: Ticks) -> None:
        """Share the servers that `ticks` polls."""
        self._context = context
        self._ticks = ticks
        self._reported: set[tuple[str, str]] = set()

    async def announce(self) -> None:
        """Write a heartbeat with the present fleet, and change nothing else.

        It comes before the fleet is stored, so that no other collector ends a new server's polls.
        Raises DatabaseError.
        """
        context = self._context
        await context.sharing.beat(context.pool, context.outbox.unsafe_since, self._state())

    async def beat(self) -> None:
        """Write a heartbeat, then take over or give up servers. Raises DatabaseError."""
        context = self._context
        await self.announce()
        self._report_differences()
        await self.apply()
        if new := dict(self._ticks.new_certificates):
            async with borrowed(context.pool, "store certificates", SHORT_DEADLINE_S) as connection:
                await store_certificates(connection, new)
            self._ticks.new_certificates = {
                k: v for k, v in self._ticks.new_certificates.items() if new.get(k) != v
            }

    async def beat_if_met(self) -> None:
        """Write a heartbeat, but not before the first contact. Raises DatabaseError."""
        if self._context.outbox.open:
            await self.beat()

    async def keep_due(self) -> None:
        """Keep the polls of this collector's servers due, and end those that nobody has.

        Raises DatabaseError.
        """
        context = self._context
        if not context.outbox.open:
            return
        tick = self._ticks.next_at(context.settings)
        async with borrowed(context.pool, "store the fleet", SHORT_DEADLINE_S) as connection:
            await keep_due(connection, context.sharing.claimant, tick)

    def _report_differences(self) -> None:
        """Log once which collectors have different settings, and count them in a metric."""
        context, sharing = self._context, self._context.sharing
        different = sharing.different
        context.metrics.different_fleets.set(len(different))
        found = {(one, other.fleet.hash) for one, other in different.items()}
        for one, fleet_hash in sorted(found - self._reported):
            other = different[one]
            log.warning(
                "fleets_differ",
                collector=sharing.collector,
                other=one,
                other_host=other.host,
                decides=max((sharing.fleet.rank, sharing.collector), (other.fleet.rank, one))[1],
                only_here=sorted({*sharing.fleet.servers} - {*other.fleet.servers}),
                only_there=sorted({*other.fleet.servers} - {*sharing.fleet.servers}),
                fleet_hash=fleet_hash,
            )
        if self._reported and not found:
            log.info("fleets_agree", collectors=len(sharing.living))
        self._reported = found

    async def apply(self) -> None:
        """Poll this collector's present servers from the next tick on.

        The state of a server that was given up and is taken over again may be old, so it is
        forgotten. The last poll is read from the database, to fill the gap of the handover.
        """
        context = self._context
        enabled = (server.name for server in context.settings.enabled_servers)
        mine = frozenset(filter(context.sharing.owns_server, enabled))
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
        settings = context.settings
        try:
            async with borrowed(
                context.pool, "read the last polls", SHORT_DEADLINE_S
            ) as connection:
                last = await last_polls(connection, servers, tick, settings.max_gap_s)
                context.pipeline.tenants.add(await tenant_names(connection))
                context.pipeline.elsewhere = await counted_elsewhere(connection)
        except DatabaseError as error:
            log.warning("gaps_not_filled", error=str(error))
            return
        for name, poll in last.items():
            context.pipeline.restore(name, poll)

    async def read_duplicates(self) -> None:
        """Read which meetings count through another server's session. Raises DatabaseError."""
        context = self._context
        if not context.outbox.open:
            return
        async with borrowed(context.pool, "read duplicates", SHORT_DEADLINE_S) as connection:
            context.pipeline.elsewhere = await counted_elsewhere(connection)

    def leads(self) -> bool:
        """Return whether this collector does the jobs that one does for all.

        It needs contact with the database for that.
        """
        return self._context.outbox.open and self._context.sharing.owns("jobs")

    def _state(self) -> State:
        """Return the state of this collector that is stored with its heartbeat."""
        spool = self._context.spool
        return State(
            servers=len(self._ticks.servers),
            newest_stored_at=self._context.outbox.newest_stored,
            spool_polls=spool.polls if spool else None,
            spool_bytes=spool.bytes if spool else None,
            spool_max_bytes=spool.max_bytes if spool else None,
            quarantined_batches=spool.quarantined if spool else None,
        )
