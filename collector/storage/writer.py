"""Stores a batch with one statement: atomic, idempotent, and the same on every engine."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from collector.database import Connection, borrowed
from collector.database.deadlines import WRITE_DEADLINE_S
from collector.errors import RejectedBatchError
from collector.model import COUNTS, LATER_COUNTS, Batch, PollRow, Sample, SessionRow
from collector.storage.statements import AHEAD_S, STORE_EMPTIES, STORE_POLLS, STORE_UNSEEN

Key = tuple[str, str]

# Rooms whose ids are remembered: clients choose the names of rooms, and can choose new ones without
# end. One that is forgotten is read again. 50,000 take about 25 MB.
_ROOMS_KEPT = 50_000


@dataclass(frozen=True, slots=True)
class Stored:
    """The result of a write: the polls that were new, as (server, tick), and the sample rows."""

    polls: frozenset[tuple[str, datetime]]
    samples: int


class _SomeRefusedError(Exception):
    """Not all polls were stored whose failed rows had been deleted: nothing may be changed."""


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
            STORE_POLLS,
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
        """Store the successful polls among `there` whose stored row is a failed poll.

        The failed row of a poll that is refused all the same, because its time overlaps that of
        another one, stays.
        """
        while there:
            servers = [self._servers[server] for server, _ in there]
            with suppress(_SomeRefusedError):
                async with connection.transaction():
                    rows = await connection.fetch(
                        "SELECT * FROM meter.supersede($1, $2)", servers, [ts for _, ts in there]
                    )
                    if not rows:
                        return Stored(frozenset(), 0)
                    await self._resolve(connection, batch)
                    part = batch.part(self._keys(rows))
                    stored = await self._insert(connection, part, late=True)
                    there = set(stored.polls)
                    if len(there) < len(rows):
                        raise _SomeRefusedError
                    await self._insert_rare(connection, part)
                    return stored
        return Stored(frozenset(), 0)

    async def _insert_rare(self, connection: Connection, batch: Batch) -> None:
        """Store the empty sessions of `batch`, and what its polls did not show."""
        if batch.empties:
            await self._resolve(connection, batch)
            await connection.execute(
                STORE_EMPTIES,
                [row.session_id for row in batch.empties],
                [self._servers[row.server] for row in batch.empties],
                [self._tenants[row.tenant] for row in batch.empties],
                [self._rooms[row.tenant, row.room] if row.room else None for row in batch.empties],
                [row.started_at for row in batch.empties],
                [row.is_known for row in batch.empties],
            )
        if batch.unseen:
            await connection.execute(
                STORE_UNSEEN,
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
