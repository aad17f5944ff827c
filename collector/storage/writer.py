"""Stores a batch with one statement: atomic, idempotent, and the same on every engine."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from collector.database import Connection, borrowed
from collector.database.deadlines import WRITE_DEADLINE_S
from collector.errors import RejectedBatchError
from collector.model import COUNTS, LATER_COUNTS, Batch, PollRow, Sample, SessionRow

# The arrays that the statement gets, each with its type, in the order of its parameters.
_POLL = {
    "ts": "timestamptz",
    "server_id": "integer",
    "ok": "boolean",
    "outcome": "text",
    "latency_ms": "integer",
    "seconds": "smallint",
    **dict.fromkeys(PollRow._fields[6:], "integer"),
}
_SESSION = {
    "ts": "timestamptz",
    "server_id": "integer",
    "session_id": "bigint",
    "internal_id": "text",
    "started_at": "timestamptz",
    "tenant_id": "integer",
    "room_id": "bigint",
    "parent_internal_id": "text",
    "breakout": "boolean",
    "recording": "boolean",
    "origin": "text",
}
_SAMPLE = {
    "poll": "integer",
    "before_s": "integer",
    "tenant_id": "integer",
    "session_id": "bigint",
    **dict.fromkeys(COUNTS, "smallint"),
    "breakout": "boolean",
    **dict.fromkeys(LATER_COUNTS, "smallint"),
}
# The columns of meter.sample that it fills; the rest of them follows from the sample's poll.
_STORED = ("ts", "server_id", "seconds", "filled", *[*_SAMPLE][2:])
# A poll further ahead of the database's clock is refused: its collector's clock is wrong.
AHEAD_S = 60
# The numbers of the last six parameters; since and until are those of the filled samples, the
# first and the last tick those of the polls. Seconds is their interval, NULL if they have several.
_LATE, _SINCE, _UNTIL, _FIRST, _LAST, _SECONDS = (
    len(_POLL) + len(_SESSION) + len(_SAMPLE) + n for n in range(1, 7)
)


def _arrays_from(first: int, types: Mapping[str, str]) -> str:
    """Return `$1::timestamptz[], …` for columns of these types, numbered from `first` on."""
    return ", ".join(f"${n}::{kind}[]" for n, kind in enumerate(types.values(), first))


# A poll is the commit record of its samples: they are stored if and only if its row is new. So a
# replay, a second collector or a retry after an unknown outcome stores nothing twice.
# A filled sample is skipped if another collector stored a sample of its session and tick. It is not
# skipped for a poll that did not show the session: what an answer lacks is no evidence. Two
# concurrent writers do not see each other's rows: meter.settle checks again.
# No second counts twice when the poll interval changes: a successful poll is not stored if its time
# overlaps that of a stored successful poll of another interval. Polls of one interval cannot
# overlap. Of two such polls in one batch, the later one is left out.
# A sample refers to its poll by number. Its tick is given as the seconds before the poll's tick.
# This is because encoding takes most of the time here, and timestamps take longest.
_STATEMENT = f"""
WITH given AS (
    SELECT * FROM unnest({_arrays_from(1, _POLL)})
    WITH ORDINALITY AS g ({", ".join(_POLL)}, number)
), other AS MATERIALIZED (
    SELECT p.server_id, p.ts, p.seconds, p.ts + make_interval(secs => p.seconds) AS until,
        TRUE AS stored
    FROM meter.poll AS p
    WHERE p.ts > ${_FIRST}::timestamptz - interval '1 minute'
        AND p.ts < ${_LAST}::timestamptz + interval '1 minute'
        AND p.ok AND p.seconds IS DISTINCT FROM ${_SECONDS}::smallint
        AND p.server_id = ANY($2)
    UNION ALL
    SELECT g.server_id, g.ts, g.seconds, g.ts + make_interval(secs => g.seconds), FALSE
    FROM given AS g
    WHERE ${_SECONDS}::smallint IS NULL AND g.ok
), new_poll AS (
    INSERT INTO meter.poll ({", ".join(_POLL)})
    SELECT {", ".join(_POLL)} FROM given AS g
    WHERE g.ts <= now() + interval '{AHEAD_S} seconds' AND (NOT g.ok OR NOT EXISTS (
        SELECT FROM other AS o
        WHERE o.server_id = g.server_id AND o.seconds <> g.seconds
            AND o.ts < g.ts + make_interval(secs => g.seconds) AND o.until > g.ts
            AND (o.stored OR o.ts < g.ts)
    ))
    ON CONFLICT (server_id, ts) DO NOTHING
    RETURNING ts, server_id, seconds
), new_session AS (
    INSERT INTO meter.session (
        session_id, server_id, internal_id, started_at, tenant_id, room_id, parent_internal_id,
        breakout, recording, origin, first_seen_at
    )
    SELECT
        s.session_id, s.server_id, s.internal_id,
        -- The first start is kept: a start corrected by the server's clock differs each time, and
        -- a session that was empty at first began later than it was created.
        coalesce((
            SELECT x.started_at FROM meter.session AS x
            WHERE x.session_id = s.session_id
                AND x.started_at > s.started_at - interval '2 days'
                AND x.started_at < greatest(s.started_at, s.ts) + interval '2 days'
            ORDER BY x.started_at
            LIMIT 1
        ), s.started_at),
        s.tenant_id, s.room_id, s.parent_internal_id, s.breakout, s.recording, s.origin, s.ts
    FROM unnest({_arrays_from(1 + len(_POLL), _SESSION)}) AS s ({", ".join(_SESSION)})
    INNER JOIN new_poll AS p ON p.ts = s.ts AND p.server_id = s.server_id
    ON CONFLICT (session_id, started_at) DO UPDATE SET
        ended_at = NULL, first_seen_at = least(session.first_seen_at, excluded.first_seen_at),
        origin = coalesce(session.origin, excluded.origin)
    RETURNING session_id, started_at
), opened AS (
    INSERT INTO meter.open_session (session_id, started_at)
    SELECT n.session_id, n.started_at FROM new_session AS n
    ON CONFLICT (session_id) DO NOTHING
), joined AS (
    DELETE FROM meter.empty_session AS e USING new_session AS n
    WHERE e.session_id = n.session_id
), new_sample AS (
    INSERT INTO meter.sample ({", ".join(_STORED)})
    SELECT {", ".join(f"a.{column}" for column in _STORED)}
    FROM (
        SELECT
            x.*, p.server_id, p.seconds, p.ts - make_interval(secs => x.before_s) AS ts,
            x.before_s > 0 AS filled
        FROM unnest({_arrays_from(1 + len(_POLL) + len(_SESSION), _SAMPLE)})
        AS x ({", ".join(_SAMPLE)})
        INNER JOIN given AS g ON x.poll = g.number
        INNER JOIN new_poll AS p ON g.ts = p.ts AND g.server_id = p.server_id
    ) AS a
    WHERE NOT a.filled OR NOT EXISTS (
        SELECT FROM meter.sample AS o
        WHERE o.session_id = a.session_id AND o.ts = a.ts
    )
    RETURNING 1
), noted AS (
    INSERT INTO meter.late (since, until)
    SELECT min(t.since), max(t.until)
    FROM (
        SELECT p.ts AS since, p.ts + make_interval(secs => p.seconds) AS until
        FROM new_poll AS p
        WHERE ${_LATE} OR p.ts < now() - interval '1 minute'
        UNION ALL
        SELECT x.since, x.until
        FROM (VALUES (${_SINCE}::timestamptz, ${_UNTIL}::timestamptz)) AS x (since, until)
        WHERE x.since IS NOT NULL
    ) AS t
    HAVING count(*) > 0
)
SELECT
    (SELECT array_agg(ts) FROM new_poll) AS poll_ts,
    (SELECT array_agg(server_id) FROM new_poll) AS poll_server_id,
    (SELECT count(*) FROM new_sample) AS samples,
    (SELECT max(ts) - now() FROM given) AS ahead
"""  # noqa: S608 - from the names here and in model.py

# What few batches have. Like samples, these rows are stored only with their poll.
_EMPTIES = """
INSERT INTO meter.empty_session (
    session_id, server_id, tenant_id, room_id, started_at, is_known
)
SELECT * FROM unnest(
    $1::bigint[], $2::integer[], $3::integer[], $4::bigint[], $5::timestamptz[], $6::boolean[]
)
ON CONFLICT (session_id) DO NOTHING
"""
_UNSEEN = """
INSERT INTO meter.unseen (ts, server_id, tenant_id, session_id, sessions, seconds)
SELECT * FROM unnest(
    $1::timestamptz[], $2::integer[], $3::integer[], $4::bigint[], $5::integer[], $6::smallint[]
)
"""

Key = tuple[str, str]

# Rooms whose ids are remembered: clients choose the names of rooms, and can choose new ones without
# end. One that is forgotten is read again. 50,000 take about 25 MB.
_ROOMS_KEPT = 50_000


@dataclass(frozen=True, slots=True)
class Stored:
    """The result of a write: the polls that were new, as (server, tick), and the sample rows."""

    polls: frozenset[tuple[str, datetime]]
    samples: int


class Writer:
    """Writes batches through one pool, and caches the ids of servers, tenants and rooms."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        """Write through `pool`."""
        self._pool = pool
        self._servers: dict[str, int] = {}
        self._tenants: dict[str, int] = {}
        self._rooms: dict[Key, int] = {}

    async def write(
        self, batch: Batch, *, late: bool = False, deadline_s: float = WRITE_DEADLINE_S
    ) -> Stored:
        """Store `batch`, all of it or nothing; it may not contain a poll twice.

        `late` says that the batch comes out of order, as from a spool. Its time is then noted in
        `meter.late`, so that sessions and rollups of that time are updated. The same happens with
        polls that are more than a minute old.

        Raises DatabaseError if nothing was stored or the outcome is unknown: write it again.
        Raises RejectedBatchError if the database rejects the content.
        """
        async with borrowed(self._pool, "write", deadline_s) as connection:
            await self._resolve(connection, batch)
            if batch.empties or batch.unseen:
                async with connection.transaction():
                    stored = await self._insert(connection, batch, late=late)
                    await self._insert_rare(connection, batch.part(stored.polls))
            else:
                stored = await self._insert(connection, batch, late=late)
            there = {(p.server, p.ts) for p in batch.polls if p.ok} - stored.polls
            if there:
                again = await self._supersede(connection, batch, there)
                stored = Stored(stored.polls | again.polls, stored.samples + again.samples)
        return stored

    async def _insert(self, connection: Connection, batch: Batch, *, late: bool) -> Stored:
        filled = [sample for sample in batch.samples if sample.filled]
        intervals = {poll.seconds for poll in batch.polls}
        row = await connection.fetchrow(
            _STATEMENT,
            *self._arrays(batch),
            late,
            min((sample.ts for sample in filled), default=None),
            max((s.ts + timedelta(seconds=s.seconds) for s in filled), default=None),
            min((poll.ts for poll in batch.polls), default=None),
            max((poll.ts for poll in batch.polls), default=None),
            intervals.pop() if len(intervals) == 1 else None,
        )
        assert row is not None  # noqa: S101 - a SELECT without FROM always has a row
        if row["ahead"] is not None and row["ahead"] > timedelta(seconds=AHEAD_S):
            msg = (
                f"a poll is {row['ahead']} ahead of the database's clock: correct the clock of "
                "the collector's machine, or that of the database's"
            )
            raise RejectedBatchError(msg)
        stored = zip(row["poll_server_id"] or (), row["poll_ts"] or (), strict=True)
        return Stored(self._keys(stored), row["samples"])

    async def _supersede(
        self, connection: Connection, batch: Batch, there: set[tuple[str, datetime]]
    ) -> Stored:
        """Store the successful polls among `there` whose stored row is a failed poll."""
        servers = [self._servers[server] for server, _ in there]
        async with connection.transaction():
            rows = await connection.fetch(
                "SELECT * FROM meter.supersede($1, $2)", servers, [ts for _, ts in there]
            )
            if not rows:
                return Stored(frozenset(), 0)
            await self._resolve(connection, batch)
            part = batch.part(self._keys(rows))
            stored = await self._insert(connection, part, late=True)
            await self._insert_rare(connection, part)
            return stored

    async def _insert_rare(self, connection: Connection, batch: Batch) -> None:
        """Store the empty sessions of `batch`, and what its polls did not show."""
        if batch.empties:
            await self._resolve(connection, batch)
            await connection.execute(
                _EMPTIES,
                [row.session_id for row in batch.empties],
                [self._servers[row.server] for row in batch.empties],
                [self._tenants[row.tenant] for row in batch.empties],
                [self._rooms[row.tenant, row.room] if row.room else None for row in batch.empties],
                [row.started_at for row in batch.empties],
                [row.is_known for row in batch.empties],
            )
        if batch.unseen:
            await connection.execute(
                _UNSEEN,
                [row.at for row in batch.unseen],
                [self._servers[row.server] for row in batch.unseen],
                [self._tenants[row.tenant] if row.tenant else None for row in batch.unseen],
                [row.session_id for row in batch.unseen],
                [row.sessions for row in batch.unseen],
                [row.seconds for row in batch.unseen],
            )

    def _keys(self, rows: Iterable[Iterable[Any]]) -> frozenset[tuple[str, datetime]]:
        """Turn rows of (server id, tick) into pairs of (server name, tick)."""
        names = {identity: name for name, identity in self._servers.items()}
        return frozenset((names[server], ts) for server, ts in rows)

    async def _resolve(self, connection: Connection, batch: Batch) -> None:
        """Read the ids of all names in `batch`, and insert rows for new names.

        This happens outside the statement, as a name without samples does no harm.
        """
        servers = {row.server for row in batch.polls} - self._servers.keys()
        if servers:
            self._servers |= await ensure_names(connection, "server", servers)
        tenants = {row.tenant for row in batch.samples} | {row.tenant for row in batch.sessions}
        tenants |= {row.tenant for row in batch.empties}
        tenants |= {row.tenant for row in batch.unseen if row.tenant}
        if tenants - self._tenants.keys():
            self._tenants |= await ensure_names(connection, "tenant", tenants)
        rooms: dict[Any, str | None] = {
            (row.tenant, row.room): None for row in batch.empties if row.room
        }
        rooms |= {(row.tenant, row.room): row.room_name for row in batch.sessions if row.room}
        await self._ensure_rooms(connection, rooms)

    async def _ensure_rooms(self, connection: Connection, rooms: dict[Any, str | None]) -> None:
        """Read or insert the ids of rooms, given as {(tenant, external id): name or None}."""
        if len(self._rooms) > _ROOMS_KEPT:
            self._rooms.clear()
        new = sorted(k for k, name in rooms.items() if k not in self._rooms or name is not None)
        while new:
            rows = await connection.fetch(
                """
                INSERT INTO meter.room AS r (tenant_id, external_id, name)
                SELECT * FROM unnest($1::integer[], $2::text[], $3::text[])
                ON CONFLICT (tenant_id, external_id) DO UPDATE
                SET name = coalesce(excluded.name, r.name)
                RETURNING r.tenant_id, r.external_id, r.id
                """,
                [self._tenants[tenant] for tenant, _ in new],
                [room for _, room in new],
                [rooms[key] for key in new],
            )
            tenants = {identity: name for name, identity in self._tenants.items()}
            for row in rows:
                self._rooms[tenants[row["tenant_id"]], row["external_id"]] = row["id"]
            # Meanwhile, another write can have forgotten rooms. Nothing may wait from here to the
            # use of their ids.
            new = sorted(rooms.keys() - self._rooms.keys())

    def _arrays(self, batch: Batch) -> Iterable[list[Any]]:
        """Return the statement's arrays, in its order.

        Every writer sorts its rows in the same way, so that concurrent writers cannot deadlock.
        """
        polls = sorted(batch.polls, key=_poll_key)
        # A session may be in a statement only once, so only its first row is kept.
        first = {row.session_id: row for row in reversed(batch.sessions)}
        sessions = [first[identity] for identity in sorted(first)]
        numbers = {_poll_key(row): number for number, row in enumerate(polls, 1)}
        return [
            *self._poll_arrays(polls),
            *self._session_arrays(sessions),
            *self._sample_arrays(batch.samples, numbers),
        ]

    def _poll_arrays(self, polls: list[PollRow]) -> Iterable[list[Any]]:
        arrays = _columns(polls, len(PollRow._fields))
        arrays[1] = [self._servers[name] for name in arrays[1]]
        return arrays

    def _session_arrays(self, sessions: list[SessionRow]) -> Iterable[list[Any]]:
        ts, server, session, internal_id, started_at, tenant, _, _, *rest = _columns(
            sessions, len(SessionRow._fields)
        )
        return [
            ts,
            [self._servers[name] for name in server],
            session,
            internal_id,
            started_at,
            [self._tenants[name] for name in tenant],
            [self._rooms[row.tenant, row.room] if row.room else None for row in sessions],
            *rest,
        ]

    def _sample_arrays(
        self, samples: list[Sample], numbers: dict[tuple[str, datetime], int]
    ) -> Iterable[list[Any]]:
        """Return arrays of samples; one whose poll is not among `numbers` is not stored."""
        columns = _columns(samples, len(Sample._fields))
        of = dict(zip(Sample._fields, columns, strict=True))
        return [
            [numbers.get(key) for key in zip(of["server"], of["poll_ts"], strict=True)],
            [
                0 if tick == poll else round((poll - tick).total_seconds())
                for poll, tick in zip(of["poll_ts"], of["ts"], strict=True)
            ],
            [self._tenants[name] for name in of["tenant"]],
            of["session_id"],
            *(of[count] for count in COUNTS),
            of["breakout"],
            *(of[count] for count in LATER_COUNTS),
        ]


async def ensure_names(connection: Connection, table: str, names: set[str]) -> dict[str, int]:
    """Return the ids of `names` in meter.`table` (`server` or `tenant`); insert missing rows."""
    query = f"SELECT name, id FROM meter.{table} WHERE name = ANY($1::text[])"  # noqa: S608
    wanted = sorted(names)
    found = {row["name"]: row["id"] for row in await connection.fetch(query, wanted)}
    if len(found) < len(wanted):
        await connection.execute(
            f"INSERT INTO meter.{table} (name) SELECT unnest($1::text[]) "
            "ON CONFLICT (name) DO NOTHING",
            [name for name in wanted if name not in found],
        )
        found = {row["name"]: row["id"] for row in await connection.fetch(query, wanted)}
    return found


def _poll_key(row: PollRow) -> tuple[str, datetime]:
    return row.server, row.ts


def _columns(rows: list[Any], width: int) -> list[list[Any]]:
    """Turn rows into `width` lists."""
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)]
