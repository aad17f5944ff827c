"""An invented history of a fleet, for tests, preview and benchmarks.

It is written into a migrated, empty database with SQL over whole days, so that a month of a large
fleet takes minutes. The same history gives the same rows. It has everything that a real one has:
rooms that are used repeatedly, busy days and quiet nights, breakout rooms, dial-in, a server that
was away, failed polls that were filled, a collector that was restarted, contracts that are kept and
broken.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg

from collector.model import LATER_COUNTS
from collector.rollups import ROLLUPS
from tests.support import history_sql as sql

TENANTS = (
    ("law", "Law"),
    ("medicine", "Medicine"),
    ("physics", "Physics"),
    ("arts", "Arts & Music"),
    ("history", "History"),
    ("economics", "Economics"),
    ("theology", "Theology"),
    ("chemistry", "Chemistry"),
    ("library", "University Library"),
    ("sports", "Sports"),
    ("languages", "Languages"),
    ("school-of-night", "School of Night"),
    ("unassigned", ""),
)
TIMEZONE = "Europe/Berlin"


@dataclass(frozen=True, slots=True)
class History:
    """The size of the history; `sessions` is the mean number of concurrent sessions."""

    end: datetime
    days: int
    servers: int
    sessions: float
    tenants: int = len(TENANTS)
    interval_s: int = 30

    @property
    def begin(self) -> datetime:
        """The first midnight (UTC) of the history."""
        day = datetime.combine(self.end.astimezone(UTC).date(), datetime.min.time(), UTC)
        return day - timedelta(days=self.days)


async def fill(
    connection: asyncpg.Connection,
    history: History,
    *,
    hourly_chunks_since: datetime | None = None,
) -> Mapping[str, int]:
    """Write `history`, refresh all rollups, and return the rows of each table.

    Samples from `hourly_chunks_since` on are in chunks of an hour. So a test can see by the number
    of chunks whether a query reads too many samples.
    """
    values = {
        "begin": f"'{history.begin.isoformat()}'::timestamptz",
        "end": f"'{history.end.isoformat()}'::timestamptz",
        "servers": str(history.servers),
        "tenants": str(history.tenants),
        "lanes": str(max(1, round(history.sessions / sql.LOAD))),
        "interval_s": str(history.interval_s),
        "timezone": f"'{TIMEZONE}'",
        "later_columns": "".join(f", {count}" for count in LATER_COUNTS),
        "later_values": ", ceil(c.participants / 30.0)" * len(LATER_COUNTS),
    }
    names = TENANTS[: history.tenants - 1] + TENANTS[-1:]
    await connection.executemany(
        "INSERT INTO meter.tenant (name, title) VALUES ($1, $2) "
        "ON CONFLICT (name) DO UPDATE SET title = excluded.title",
        names,
    )
    for statement in (sql.HASH, sql.FLEET, sql.PLAN, sql.BREAKOUTS, sql.PLAN_KEYS, sql.AWAY):
        await connection.execute(statement.format(**values))
    day = history.begin
    while day < history.end:
        if hourly_chunks_since is not None and day >= hourly_chunks_since:
            await connection.execute(
                "SELECT public.set_chunk_time_interval('meter.sample', interval '1 hour')"
            )
            hourly_chunks_since = None
        until = min(day + timedelta(days=1), history.end)
        part = values | {
            "since": f"'{day.isoformat()}'::timestamptz",
            "until": f"'{until.isoformat()}'::timestamptz",
        }
        await connection.execute(sql.SAMPLES.format(**part))
        await connection.execute(sql.POLLS.format(**part))
        day = until
    for statement in (sql.SESSIONS, sql.COLLECTORS, sql.CONTRACTS, sql.DUPLICATES):
        await connection.execute(statement.format(**values))
    for table in ("plan", "away"):
        await connection.execute(f"DROP TABLE pg_temp.{table}")
    for rollup in ROLLUPS:
        await connection.execute(
            f"CALL public.refresh_continuous_aggregate('meter.{rollup}', NULL, NULL)"
        )
    tables = ("tenant", "server", "room", "session", "poll", "sample")
    return {
        name: await connection.fetchval(f"SELECT count(*) FROM meter.{name}")  # noqa: S608
        for name in tables
    }
