"""`bbbmeter run`: combines ticks, storing, sharing, jobs and reload, and stops them in order."""

import asyncio
import contextlib
import signal
import socket
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from collector.bbb import BbbClients
from collector.clock import Clock, SystemClock
from collector.daemon.contact import Contact
from collector.daemon.context import Context
from collector.daemon.duties import Duties
from collector.daemon.reload import Reload, modified_at
from collector.daemon.rendezvous import Sharing
from collector.daemon.share import Share
from collector.daemon.ticks import Ticks
from collector.daemon.timetable import Timetable
from collector.database import open_pool
from collector.database.engine import parse_embedded
from collector.database.upkeep import update_sessions
from collector.errors import BbbmeterError, DatabaseError, SpoolError
from collector.metering.pipeline import Pipeline
from collector.metrics import Metrics
from collector.model import PollResult
from collector.settings import Settings
from collector.storage.claims import fleet_of
from collector.storage.outbox import Outbox
from collector.storage.spool import Spool, slots
from collector.storage.writer import Writer
from collector.web.health import serve_health

log = structlog.get_logger(__name__)

# At the end, servers that were asked already have this long to answer.
CUT_GRACE_S = 3.0
# At the end, waiting batches have this long to be stored; the others stay on disk.
DRAIN_DEADLINE_S = 20.0
# Database connections: for storing, heartbeats, sessions, policies, verification, and a spare.
CONNECTIONS = 6
CONTACT_EVERY_S = 5.0
RETENTION_EVERY_S = 60
FLEET_EVERY_S = 60
SESSIONS_EVERY_S = 60
SESSIONS_AFTER_S = 10  # after a tick
POLICIES_EVERY_S = 60
WATCH_EVERY_S = 5
VERIFY_EVERY_S = 86_400
VERIFY_AT = datetime(2000, 1, 1, 3, 30, tzinfo=UTC)  # each day at this time
# After this many poll intervals without a tick, the liveness probe fails.
SILENT_INTERVALS = 4


class Daemon:
    """One collector. Call `run` once."""

    def __init__(
        self, settings: Settings, path: Path | None = None, clock: Clock | None = None
    ) -> None:
        """Use `settings`, which were read from `path`; they are read again when it changes."""
        self._settings = settings
        self._path = path
        self._clock = clock or SystemClock()
        self._stop = asyncio.Event()
        self.metrics = Metrics()
        self.health_port: int | None = None
        # Called with each processed result; the demo uses it for its progress line.
        self.on_result: Callable[[PollResult], None] | None = None

    def stop(self) -> None:
        """Request a clean stop; `run` returns soon after."""
        self._stop.set()

    async def run(self) -> None:
        """Collect until `stop`, SIGTERM or SIGINT. Raises BbbmeterError if it cannot start."""
        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, self.stop)
        database = self._settings.database.get_secret_value()
        embedded = parse_embedded(database) is not None
        async with contextlib.AsyncExitStack() as stack:
            spool = self._open_spool(stack)
            known = self._knows_database(spool)
            clients = await stack.enter_async_context(BbbClients())
            # Do not connect yet if the server is known, because it may be away.
            pool = await stack.enter_async_context(
                open_pool(database, max_size=CONNECTIONS, at_once=embedded or not known)
            )
            pipeline = Pipeline(self._settings)
            self.metrics.refused_sessions.set_function(lambda: pipeline.tenants.refused_sessions)
            context = Context(
                settings=self._settings,
                clock=self._clock,
                metrics=self.metrics,
                pool=pool,
                spool=spool,
                pipeline=pipeline,
                outbox=Outbox(
                    Writer(pool), spool, self.metrics, not_stored=pipeline.forget_sessions
                ),
                sharing=Sharing(
                    # Without a spool there is no stored identity: each start is a new collector.
                    spool.collector if spool else uuid.uuid4().hex,
                    socket.gethostname(),
                    self._settings.poll_interval_s,
                    fleet_of(self._settings, modified_at(self._path)),
                ),
                embedded=embedded,
            )
            ticks = Ticks(context, clients, self.on_result)
            collector = _Collector(context, ticks, self._path, self.stop)
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, collector.reload)
            self.health_port = await stack.enter_async_context(
                serve_health(
                    self._settings.http,
                    self.metrics,
                    alive=collector.not_alive,
                    ready=collector.not_ready,
                )
            )
            await collector.contact.at_first(known=known and not embedded)
            log.info(
                "collecting",
                servers=len(self._settings.enabled_servers),
                interval_s=self._settings.poll_interval_s,
                health_port=self.health_port,
                collector=context.sharing.collector,
            )
            async with collector.storing(), collector.scheduling():
                await self._stop.wait()
            log.info("stopped")
        if collector.fatal is not None:
            raise collector.fatal

    def _open_spool(self, stack: contextlib.AsyncExitStack) -> Spool | None:
        """Return this collector's spool; log an error and return None if it cannot be opened."""
        spool = self._settings.spool
        try:
            opened = Spool.open(spool.directory, spool.max_bytes)
        except SpoolError as error:
            self.metrics.spool_failures.inc()
            log.error("spool_unavailable", error=str(error))
            return None
        stack.callback(opened.close)
        return opened

    def _knows_database(self, spool: Spool | None) -> bool:
        """Return whether this collector has reached its database before.

        If so, a database that cannot be reached is away, and its address is right.
        """
        if spool is None:
            return bool(slots(self._settings.spool.directory))
        return spool.met_database


class _Collector:
    """The running parts of a collector: the schedule, storing, and the answers to probes."""

    def __init__(
        self, context: Context, ticks: Ticks, path: Path | None, stop: Callable[[], None]
    ) -> None:
        self._context = context
        self._ticks = ticks
        self._stop = stop
        self._started_at = context.clock.now()
        self._share = Share(context, ticks)
        self._duties = Duties(context, self._share)
        self._reload = Reload(context, path, ticks, self._share, self._plan)
        self._timetable = Timetable(
            context.clock, context.metrics, plan=self._plan_again, give_up=self._give_up
        )
        context.metrics.lag_seconds.set_function(self._lag_s)
        self.contact = Contact(context, ticks, self._share)
        self.fatal: BbbmeterError | None = None

    def reload(self) -> None:
        """Request that the settings are read again soon."""
        self._reload.request()
        self._timetable.now("settings")

    @contextlib.asynccontextmanager
    async def storing(self) -> AsyncIterator[None]:
        """Store batches in the background; at the end, store waiting batches within a deadline."""
        outbox = self._context.outbox
        loop = asyncio.create_task(outbox.run(), name="outbox")
        loop.add_done_callback(lambda _task: self._stop())
        try:
            yield
            try:
                async with asyncio.timeout(DRAIN_DEADLINE_S):
                    await outbox.drain()
                    if outbox.storing:
                        close_after_s = self._context.settings.close_after_s
                        await update_sessions(self._context.pool, close_after_s)
            except TimeoutError:
                log.error("drain_timed_out")
            except DatabaseError as error:
                log.warning("sessions_not_updated", error=str(error))
        finally:
            if not loop.done():
                loop.cancel()
            try:
                with contextlib.suppress(asyncio.CancelledError):
                    await loop
            finally:
                await outbox.close()

    @contextlib.asynccontextmanager
    async def scheduling(self) -> AsyncIterator[None]:
        """Run ticks and jobs in the background; at the end, a running tick is cut short.

        The answers that arrived are kept.
        """
        coming = self._ticks.next_at(self._context.settings)
        self._plan(max(self.contact.first_tick or coming, coming))
        async with self._timetable.running():
            try:
                yield
            finally:
                self._timetable.pause()
                self._ticks.cut(CUT_GRACE_S)
                if self._context.outbox.storing:
                    with contextlib.suppress(DatabaseError):
                        await self._context.sharing.leave(self._context.pool)
                async with self._ticks.lock:
                    pass

    def _plan(self, first_tick: datetime) -> None:
        """Plan all ticks and jobs; the ticks begin with `first_tick`."""
        self._ticks.last_at = self._context.clock.now()
        timetable = self._timetable
        timetable.ticks(self._context.settings.poll_interval_s, first_tick, self._ticks.run)
        timetable.every(CONTACT_EVERY_S, "database", self.contact.again)
        timetable.every(RETENTION_EVERY_S, "retention", self.contact.read_retention)
        timetable.every(self._context.sharing.period_s, "sharing", self._share.beat_if_met)
        timetable.every(FLEET_EVERY_S, "fleet", self._share.keep_due)
        # Soon after a tick, so that a newcomer does not wait a minute for the first figures.
        soon = first_tick + timedelta(seconds=SESSIONS_AFTER_S - SESSIONS_EVERY_S)
        timetable.every(SESSIONS_EVERY_S, "sessions", self._duties.update_sessions, soon)
        timetable.every(
            self._context.settings.poll_interval_s, "duplicates", self._duties.find_duplicates
        )
        if self._context.embedded:
            timetable.every(POLICIES_EVERY_S, "policies", self._duties.run_policies)
        timetable.every(WATCH_EVERY_S, "settings", self._reload.look)
        timetable.every(VERIFY_EVERY_S, "verify", self._duties.verify, VERIFY_AT)

    def _plan_again(self) -> None:
        """Plan again after a step of the clock; a tick that happens twice is stored once."""
        self._plan(self._ticks.next_at(self._context.settings))

    def _give_up(self, error: BbbmeterError) -> None:
        self.fatal = error
        self._stop()

    def _lag_s(self) -> float:
        since = self._context.outbox.newest_stored or self._started_at
        return (self._context.clock.now() - since).total_seconds()

    def not_alive(self) -> str | None:
        """Return why the liveness probe must fail, None if it need not: the ticks stopped."""
        silent_s = (self._context.clock.now() - self._ticks.last_at).total_seconds()
        if silent_s > SILENT_INTERVALS * self._context.settings.poll_interval_s:
            return f"no tick for {silent_s:.0f} s"
        return None

    def not_ready(self) -> str | None:
        """Return why the collector cannot store polls, None if it can."""
        if self._context.outbox.failing:
            return "polls cannot be written to the database: see the log"
        return self.not_alive()
