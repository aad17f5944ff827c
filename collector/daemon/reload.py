"""Applies changed settings while the daemon runs."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import structlog

from collector.daemon.context import Context
from collector.daemon.share import Share
from collector.daemon.ticks import Ticks
from collector.database import borrowed
from collector.database.deadlines import SHORT_DEADLINE_S
from collector.errors import DatabaseError, SettingsError, SpoolError
from collector.settings import Settings
from collector.settings.file import load_settings
from collector.sources.polling.poller import Poller
from collector.storage.claims import fleet_of
from collector.storage.registry import covered_until, sync_fleet

log = structlog.get_logger(__name__)

# Settings that take effect only at the next start.
_AT_START = ("database", "http", "log_format", "log_level", "spool.directory")
# Settings that take effect only at the next `bbbmeter migrate`.
_AT_MIGRATE = (
    "retention",
    "columnstore",
    "billing_timezone",
    "large_session_participants",
    "attribution.default",
)


class Reload:
    """Applies the settings file when it changes; rejects an invalid file and keeps the settings."""

    def __init__(
        self,
        context: Context,
        path: Path | None,
        ticks: Ticks,
        share: Share,
        plan: Callable[[datetime], None],
    ) -> None:
        """Watch `path`, which was just read; `plan` gets the first tick of a new poll interval."""
        self._context = context
        self._path = path
        self._ticks = ticks
        self._share = share
        self._plan = plan
        self._read_at = modified_at(path)

    def request(self) -> None:
        """Read the file again at the next `look`, even if it has not changed."""
        self._read_at = None

    async def look(self) -> None:
        """Apply the file if it has changed. After a DatabaseError the next call tries again."""
        found_at = modified_at(self._path)
        if self._path is None or found_at == self._read_at:
            return
        self._read_at = found_at
        reloads = self._context.metrics.reloads
        try:
            settings = load_settings(self._path)
            poller = self._ticks.poller_for(settings)
        except SettingsError as error:
            reloads.labels("refused").inc()
            log.error("settings_refused", problems=error.problems)
            return
        try:
            await self._apply(settings, poller)
        except DatabaseError:
            self._read_at = None  # so that the next look tries again
            raise
        reloads.labels("applied").inc()

    async def _apply(self, settings: Settings, poller: Poller) -> None:
        context, ticks = self._context, self._ticks
        old = context.settings
        for key in _changed(old, settings, _AT_START):
            log.warning("settings_need_restart", key=key)
        for key in _changed(old, settings, _AT_MIGRATE):
            log.warning("settings_need_migrate", key=key)
        # Before the database is asked: a larger spool is needed when the database is away.
        await self._resize_spool(settings.spool.max_bytes)
        async with ticks.lock:
            next_tick = await self._store(settings)
            context.settings = settings
            ticks.use(poller)
            context.pipeline.configure(settings)
            if settings.poll_interval_s != old.poll_interval_s:
                self._plan(next_tick)
        await self._share.apply()
        log.info("settings_applied", servers=len(settings.enabled_servers))

    async def _store(self, settings: Settings) -> datetime:
        """Store the fleet of `settings`, and return the first tick at which they take effect.

        No tick may run meanwhile. Raises DatabaseError; then nothing is changed.
        """
        context, sharing = self._context, self._context.sharing
        old_fleet = sharing.fleet
        sharing.configure(settings.poll_interval_s, fleet_of(settings, self._read_at))
        try:
            await self._share.announce()
            async with borrowed(context.pool, "store the fleet", SHORT_DEADLINE_S) as connection:
                # The time that earlier ticks cover must be over, so that no second counts twice.
                covered = [self._ticks.covered_until]
                if settings.poll_interval_s != context.settings.poll_interval_s:
                    covered.append(await covered_until(connection, settings.poll_interval_s))
                next_tick = self._ticks.next_at(settings, max(filter(None, covered), default=None))
                await sync_fleet(
                    connection, settings.server, settings.tenant, next_tick, sharing.claimant
                )
        except DatabaseError:
            sharing.configure(context.settings.poll_interval_s, old_fleet)
            raise
        return next_tick

    async def _resize_spool(self, max_bytes: int) -> None:
        try:
            await self._context.outbox.resize_spool(max_bytes)
        except SpoolError as error:
            log.error("spool_resize_failed", error=str(error))


def _changed(old: Settings, new: Settings, keys: tuple[str, ...]) -> list[str]:
    return [key for key in keys if _value(old, key) != _value(new, key)]


def _value(settings: Settings, key: str) -> object:
    value: object = settings
    for part in key.split("."):
        value = getattr(value, part)
    return value


def modified_at(path: Path | None) -> float | None:
    """Return when the file was last changed; None if there is no file."""
    if path is None:
        return None
    try:
        return path.stat().st_mtime
    except OSError:
        return None
