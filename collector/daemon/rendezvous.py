"""Several collectors on one database: heartbeats, and which collector polls which server.

Each collector writes a heartbeat to the database, and computes the same rendezvous hash over all
living collectors. Nothing else coordinates them. If two poll the same server at a handover, the
unique key of `meter.poll` keeps one of the polls.

A collector that cannot reach the database writes no heartbeat, and the others take over. It
continues to poll its servers into its spool. It cannot know whether only it is cut off, or the
database is down for all. What it writes later counts only where no other collector has polled.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta

import asyncpg

from collector.database import borrowed
from collector.database.deadlines import BEAT_DEADLINE_S

# Heartbeats per poll interval.
BEATS_PER_INTERVAL = 3
# Poll intervals after which a collector without a heartbeat counts as gone. With this and the
# signs' frequency, others take over within three intervals.
ALIVE_INTERVALS = 2


@dataclass(frozen=True, slots=True)
class State:
    """What a collector reports with its heartbeat; None is unknown.

    `newest_stored_at` is the newest tick that it has stored. The order of the fields is the order
    of the last arguments of meter.beat.
    """

    servers: int
    newest_stored_at: datetime | None
    spool_polls: int | None
    spool_bytes: int | None
    spool_max_bytes: int | None
    quarantined_batches: int | None


class Sharing:
    """One collector among those that share a database."""

    def __init__(self, collector: str, host: str, interval_s: int) -> None:
        """Set the collector's id (its spool's identity, unique among the living) and host."""
        self.collector = collector
        self._host = host
        self._interval_s = interval_s
        self._began = False
        # Until its first heartbeat it assumes to be alone: to poll a server twice does no harm,
        # but to leave it out does.
        self.living: tuple[str, ...] = (collector,)

    @property
    def period_s(self) -> float:
        """Seconds between heartbeats."""
        return self._interval_s / BEATS_PER_INTERVAL

    def configure(self, interval_s: int) -> None:
        """Use a changed poll interval, in seconds."""
        self._interval_s = interval_s

    async def beat(self, pool: asyncpg.Pool, unsafe_since: datetime | None, state: State) -> None:
        """Write a heartbeat and read the living collectors into `living`.

        `unsafe_since` is the oldest tick that is only in memory: a kill now would lose it.
        Raises DatabaseError; then `living` is unchanged.
        """
        async with borrowed(pool, "heartbeat", BEAT_DEADLINE_S) as connection:
            living = await connection.fetchval(
                "SELECT meter.beat($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
                self.collector,
                self._host,
                timedelta(seconds=self.period_s),
                timedelta(seconds=ALIVE_INTERVALS * self._interval_s),
                not self._began,
                unsafe_since,
                self._interval_s,
                *astuple(state),
            )
        self._began = True
        self.living = tuple(living)

    async def leave(self, pool: asyncpg.Pool) -> None:
        """Sign off, so that the others take over at once. Raises DatabaseError."""
        period = timedelta(seconds=self.period_s)
        async with borrowed(pool, "sign off", BEAT_DEADLINE_S) as connection:
            await connection.execute("SELECT meter.leave($1, $2)", self.collector, period)

    def owns(self, name: str) -> bool:
        """Return whether this collector has the server (or other task) `name`."""
        alone = self.living == (self.collector,)
        return alone or owner(name, self.living) == self.collector


def owner(name: str, collectors: Iterable[str]) -> str:
    """Return which of `collectors` (not empty) has `name`, by the rendezvous hash.

    If a collector starts or stops, only the names that it gets or had move to another one.
    """
    return max(collectors, key=lambda one: (_weight(one, name), one))


def _weight(collector: str, name: str) -> bytes:
    return hashlib.blake2b(f"{collector}\0{name}".encode(), digest_size=8).digest()
