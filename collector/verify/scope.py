"""What all checks go by: the period, the days in it, names, chunks, and late data."""

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

# Late data are seen to within so long; a difference that they explain is none.
UNSETTLED = timedelta(minutes=10)
# Nothing was metered before, and nothing can be measured so much in advance.
FIRST_DAY = datetime(2015, 1, 1, tzinfo=UTC)
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
    """A chunk of a table or rollup: rows of [since, until)."""

    relation: str
    name: str
    since: datetime
    until: datetime
    is_columns: bool


@dataclass(frozen=True, slots=True)
class Scope:
    """What is to be verified, and what is known about the database.

    `since` and `until` are the period asked for, None where it is all that is kept. `baked` are
    the settings that the day rollups were made with, `variables` those for SQL texts. `days` are
    the first instants of all days that there is anything of, in order. `late` are the spans noted
    as late that will soon be seen to, `unsettled` those that should have been.
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
        """Put the settings that the database was made with into a text's `${…}` places."""
        return render(text, self.variables)

    def tenant(self, identity: int) -> str:
        """Name a tenant."""
        return f"tenant {self.tenants.get(identity, f'no. {identity}')}"

    def server(self, identity: int) -> str:
        """Name a server."""
        return f"server {self.servers.get(identity, f'no. {identity}')}"

    def local(self, instant: datetime | str) -> str:
        """Return an instant (or JSON's text of one) as people of the billing zone write it."""
        at = datetime.fromisoformat(instant) if isinstance(instant, str) else instant
        local = at.astimezone(self.zone)
        return f"{local:%Y-%m-%d %H:%M:%S}" if local.second else f"{local:%Y-%m-%d %H:%M}"

    def kept_since(self, relation: str) -> datetime | None:
        """Return since when the chunks of a table or rollup hold all; None where it has none."""
        return min(
            (c.since for c in self.chunks if c.relation == relation and c.since >= FIRST_DAY),
            default=None,
        )

    def period(self, since: datetime, until: datetime) -> tuple[datetime, datetime]:
        """Return what of [since, until) was asked for."""
        return max(since, self.since or since), min(until, self.until or until)

    def slices(self, since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Cut [since, until) at the days, so that each piece takes little memory."""
        inner = self.days[bisect_right(self.days, since) : bisect_left(self.days, until)]
        edges = [since, *inner, until]
        if since < until:
            yield from pairwise(edges)

    def is_late(self, since: datetime, until: datetime) -> bool:
        """Say whether data that are about to be seen to touch [since, until)."""
        return any(lo < until and hi > since for lo, hi in self.late)


async def load_scope(
    pool: asyncpg.Pool, settings: Settings, since: datetime | None, until: datetime | None
) -> Scope:
    """Read what all checks go by. Raises DatabaseError."""
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
