"""Collectors side by side: signs of life, and which of them polls which server.

Each collector writes a sign of life to the database and computes the same rendezvous hash over all
that live. Nothing else coordinates them: two that overlap at a handover are told apart by the
unique key of `meter.poll`.

A collector that does not reach the database gives no sign, and the others take over. It goes on
polling what it had, into its spool: from inside, it cannot tell its own isolation from a database
that is down for all. What it brings later counts only where no other has polled.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta

import asyncpg

from collector.database import borrowed
from collector.database.deadlines import BEAT_DEADLINE_S

# In poll intervals. A tick after the last sign of life, others must take over within three.
BEATS_PER_INTERVAL = 3
ALIVE_INTERVALS = 2


@dataclass(frozen=True, slots=True)
class State:
    """What a collector tells of itself with its sign of life; None is unknown.

    `newest_stored_at` is the newest tick that it has stored.
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
        """Be `collector` (its spool's identity, unique among the living) on `host`."""
        self.collector = collector
        self._host = host
        self._interval_s = interval_s
        self._began = False
        # Until the first sign of life: alone. Polling twice does no harm, polling nothing does.
        self.living: tuple[str, ...] = (collector,)

    @property
    def period_s(self) -> float:
        """Seconds between signs of life."""
        return self._interval_s / BEATS_PER_INTERVAL

    def configure(self, interval_s: int) -> None:
        """Take a changed poll interval."""
        self._interval_s = interval_s

    async def beat(self, pool: asyncpg.Pool, unsafe_since: datetime | None, state: State) -> None:
        """Give a sign of life and learn who lives. Raises DatabaseError; `living` stays then.

        `unsafe_since` is the oldest tick that is in memory alone: a kill now would lose it.
        """
        async with borrowed(pool, "sign of life", BEAT_DEADLINE_S) as connection:
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
        """Let the others take over at once. Raises DatabaseError."""
        period = timedelta(seconds=self.period_s)
        async with borrowed(pool, "sign off", BEAT_DEADLINE_S) as connection:
            await connection.execute("SELECT meter.leave($1, $2)", self.collector, period)

    def owns(self, name: str) -> bool:
        """Say whether the server `name` (or any other task of that name) is this collector's."""
        alone = self.living == (self.collector,)
        return alone or owner(name, self.living) == self.collector


def owner(name: str, collectors: Iterable[str]) -> str:
    """Return who of `collectors` (not empty) has `name`: the rendezvous hash.

    When one comes or goes, only what it gets or had changes hands.
    """
    return max(collectors, key=lambda one: (_weight(one, name), one))


def _weight(collector: str, name: str) -> bytes:
    return hashlib.blake2b(f"{collector}\0{name}".encode(), digest_size=8).digest()
