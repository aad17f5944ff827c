"""`bbbmeter run`: ticks, storing, jobs, reload and an orderly end, wired together."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from collector.attribution import Attribution
from collector.bbb import BbbClients
from collector.clock import Clock, SystemClock, tick_at
from collector.database import open_pool
from collector.engine import parse_embedded
from collector.errors import BbbmeterError, DatabaseError, InternalError, SettingsError
from collector.fleet import last_polls, sync_fleet
from collector.health import serve_health
from collector.jobs import PolicyRunner, update_sessions
from collector.metrics import Metrics
from collector.migrate import migrate, require_current
from collector.model import PollResult
from collector.outbox import Outbox
from collector.pipeline import Pipeline
from collector.poller import Poller
from collector.settings import Settings
from collector.settings_file import load_settings
from collector.writer import Writer

log = structlog.get_logger(__name__)

# A tick ends so long before the next one begins.
TICK_MARGIN_S = 1.0
# At the end: for the servers that were asked already, then for what waits to be stored.
CUT_GRACE_S = 3.0
DRAIN_DEADLINE_S = 20.0
SESSIONS_EVERY_S = 60
POLICIES_EVERY_S = 60
WATCH_EVERY_S = 5
# Without a tick for so many intervals, the daemon calls itself dead.
SILENT_INTERVALS = 4


class Daemon:
    """One collector at work. `run` it once."""

    def __init__(
        self, settings: Settings, path: Path | None = None, clock: Clock | None = None
    ) -> None:
        """Work by `settings`, which were read from `path` and are read again when it changes."""
        self._settings = settings
        self._path = path
        self._clock = clock or SystemClock()
        self._scheduler = AsyncIOScheduler(timezone="UTC")
        self._stop = asyncio.Event()
        self._ticking = asyncio.Lock()
        self._read_at = _modified_at(path)
        self._started_at = self._clock.now()
        self._last_tick_at = self._started_at
        self.metrics = Metrics()
        self.metrics.lag_seconds.set_function(self._lag_s)
        self.health_port: int | None = None
        # Called with each result, after it was processed: the demo's progress line.
        self.on_result: Callable[[PollResult], None] | None = None

    def stop(self) -> None:
        """Ask for an orderly end; `run` returns soon after."""
        self._stop.set()

    async def run(self) -> None:
        """Collect until `stop`, SIGTERM or SIGINT. Raises BbbmeterError if it cannot begin."""
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._request_reload)
        database = self._settings.database.get_secret_value()
        async with contextlib.AsyncExitStack() as stack:
            self._clients = await stack.enter_async_context(BbbClients())
            self._pool = await stack.enter_async_context(open_pool(database))
            await self._begin(embedded=parse_embedded(database) is not None)
            self.health_port = await stack.enter_async_context(
                serve_health(
                    self._settings.http, self.metrics, alive=self._not_alive, ready=self._not_ready
                )
            )
            log.info(
                "collecting",
                servers=len(self._settings.enabled_servers),
                interval_s=self._settings.poll_interval_s,
                health_port=self.health_port,
            )
            async with self._storing(), self._scheduling():
                await self._stop.wait()
            log.info("stopped")

    async def _begin(self, *, embedded: bool) -> None:
        """Make ready what the first tick needs."""
        async with self._pool.acquire() as connection:
            if embedded:
                await migrate(connection, self._settings)
            else:
                await require_current(connection)
            tick = self._next_tick(self._settings)
            await sync_fleet(connection, self._settings.server, self._settings.tenant, tick)
            last = await last_polls(connection, tick, self._settings.max_gap_s)
        self._pipeline = Pipeline(self._settings)
        for server in self._settings.server:
            if server.name in last:
                self._pipeline.restore(server.name, last[server.name])
        self._outbox = Outbox(Writer(self._pool), self.metrics, self._not_stored)
        self._poller = self._make_poller(self._settings)
        self._policies = PolicyRunner(self._pool) if embedded else None

    def _make_poller(self, settings: Settings) -> Poller:
        """Return a poller for the enabled servers; SettingsError where a secret is missing."""
        clients = self._clients.make(
            settings.enabled_servers,
            max_body_bytes=settings.max_body_bytes,
            metadata_keys=Attribution(settings.attribution).metadata_keys,
            room_names=settings.store_room_names,
        )
        return Poller(clients, settings.concurrency)

    def _next_tick(self, settings: Settings) -> datetime:
        interval = timedelta(seconds=settings.poll_interval_s)
        return tick_at(self._clock.now(), settings.poll_interval_s) + interval

    # -- the tick ----------------------------------------------------------------------------

    async def _tick(self) -> None:
        """Poll every server for the present tick, and hand on each result as it comes in."""
        async with self._ticking:
            now = self._clock.now()
            interval_s = self._settings.poll_interval_s
            ts = tick_at(now, interval_s)
            self._last_tick_at = now
            left_s = interval_s - (now - ts).total_seconds() - TICK_MARGIN_S
            await self._poller.poll(ts, max(left_s, TICK_MARGIN_S), self._deliver)
            self.metrics.tick_seconds.observe((self._clock.now() - ts).total_seconds())

    def _deliver(self, result: PollResult) -> None:
        try:
            batch = self._pipeline.process(result)
        except Exception as failure:  # noqa: BLE001 - one server's trouble stays its own
            # Its message could hold what the server sent.
            log.error("result not usable", server=result.server, error=type(failure).__name__)  # noqa: TRY400
            self._pipeline.forget(result.server)
            result = PollResult(
                result.server,
                result.ts,
                ok=False,
                latency_ms=result.latency_ms,
                error=InternalError.kind,
            )
            batch = self._pipeline.process(result)
        outcome = (result.error or "ok").partition(":")[0]
        self.metrics.polls.labels(outcome).inc()
        self.metrics.poll_seconds.observe(result.latency_ms / 1000)
        self.metrics.server_up.labels(result.server).set(result.ok)
        self._outbox.put(batch)
        if self.on_result is not None:
            self.on_result(result)

    def _not_stored(self, server: str) -> None:
        self._pipeline.forget_sessions(server)

    # -- the frame ---------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _storing(self) -> AsyncIterator[None]:
        """Store batches meanwhile; at the end, what waits is stored within a deadline."""
        loop = asyncio.create_task(self._outbox.run(), name="outbox")
        loop.add_done_callback(lambda _task: self.stop())
        try:
            yield
            try:
                async with asyncio.timeout(DRAIN_DEADLINE_S):
                    await self._outbox.drain()
                await update_sessions(self._pool, self._settings.close_after_s)
            except TimeoutError:
                log.error("the database did not take what was waiting in time")  # noqa: TRY400
            except DatabaseError as error:
                log.warning("sessions not brought up to date", error=str(error))
        finally:
            if not loop.done():
                loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loop

    @contextlib.asynccontextmanager
    async def _scheduling(self) -> AsyncIterator[None]:
        """Run ticks and jobs meanwhile; at the end, a tick under way is cut short, not lost."""
        self._schedule_ticks()
        self._schedule_job("sessions", self._update_sessions, SESSIONS_EVERY_S)
        if self._policies is not None:
            self._schedule_job("policies", self._run_policies, POLICIES_EVERY_S)
        self._schedule_job("settings", self._watch, WATCH_EVERY_S)
        self._scheduler.start()
        try:
            yield
        finally:
            self._scheduler.pause()
            self._poller.cut(CUT_GRACE_S)
            async with self._ticking:
                self._scheduler.shutdown(wait=False)

    def _schedule_ticks(self) -> None:
        interval_s = self._settings.poll_interval_s
        self._scheduler.add_job(
            self._tick,
            IntervalTrigger(
                seconds=interval_s,
                start_date=self._next_tick(self._settings),
            ),
            id="tick",
            replace_existing=True,
            coalesce=True,
            max_instances=1,
            misfire_grace_time=max(1, interval_s - 2),
        )

    def _schedule_job(
        self, name: str, work: Callable[[], Coroutine[Any, Any, None]], every_s: int
    ) -> None:
        async def guarded() -> None:
            try:
                await work()
            except BbbmeterError as error:
                self.metrics.job_failures.labels(name).inc()
                log.error("job failed", job=name, error=str(error))  # noqa: TRY400

        self._scheduler.add_job(
            guarded, "interval", seconds=every_s, id=name, coalesce=True, max_instances=1
        )

    async def _update_sessions(self) -> None:
        await update_sessions(self._pool, self._settings.close_after_s)

    async def _run_policies(self) -> None:
        if self._policies is not None:
            await self._policies.run_due(self._clock.now())

    # -- settings that change ----------------------------------------------------------------

    def _request_reload(self) -> None:
        self._read_at = None
        with contextlib.suppress(JobLookupError):  # at the very beginning: it is read anyway
            self._scheduler.modify_job("settings", next_run_time=self._clock.now())

    async def _watch(self) -> None:
        """Take up a changed file; refuse a broken one and go on with the old settings."""
        modified_at = _modified_at(self._path)
        if self._path is None or modified_at == self._read_at:
            return
        self._read_at = modified_at
        try:
            settings = load_settings(self._path)
            poller = self._make_poller(settings)
        except SettingsError as error:
            self.metrics.reloads.labels("refused").inc()
            log.error("settings refused, the old ones stay", problems=error.problems)  # noqa: TRY400
            return
        await self._take_up(settings, poller)
        self.metrics.reloads.labels("applied").inc()

    async def _take_up(self, settings: Settings, poller: Poller) -> None:
        old = self._settings
        for key in ("database", "http", "log_format", "log_level"):
            if getattr(settings, key) != getattr(old, key):
                log.warning("this change needs a restart", key=key)
        for key in ("retention", "columnstore", "billing_timezone", "large_session_participants"):
            if getattr(settings, key) != getattr(old, key):
                log.warning("this change needs `bbbmeter migrate`", key=key)
        async with self._ticking:
            next_tick = self._next_tick(settings)
            async with self._pool.acquire() as connection:
                await sync_fleet(connection, settings.server, settings.tenant, next_tick)
            self._settings, self._poller = settings, poller
            for name in {s.name for s in old.server} - {s.name for s in settings.server}:
                with contextlib.suppress(KeyError):
                    self.metrics.server_up.remove(name)
            if settings.poll_interval_s == old.poll_interval_s:
                self._pipeline.configure(settings)
            else:
                # Ticks of another grid: gaps between the two are not filled.
                self._pipeline = Pipeline(settings)
                self._schedule_ticks()
        log.info("settings taken up", servers=len(self._settings.enabled_servers))

    # -- what the probes say -----------------------------------------------------------------

    def _lag_s(self) -> float:
        since = self._outbox.newest_stored or self._started_at
        return (self._clock.now() - since).total_seconds()

    def _not_alive(self) -> str | None:
        silent_s = (self._clock.now() - self._last_tick_at).total_seconds()
        if silent_s > SILENT_INTERVALS * self._settings.poll_interval_s:
            return f"no tick for {silent_s:.0f} s"
        return None

    def _not_ready(self) -> str | None:
        if self._outbox.failing:
            return "the database does not take what is to be stored"
        return self._not_alive()


def _modified_at(path: Path | None) -> float | None:
    """Return when the file was last changed; None where there is none."""
    if path is None:
        return None
    try:
        return path.stat().st_mtime
    except OSError:
        return None
