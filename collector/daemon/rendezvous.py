"""Several collectors on one database: heartbeats, and which collector polls which server.

Each collector writes a heartbeat to the database, and computes the same rendezvous hash over all
living collectors. Nothing else coordinates them. If two poll the same server at a handover, the
unique key of `meter.poll` keeps one of the polls.

A collector that cannot reach the database writes no heartbeat, and the others take over. It
continues to poll its servers into its spool. It cannot know whether only it is cut off, or the
database is down for all. What it writes later counts only where no other collector has polled.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta

import asyncpg

from collector.database import borrowed
from collector.database.deadlines import BEAT_DEADLINE_S
from collector.storage.claims import Claimant, Fleet

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


@dataclass(frozen=True, slots=True)
class Other:
    """A living collector whose fleet differs from this one's."""

    host: str
    fleet: Fleet


_DIFFERENT = """
SELECT * FROM (
    SELECT DISTINCT ON (c.id) c.id, c.host, c.fleet, c.fleet_hash, c.settings_changed_at
    FROM meter.collector AS c
    WHERE c.id = ANY($1::text[]) AND c.until > now() - interval '10 minutes'
    ORDER BY c.id, c.until DESC, c.since DESC
) AS x
WHERE x.fleet_hash <> $2
"""


class Sharing:
    """One collector among those that share a database.

    `different` are the living collectors whose fleet is another one, by their ids. Their settings
    files are not the same as this collector's.
    """

    def __init__(self, collector: str, host: str, interval_s: int, fleet: Fleet) -> None:
        """Set the collector's id (its spool's identity, unique among the living) and host."""
        self.collector = collector
        self.fleet = fleet
        self.different: Mapping[str, Other] = {}
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

    @property
    def claimant(self) -> Claimant:
        """This collector and its fleet."""
        return Claimant(self.collector, self.fleet)

    def configure(self, interval_s: int, fleet: Fleet) -> None:
        """Use a changed poll interval, in seconds, and a changed fleet from the next heartbeat."""
        self._interval_s = interval_s
        self.fleet = fleet

    async def beat(self, pool: asyncpg.Pool, unsafe_since: datetime | None, state: State) -> None:
        """Write a heartbeat and read the living collectors into `living` and `different`.

        `unsafe_since` is the oldest tick that is only in memory: a kill now would lose it.
        Raises DatabaseError; then both are unchanged.
        """
        async with borrowed(pool, "heartbeat", BEAT_DEADLINE_S) as connection:
            living = await connection.fetchval(
                "SELECT meter.beat($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, "
                "$14, $15, $16)",
                self.collector,
                self._host,
                timedelta(seconds=self.period_s),
                timedelta(seconds=ALIVE_INTERVALS * self._interval_s),
                not self._began,
                unsafe_since,
                self._interval_s,
                *astuple(state),
                list(self.fleet.servers),
                self.fleet.hash,
                self.fleet.settings_changed_at,
            )
            rows = await connection.fetch(_DIFFERENT, living, self.fleet.hash)
        self._began = True
        self.living = tuple(living)
        self.different = {
            row["id"]: Other(
                row["host"],
                Fleet(tuple(row["fleet"]), row["fleet_hash"], row["settings_changed_at"]),
            )
            for row in rows
        }

    async def leave(self, pool: asyncpg.Pool) -> None:
        """Sign off, so that the others take over at once. Raises DatabaseError."""
        period = timedelta(seconds=self.period_s)
        async with borrowed(pool, "sign off", BEAT_DEADLINE_S) as connection:
            await connection.execute("SELECT meter.leave($1, $2)", self.collector, period)

    def owns(self, task: str) -> bool:
        """Return whether this collector has a task that one does for all."""
        return self._is_owner(task, self.living)

    def owns_server(self, name: str) -> bool:
        """Return whether this collector polls the server `name` of its settings.

        Only collectors that have the server in their settings can poll it.
        """
        without = {one for one, other in self.different.items() if name not in other.fleet.servers}
        return self._is_owner(name, tuple(one for one in self.living if one not in without))

    def _is_owner(self, name: str, collectors: tuple[str, ...]) -> bool:
        alone = collectors == (self.collector,)
        return alone or owner(name, collectors) == self.collector


def owner(name: str, collectors: Iterable[str]) -> str:
    """Return which of `collectors` (not empty) has `name`, by the rendezvous hash.

    If a collector starts or stops, only the names that it gets or had move to another one.
    """
    return max(collectors, key=lambda one: (_weight(one, name), one))


def _weight(collector: str, name: str) -> bytes:
    return hashlib.blake2b(f"{collector}\0{name}".encode(), digest_size=8).digest()
