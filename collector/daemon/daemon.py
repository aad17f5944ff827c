"""`bbbmeter run`: ticks, storing, sharing, jobs, reload and an orderly end, wired together."""

import asyncio
import contextlib
import math
import signal
import socket
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import asyncpg
import structlog

from collector.bbb import BbbClients
from collector.clock import Clock, SystemClock, tick_at
from collector.daemon.sharing import Sharing, State
from collector.daemon.timetable import Timetable
from collector.database import borrowed, open_pool
from collector.database.engine import parse_embedded
from collector.database.migrate import migrate, require_current
from collector.database.upkeep import PolicyRunner, settle, update_sessions
from collector.errors import (
    BbbmeterError,
    DatabaseError,
    InternalError,
    MigrationError,
    SettingsError,
    SpoolError,
)
from collector.metering.attribution import Attribution
from collector.metering.pipeline import Pipeline
from collector.metrics import Metrics
from collector.model import PollResult
from collector.settings import Settings
from collector.settings.file import load_settings
from collector.sources.polling.parser import parse_meetings
from collector.sources.polling.poller import Poller
from collector.storage.outbox import Outbox
from collector.storage.registry import covered_until, last_polls, store_certificates, sync_fleet
from collector.storage.spool import Spool, slots
from collector.storage.writer import Writer
from collector.verify import verify
from collector.web.health import serve_health

log = structlog.get_logger(__name__)

# A tick ends so long before the next one begins.
TICK_MARGIN_S = 1.0
# At the end: for the servers that were asked already, then for what waits to be stored.
CUT_GRACE_S = 3.0
DRAIN_DEADLINE_S = 20.0
# One for each of storing, signs of life, sessions, policies and verifying, and one more.
CONNECTIONS = 6
MEET_DEADLINE_S = 120.0
# One that is known to be there, but away, keeps no tick waiting.
KNOWN_DEADLINE_S = 5.0
MEET_EVERY_S = 5.0
SESSIONS_EVERY_S = 60
POLICIES_EVERY_S = 60
WATCH_EVERY_S = 5
VERIFY_EVERY_S = 86_400
VERIFY_AT = datetime(2000, 1, 1, 3, 30, tzinfo=UTC)  # each day at this time
# What is verified each day: that day, and some before it, for what came late.
VERIFY_BACK = timedelta(days=3)
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
        self._stop = asyncio.Event()
        self._ticking = asyncio.Lock()
        self._read_at = _modified_at(path)
        self._started_at = self._clock.now()
        self._last_tick_at = self._started_at
        # The servers that this collector polls: its share of the enabled ones.
        self._mine: frozenset[str] = frozenset()
        # When certificates expire, by server: all that were seen, and what is to be stored of it.
        self._certificates: dict[str, datetime] = {}
        self._new_certificates: dict[str, datetime] = {}
        self._first_tick: datetime | None = None
        self._fatal: BbbmeterError | None = None
        self.metrics = Metrics()
        self._timetable = Timetable(
            self._clock, self.metrics, plan=self._plan_anew, give_up=self._give_up
        )
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
            self._spool = self._open_spool(stack)
            self._clients = await stack.enter_async_context(BbbClients())
            self._pool = await self._open_pool(stack, database)
            self._begin(embedded=parse_embedded(database) is not None)
            self.health_port = await stack.enter_async_context(
                serve_health(
                    self._settings.http, self.metrics, alive=self._not_alive, ready=self._not_ready
                )
            )
            await self._meet_at_first()
            log.info(
                "collecting",
                servers=len(self._settings.enabled_servers),
                interval_s=self._settings.poll_interval_s,
                health_port=self.health_port,
                collector=self._sharing.collector,
            )
            async with self._storing(), self._scheduling():
                await self._stop.wait()
            log.info("stopped")
        if self._fatal is not None:
            raise self._fatal

    def _open_spool(self, stack: contextlib.AsyncExitStack) -> Spool | None:
        """Return this collector's spool; None where the disk has none to give, which is told."""
        spool = self._settings.spool
        self.metrics.spool_max_bytes.set(spool.max_bytes)
        try:
            opened = Spool.open(spool.directory, spool.max_bytes)
        except SpoolError as error:
            self.metrics.spool_failures.inc()
            log.error("no spool: what cannot be stored waits in memory", error=str(error))  # noqa: TRY400
            return None
        stack.callback(opened.close)
        return opened

    async def _open_pool(self, stack: contextlib.AsyncExitStack, database: str) -> asyncpg.Pool:
        """Return a pool: without a connection yet where the server is known, and may be away."""
        at_once = not self._knows_database or parse_embedded(database) is not None
        return await stack.enter_async_context(
            open_pool(database, max_size=CONNECTIONS, at_once=at_once)
        )

    @property
    def _knows_database(self) -> bool:
        """Whether this collector's database was there once: then it is away, not misspelt."""
        if self._spool is None:
            return bool(slots(self._settings.spool.directory))
        return self._spool.met_database

    def _begin(self, *, embedded: bool) -> None:
        """Make ready what the first tick needs."""
        self._embedded = embedded
        self._pipeline = Pipeline(self._settings)
        self._outbox = Outbox(
            Writer(self._pool),
            self._spool,
            self.metrics,
            not_stored=self._not_stored,
            late_days=self._settings.late_days,
        )
        self._outbox.open = False
        self._sharing = Sharing(
            # Without a spool it has no lasting identity: each start is another collector.
            self._spool.collector if self._spool else uuid.uuid4().hex,
            socket.gethostname(),
            self._settings.poll_interval_s,
        )
        self._poller = self._make_poller(self._settings)
        self._policies = PolicyRunner(self._pool) if embedded else None

    async def _meet_at_first(self) -> None:
        """Meet the database; where it is away but known, collect all the same, into the spool."""
        known = self._knows_database and not self._embedded
        try:
            await self._meet(KNOWN_DEADLINE_S if known else MEET_DEADLINE_S)
        except MigrationError:
            raise
        except DatabaseError as error:
            if not known:
                raise
            log.error("the database is away: collecting into the spool", error=str(error))  # noqa: TRY400
            self._first_tick = self._next_tick(self._settings)
            # All of them: polled twice, beside a collector that cannot be seen, is stored once.
            self._mine = frozenset(server.name for server in self._settings.enabled_servers)

    async def _meet(self, deadline_s: float) -> None:
        """See that the database is ours and up to date, and tell it what is due since when."""
        async with borrowed(self._pool, "connect", deadline_s) as connection:
            if self._embedded:
                await migrate(connection, self._settings)
            else:
                await require_current(connection)
            covered = await covered_until(connection, self._settings.poll_interval_s)
            # One that began without the database has polled since then.
            tick = self._first_tick or self._next_tick(self._settings, covered)
            await sync_fleet(connection, self._settings.server, self._settings.tenant, tick)
        self._first_tick = tick
        if self._spool is not None:
            self._spool.met_database = True
        await self._beat()
        self._outbox.open = True
        self._outbox.hurry()

    def _make_poller(self, settings: Settings) -> Poller:
        """Return a poller for the enabled servers; SettingsError where a secret is missing."""
        parse = partial(
            parse_meetings,
            metadata_keys=Attribution(settings.attribution).metadata_keys,
            room_names=settings.store_room_names,
        )
        clients = self._clients.make(
            settings.enabled_servers, "getMeetings", parse, max_body_bytes=settings.max_body_bytes
        )
        return Poller(clients, settings.concurrency)

    def _next_tick(self, settings: Settings, not_before: datetime | None = None) -> datetime:
        """Return the first tick that is still to come, at `not_before` or later."""
        now = self._clock.now()
        instant = max(now, not_before or now)
        tick = tick_at(instant, settings.poll_interval_s)
        due = tick == not_before
        return tick if due else tick + timedelta(seconds=settings.poll_interval_s)

    # -- the tick ----------------------------------------------------------------------------

    async def _tick(self) -> None:
        """Poll every server for the present tick, and hand on each result as it comes in."""
        async with self._ticking:
            now = self._clock.now()
            interval_s = self._settings.poll_interval_s
            ts = tick_at(now, interval_s)
            self._last_tick_at = now
            left_s = interval_s - (now - ts).total_seconds() - TICK_MARGIN_S
            await self._poller.poll(ts, max(left_s, TICK_MARGIN_S), self._deliver, self._mine)
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
        self._note_certificate(result)
        self._outbox.put(batch)
        if self.on_result is not None:
            self.on_result(result)

    def _note_certificate(self, result: PollResult) -> None:
        expires_at = result.tls_expires_at
        if expires_at is None or self._certificates.get(result.server) == expires_at:
            return
        self._certificates[result.server] = self._new_certificates[result.server] = expires_at
        self.metrics.tls_expires.labels(result.server).set(expires_at.timestamp())

    def _not_stored(self, server: str) -> None:
        self._pipeline.forget_sessions(server)

    # -- the share ---------------------------------------------------------------------------

    async def _beat(self) -> None:
        """Give a sign of life, and take or leave servers as others go or come."""
        await self._sharing.beat(self._pool, self._outbox.unsafe_since, self._state())
        await self._share()
        if new := dict(self._new_certificates):
            async with borrowed(self._pool, "store certificates", KNOWN_DEADLINE_S) as connection:
                await store_certificates(connection, new)
            self._new_certificates = {
                k: v for k, v in self._new_certificates.items() if new.get(k) != v
            }

    def _state(self) -> State:
        """Return what the sign of life tells of this collector."""
        spool = self._spool
        return State(
            servers=len(self._mine),
            newest_stored_at=self._outbox.newest_stored,
            spool_polls=spool.polls if spool else None,
            spool_bytes=spool.bytes if spool else None,
            spool_max_bytes=self._settings.spool.max_bytes if spool else None,
            quarantined_batches=spool.quarantined if spool else None,
        )

    async def _share(self) -> None:
        """Poll the servers that are this collector's from the next tick on.

        What it knew of one that it left and takes again may be old; what another left in the
        database lets it fill the hole of the handover.
        """
        enabled = (server.name for server in self._settings.enabled_servers)
        mine = frozenset(filter(self._sharing.owns, enabled))
        self.metrics.collectors.set(len(self._sharing.living))
        self.metrics.servers.set(len(mine))
        if mine == self._mine:
            return
        for name in self._mine ^ mine:
            self._pipeline.forget(name)
            for gauge in (self.metrics.server_up, self.metrics.tls_expires):
                with contextlib.suppress(KeyError):
                    gauge.remove(name)
            # Who takes it (again) has not told of it.
            self._certificates.pop(name, None)
        gained, self._mine = mine - self._mine, mine
        log.info("servers shared", mine=len(mine), collectors=len(self._sharing.living))
        if not gained:
            return
        tick = self._next_tick(self._settings)
        try:
            async with borrowed(self._pool, "read the last polls", KNOWN_DEADLINE_S) as connection:
                last = await last_polls(connection, gained, tick, self._settings.max_gap_s)
        except DatabaseError as error:
            log.warning("holes before this are not filled", error=str(error))
            return
        for name, poll in last.items():
            self._pipeline.restore(name, poll)

    def _leads(self) -> bool:
        """Say whether this collector does what is to be done once for all: with the database."""
        return self._outbox.open and self._sharing.owns("jobs")

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
                    if self._outbox.storing:
                        await update_sessions(self._pool, self._settings.close_after_s)
            except TimeoutError:
                log.error("the database did not take what was waiting in time")  # noqa: TRY400
            except DatabaseError as error:
                log.warning("sessions not brought up to date", error=str(error))
        finally:
            if not loop.done():
                loop.cancel()
            try:
                with contextlib.suppress(asyncio.CancelledError):
                    await loop
            finally:
                await self._outbox.close()

    @contextlib.asynccontextmanager
    async def _scheduling(self) -> AsyncIterator[None]:
        """Run ticks and jobs meanwhile; at the end, a tick under way is cut short, not lost."""
        coming = self._next_tick(self._settings)
        self._plan(max(self._first_tick or coming, coming))
        async with self._timetable.running():
            try:
                yield
            finally:
                self._timetable.pause()
                self._poller.cut(CUT_GRACE_S)
                if self._outbox.storing:
                    with contextlib.suppress(DatabaseError):
                        await self._sharing.leave(self._pool)
                async with self._ticking:
                    pass

    def _plan(self, first_tick: datetime) -> None:
        """Enter everything into the timetable; the ticks begin with `first_tick`."""
        self._last_tick_at = self._clock.now()
        self._timetable.ticks(self._settings.poll_interval_s, first_tick, self._tick)
        self._timetable.every(MEET_EVERY_S, "database", self._meet_if_away)
        self._timetable.every(self._sharing.period_s, "sharing", self._beat_if_met)
        self._timetable.every(SESSIONS_EVERY_S, "sessions", self._update_sessions)
        if self._policies is not None:
            self._timetable.every(POLICIES_EVERY_S, "policies", self._run_policies)
        self._timetable.every(WATCH_EVERY_S, "settings", self._watch)
        self._timetable.every(VERIFY_EVERY_S, "verify", self._verify, VERIFY_AT)

    def _plan_anew(self) -> None:
        """Plan by a clock that has stepped; a tick that comes again is not stored again."""
        self._plan(self._next_tick(self._settings))

    def _give_up(self, error: BbbmeterError) -> None:
        self._fatal = error
        self.stop()

    async def _meet_if_away(self) -> None:
        if not self._outbox.open:
            await self._meet(MEET_DEADLINE_S)
            log.info("the database is back")

    async def _beat_if_met(self) -> None:
        if self._outbox.open:
            await self._beat()

    async def _update_sessions(self) -> None:
        if self._leads():
            await settle(self._pool)
            await update_sessions(self._pool, self._settings.close_after_s)

    async def _run_policies(self) -> None:
        if self._policies is not None and self._leads():
            await self._policies.run_due(self._clock.now())

    async def _verify(self) -> None:
        """Verify the last days; the result is for `/metrics` and the log."""
        if not self._leads():
            return
        results = await verify(self._pool, self._settings, since=self._clock.now() - VERIFY_BACK)
        for result in results:
            count = math.nan if result.status == "failed" else result.total
            self.metrics.verify_findings.labels(result.name).set(count)
            if not result.ok:
                log.error("verify", check=result.name, findings=result.total, note=result.note)
        self.metrics.verify_timestamp.set(self._clock.now().timestamp())

    # -- settings that change ----------------------------------------------------------------

    def _request_reload(self) -> None:
        self._read_at = None
        self._timetable.now("settings")

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
        try:
            await self._take_up(settings, poller)
        except DatabaseError:
            self._read_at = None  # to be tried again
            raise
        self.metrics.reloads.labels("applied").inc()

    async def _take_up(self, settings: Settings, poller: Poller) -> None:
        old = self._settings
        for key in ("database", "http", "log_format", "log_level"):
            if getattr(settings, key) != getattr(old, key):
                log.warning("this change needs a restart", key=key)
        for key in ("retention", "columnstore", "billing_timezone", "large_session_participants"):
            if getattr(settings, key) != getattr(old, key):
                log.warning("this change needs `bbbmeter migrate`", key=key)
        if settings.attribution.default != old.attribution.default:
            log.warning("this change needs `bbbmeter migrate`", key="attribution.default")
        async with self._ticking:
            # What the last tick stands for must be over: no second is counted twice.
            covered = tick_at(self._last_tick_at, old.poll_interval_s)
            covered += timedelta(seconds=old.poll_interval_s)
            next_tick = self._next_tick(settings, covered)
            async with borrowed(self._pool, "store the fleet", KNOWN_DEADLINE_S) as connection:
                await sync_fleet(connection, settings.server, settings.tenant, next_tick)
            self._settings, self._poller = settings, poller
            if settings.poll_interval_s == old.poll_interval_s:
                self._pipeline.configure(settings)
            else:
                # Ticks of another grid: gaps between the two are not filled.
                self._pipeline = Pipeline(settings)
                self._sharing.configure(settings.poll_interval_s)
                self._plan(next_tick)
        await self._share()
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
