"""Jobs that one collector does for all: sessions, duplicates, late data, policies, verification."""

import math
from datetime import timedelta

import structlog

from collector.daemon.context import Context
from collector.daemon.share import Share
from collector.database import borrowed
from collector.database.deadlines import READ_DEADLINE_S
from collector.database.upkeep import PolicyRunner, settle, update_sessions
from collector.storage.duplicates import Duplicates, find_duplicates
from collector.verify import verify

log = structlog.get_logger(__name__)

# The nightly verification covers this time, so that it includes data that were stored late.
VERIFY_BACK = timedelta(days=3)


class Duties:
    """Jobs that do nothing if another collector leads."""

    def __init__(self, context: Context, share: Share) -> None:
        """Work on `context` while `share` says that this collector leads."""
        self._context = context
        self._share = share
        self._policies = PolicyRunner(context.pool)
        self._reported: set[tuple[object, ...]] = set()

    async def update_sessions(self) -> None:
        """Settle late data, and update open sessions. Raises DatabaseError."""
        if self._share.leads():
            await settle(self._context.pool)
            await update_sessions(self._context.pool, self._context.settings.close_after_s)

    async def find_duplicates(self) -> None:
        """Find meetings that two servers show; then read which count elsewhere, as all do.

        Raises DatabaseError.
        """
        found: list[Duplicates] = []
        if self._share.leads():
            async with borrowed(
                self._context.pool, "find duplicates", READ_DEADLINE_S
            ) as connection:
                found = await find_duplicates(connection)
        for label, counts in (("once", False), ("twice", True)):
            sessions = sum(pair.sessions for pair in found if pair.counts is counts)
            self._context.metrics.duplicate_sessions.labels(label).set(sessions)
        for pair in found:
            if pair[:5] not in self._reported:
                log.warning(
                    "meetings_on_two_servers",
                    server=pair.server,
                    other_server=pair.other_server,
                    tenant=pair.tenant,
                    other_tenant=pair.other_tenant,
                    sessions=pair.sessions,
                    counted="twice" if pair.counts else "once",
                )
        self._reported |= {pair[:5] for pair in found}
        await self._share.read_duplicates()

    async def run_policies(self) -> None:
        """Run due policies of the embedded engine, which has no scheduler.

        Raises DatabaseError.
        """
        if self._share.leads():
            await self._policies.run_due(self._context.clock.now())

    async def verify(self) -> None:
        """Verify the last days; publish the result in `/metrics` and the log.

        Raises DatabaseError.
        """
        if not self._share.leads():
            return
        clock, metrics = self._context.clock, self._context.metrics
        results = await verify(
            self._context.pool, self._context.settings, since=clock.now() - VERIFY_BACK
        )
        for result in results:
            count = math.nan if result.status == "failed" else result.total
            metrics.verify_findings.labels(result.name).set(count)
            if not result.ok:
                log.error(
                    "verify_findings", check=result.name, findings=result.total, note=result.note
                )
        metrics.verify_timestamp.set(clock.now().timestamp())
