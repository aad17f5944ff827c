"""Contact with the database: at the start, after it was away, and what depends on it.

A collector whose database is away at the start collects into its spool, if it was connected to
that database before: then the address is right, and nobody else can poll what is polled now.
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
    """Meets the database: checks its schema, and stores since when polls are due.

    `first_tick` is the first tick that this collector polls, None until that is known.
    """

    def __init__(self, context: Context, ticks: Ticks, share: Share) -> None:
        """Meet nothing yet: until then, nothing is written to the database."""
        context.outbox.open = False
        self._context = context
        self._ticks = ticks
        self._share = share
        self.first_tick: datetime | None = None

    async def at_first(self, *, known: bool) -> None:
        """Meet the database at the start; where it is `known` but away, begin without it.

        Raises DatabaseError where it is not known, and MigrationError where its schema is not
        this version's.
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
            # All of them: polled twice, beside a collector that cannot be seen, is stored once.
            self._ticks.servers = frozenset(server.name for server in settings.enabled_servers)

    async def again(self) -> None:
        """Meet the database if it was away so far. Raises DatabaseError and MigrationError."""
        if not self._context.outbox.open:
            await self._meet(CONTACT_DEADLINE_S)
            log.info("database_back")

    async def read_retention(self) -> None:
        """Read for how long late data can be stored: `bbbmeter migrate` may have changed it."""
        if not self._context.outbox.open:
            return
        async with borrowed(
            self._context.pool, "read the retention", SHORT_DEADLINE_S
        ) as connection:
            self._context.outbox.late_days = await late_days(connection)

    async def _meet(self, deadline_s: float) -> None:
        """Check that the database is ours and up to date, and store what is due since when."""
        context = self._context
        settings = context.settings
        async with borrowed(context.pool, "connect", deadline_s) as connection:
            if context.embedded:
                await migrate(connection, settings)
            else:
                await require_current(connection)
            covered = await covered_until(connection, settings.poll_interval_s)
            # A collector that began without the database has polled since then.
            tick = self.first_tick or self._ticks.next_at(settings, covered)
            await sync_fleet(connection, settings.server, settings.tenant, tick)
            context.outbox.late_days = await late_days(connection)
        self.first_tick = tick
        if context.spool is not None:
            context.spool.met_database = True
        await self._share.beat()
        context.outbox.open = True
        context.outbox.hurry()
