"""The input of all checks: the period, its days, names, chunks, and late data."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import asyncpg

from collector.database import translated
from collector.database.migrate import render, variables_of
from collector.settings import Settings

# Late data are settled within this time. Until then, a difference that they explain is not a
# finding.
UNSETTLED = timedelta(minutes=10)
# No data can be older than this day; a chunk before it comes from a wrong clock.
FIRST_DAY = datetime(2015, 1, 1, tzinfo=UTC)
# No data can lie further in the future than this, even with a wrong clock.
IN_ADVANCE = timedelta(days=2)

_CHUNKS = """
WITH relation AS (
    SELECT
        h.hypertable_name AS name,
        h.hypertable_schema AS schema_name,
        h.hypertable_name AS table_name
    FROM timescaledb_information.hypertables AS h
    WHERE h.hypertable_schema = 'meter'
    UNION ALL
    SELECT c.view_name, c.materialization_hypertable_schema, c.materialization_hypertable_name
    FROM timescaledb_information.continuous_aggregates AS c
    WHERE c.view_schema = 'meter'
)
SELECT
    r.name::text AS relation, k.chunk_name::text AS name, k.range_start AS since,
    k.range_end AS until, k.is_compressed AS is_columns
FROM relation AS r
INNER JOIN timescaledb_information.chunks AS k
    ON (k.hypertable_schema, k.hypertable_name) = (r.schema_name, r.table_name)
ORDER BY r.name, k.range_start
"""
_DAYS = """
SELECT DISTINCT public.time_bucket('1 day', g, ${billing_timezone}) AS day
FROM generate_series($1::timestamptz, $2::timestamptz, '${hour}') AS g
ORDER BY day
"""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk of a table or rollup, with the rows of [since, until)."""

    relation: str
    name: str
    since: datetime
    until: datetime
    is_columns: bool


@dataclass(frozen=True, slots=True)
class Scope:
    """What must be verified, and what is known about the database.

    `since` and `until` are the requested period; None means no bound. `baked` are the settings
    that the day rollups were made with; `variables` are those for SQL texts. `days` are the first
    instants of all days with data, in order. `late` are spans of late data that will be settled
    soon; `unsettled` are spans that should have been settled by now.
    """

    pool: asyncpg.Pool
    settings: Settings
    now: datetime
    since: datetime | None
    until: datetime | None
    zone: ZoneInfo
    baked: Mapping[str, str]
    variables: Mapping[str, str]
    days: Sequence[datetime]
    tenants: Mapping[int, str]
    servers: Mapping[int, str]
    chunks: Sequence[Chunk]
    late: Sequence[tuple[datetime, datetime]]
    unsettled: Sequence[tuple[datetime, datetime]]

    def sql(self, text: str) -> str:
        """Fill the settings that the database was made with into `${…}` placeholders."""
        return render(text, self.variables)

    def tenant(self, identity: int) -> str:
        """Return the words for a tenant, with its number if it has no row."""
        return f"tenant {self.tenants.get(identity, f'no. {identity}')}"

    def server(self, identity: int) -> str:
        """Return the words for a server, with its number if it has no row."""
        return f"server {self.servers.get(identity, f'no. {identity}')}"

    def local(self, instant: datetime | str) -> str:
        """Return an instant, or its text in JSON, as local time of the billing time zone."""
        at = datetime.fromisoformat(instant) if isinstance(instant, str) else instant
        local = at.astimezone(self.zone)
        return f"{local:%Y-%m-%d %H:%M:%S}" if local.second else f"{local:%Y-%m-%d %H:%M}"

    def kept_since(self, relation: str) -> datetime | None:
        """Return the begin of the oldest chunk of a table or rollup; None if it has no chunk."""
        return min(
            (c.since for c in self.chunks if c.relation == relation and c.since >= FIRST_DAY),
            default=None,
        )

    def period(self, since: datetime, until: datetime) -> tuple[datetime, datetime]:
        """Return the part of [since, until) that is inside the requested period."""
        return max(since, self.since or since), min(until, self.until or until)

    def slices(self, since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Split [since, until) at the days, so that each piece needs little memory."""
        inner = self.days[bisect_right(self.days, since) : bisect_left(self.days, until)]
        edges = [since, *inner, until]
        if since < until:
            yield from pairwise(edges)

    def is_late(self, since: datetime, until: datetime) -> bool:
        """Return whether late data that will be settled soon touch [since, until)."""
        return any(
            late_since < until and late_until > since for late_since, late_until in self.late
        )


async def load_scope(
    pool: asyncpg.Pool, settings: Settings, since: datetime | None, until: datetime | None
) -> Scope:
    """Read the input of all checks. Raises DatabaseError."""
    with translated("verify"):
        now = await pool.fetchval("SELECT now()")
        rows = await pool.fetch("SELECT key, value FROM meter.setting")
        baked = {r["key"]: r["value"] for r in rows if r["key"] in Settings.model_fields}
        made_with = settings.model_copy(
            update={
                "billing_timezone": baked["billing_timezone"],
                "large_session_participants": int(baked["large_session_participants"]),
            }
        )
        variables = variables_of(made_with)
        chunks = [Chunk(**row) for row in await pool.fetch(_CHUNKS)]
        first = min((c.since for c in chunks if c.since >= FIRST_DAY), default=now)
        days = await pool.fetch(render(_DAYS, variables), first, now + IN_ADVANCE)
        tenants = await pool.fetch("SELECT id, name FROM meter.tenant")
        servers = await pool.fetch("SELECT id, name FROM meter.server")
        late = await pool.fetch(
            "SELECT since, until, added_at < now() - $1::interval AS forgotten FROM meter.late "
            "ORDER BY since",
            UNSETTLED,
        )
    return Scope(
        pool=pool,
        settings=settings,
        now=now,
        since=since,
        until=until,
        zone=ZoneInfo(made_with.billing_timezone),
        baked=baked,
        variables=variables,
        days=[row["day"] for row in days],
        tenants={row["id"]: row["name"] for row in tenants},
        servers={row["id"]: row["name"] for row in servers},
        chunks=chunks,
        late=[(row["since"], row["until"]) for row in late if not row["forgotten"]],
        unsettled=[(row["since"], row["until"]) for row in late if row["forgotten"]],
    )
