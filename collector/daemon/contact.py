"""Contact with the database: at the start, and after it could not be reached.

A collector may start while its database is away. It then collects into its spool, but only if it
has reached that database before: so the address is right.
"""

from datetime import datetime

import structlog

from collector.daemon.context import Context
from collector.daemon.share import Share
from collector.daemon.ticks import Ticks
from collector.database import borrowed
from collector.database.deadlines import CONTACT_DEADLINE_S, SHORT_DEADLINE_S
from collector.database.migrate import migrate, require_current
from collector.errors import DatabaseError, MigrationError
from collector.storage.registry import covered_until, late_days, sync_fleet

log = structlog.get_logger(__name__)


class Contact:
    """Contacts the database: checks its schema, and stores since when polls are due.

    `first_tick` is the first tick that this collector polls; None until that is known.
    """

    def __init__(self, context: Context, ticks: Ticks, share: Share) -> None:
        """Close the outbox: nothing is written to the database before the first contact."""
        context.outbox.open = False
        self._context = context
        self._ticks = ticks
        self._share = share
        self.first_tick: datetime | None = None

    async def at_first(self, *, known: bool) -> None:
        """Contact the database at the start; if it is `known` but away, begin without it.

        Raises DatabaseError if it is not known, and MigrationError if its schema does not fit
        this version.
        """
        try:
            await self._meet(SHORT_DEADLINE_S if known else CONTACT_DEADLINE_S)
        except MigrationError:
            raise
        except DatabaseError as error:
            if not known:
                raise
            log.error("database_away", error=str(error))
            settings = self._context.settings
            self.first_tick = self._ticks.next_at(settings)
            # Poll all servers. Another collector may poll them too, but each poll is stored once.
            self._ticks.servers = frozenset(server.name for server in settings.enabled_servers)

    async def again(self) -> None:
        """Contact the database if it was away so far. Raises DatabaseError and MigrationError."""
        if not self._context.outbox.open:
            await self._meet(CONTACT_DEADLINE_S)
            log.info("database_back")

    async def read_retention(self) -> None:
        """Read how long late data can be stored, as `bbbmeter migrate` may have changed it.

        Raises DatabaseError.
        """
        if not self._context.outbox.open:
            return
        async with borrowed(
            self._context.pool, "read the retention", SHORT_DEADLINE_S
        ) as connection:
            self._context.outbox.late_days = await late_days(connection)

    async def _meet(self, deadline_s: float) -> None:
        """Check that the database is bbbmeter's and up to date; store since when polls are due."""
        context = self._context
        settings = context.settings
        async with borrowed(context.pool, "connect", deadline_s) as connection:
            if context.embedded:
                await migrate(connection, settings)
            else:
                await require_current(connection)
            covered = await covered_until(connection, settings.poll_interval_s)
        await self._share.announce()
        # A collector that began without the database has polled since then.
        tick = self.first_tick or self._ticks.next_at(settings, covered)
        async with borrowed(context.pool, "store the fleet", deadline_s) as connection:
            await sync_fleet(
                connection, settings.server, settings.tenant, tick, context.sharing.claimant
            )
            context.outbox.late_days = await late_days(connection)
        self.first_tick = tick
        if context.spool is not None:
            context.spool.met_database = True
        await self._share.beat()
        context.outbox.open = True
        context.outbox.hurry()
