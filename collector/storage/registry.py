"""The servers and tenants in the database, and the time since which polls are due."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from collector.database import Connection, translated
from collector.metering.sessions import remembered
from collector.model import ALL_COUNTS, Absent, LastPoll, Place, Sample, Seen
from collector.settings import ServerSettings, TenantSettings
from collector.storage.claims import Claimant, begin_due, decides, end_unclaimed
from collector.storage.writer import ensure_names


async def sync_fleet(
    connection: Connection,
    servers: tuple[ServerSettings, ...],
    tenants: tuple[TenantSettings, ...],
    tick: datetime,
    claimant: Claimant | None = None,
) -> None:
    """Write the servers and tenants of the settings to the database.

    Polls of an enabled server are due from `tick` on. Polls of a server that is disabled, or was
    removed, are due until `tick`, unless a collector other than `claimant` has it in its settings.
    If another collector has a different fleet from a newer settings file, that one decides:
    tenants of servers, titles and contracts that are stored already are not changed.

    Tenants and servers that were removed from the settings stay in the database, because stored
    figures refer to them. Raises DatabaseError.
    """
    enabled = sorted(server.name for server in servers if server.enabled)
    with translated("store the fleet"):
        async with connection.transaction():
            await _one_at_a_time(connection)
            in_charge = claimant is None or await decides(connection, claimant)
            names = {tenant.name for tenant in tenants} | {s.tenant for s in servers if s.tenant}
            tenant_ids = await ensure_names(connection, "tenant", names)
            ids = await ensure_names(connection, "server", {server.name for server in servers})
            if in_charge:
                await connection.executemany(
                    "UPDATE meter.tenant SET title = $2 WHERE name = $1 AND title <> $2",
                    [(tenant.name, tenant.title) for tenant in tenants],
                )
                await _sync_contracts(connection, tenants, tenant_ids, tick)
            await _sync_server_tenants(
                connection,
                {ids[s.name]: tenant_ids[s.tenant] if s.tenant else None for s in servers},
                tick,
                change=in_charge,
            )
            own_id = claimant.collector if claimant else None
            await end_unclaimed(connection, enabled, tick, own_id)
            await begin_due(connection, enabled, tick)


async def keep_due(connection: Connection, claimant: Claimant, tick: datetime) -> None:
    """Keep this collector's servers due, and end those that no collector has any more.

    The latter have been left by collectors that have not been alive for some minutes. Raises
    DatabaseError.
    """
    servers = claimant.fleet.servers
    with translated("store the fleet"):
        async with connection.transaction():
            await _one_at_a_time(connection)
            await end_unclaimed(connection, servers, tick, claimant.collector, at_last_claim=True)
            await begin_due(connection, servers, tick)


async def _one_at_a_time(connection: Connection) -> None:
    """Wait until no other collector changes the fleet, for the rest of the transaction."""
    await connection.execute("LOCK TABLE meter.server_due IN SHARE ROW EXCLUSIVE MODE")


async def _sync_contracts(
    connection: Connection,
    tenants: tuple[TenantSettings, ...],
    tenant_ids: Mapping[str, int],
    tick: datetime,
) -> None:
    """Give each tenant the contract of the settings from `tick` on, or none.

    A tenant's first contract also applies to the time before. An operator who enters contracts
    wants to see at once which tenants were above the limit last month.
    """
    # The same order in every collector: two that start at once must not deadlock.
    rows = sorted(
        (tenant_ids[t.name], t.participant_limit, t.month_minute_limit)
        for t in tenants
        if t.participant_limit is not None or t.month_minute_limit is not None
    )
    columns = [[row[i] for row in rows] for i in range(3)]
    await connection.execute(
        """
        UPDATE meter.contract AS k SET until = greatest(k.since, $4::timestamptz)
        WHERE k.until IS NULL AND NOT EXISTS (
            SELECT
            FROM unnest($1::integer[], $2::integer[], $3::bigint[]) AS x (id, people, minutes)
            WHERE x.id = k.tenant_id
                AND x.people IS NOT DISTINCT FROM k.participant_limit
                AND x.minutes IS NOT DISTINCT FROM k.month_minute_limit
        )
        """,
        *columns,
        tick,
    )
    # If a contract changes twice at one tick, or again after a stop, the last change applies.
    await connection.execute(
        """
        INSERT INTO meter.contract AS k (tenant_id, since, participant_limit, month_minute_limit)
        SELECT
            x.id,
            CASE
                WHEN EXISTS (SELECT FROM meter.contract AS c WHERE c.tenant_id = x.id)
                    -- The clock can have been set back. Spans must not overlap.
                    THEN greatest($4::timestamptz, (
                        SELECT max(c.until) FROM meter.contract AS c WHERE c.tenant_id = x.id
                    ))
                ELSE '-infinity'
            END,
            x.people, x.minutes
        FROM unnest($1::integer[], $2::integer[], $3::bigint[]) AS x (id, people, minutes)
        WHERE NOT EXISTS (
            SELECT FROM meter.contract AS c WHERE c.tenant_id = x.id AND c.until IS NULL
        )
        ON CONFLICT (tenant_id, since) DO UPDATE SET
            until = NULL,
            participant_limit = excluded.participant_limit,
            month_minute_limit = excluded.month_minute_limit
        """,
        *columns,
        tick,
    )


async def _sync_server_tenants(
    connection: Connection, tenant_of: Mapping[int, int | None], tick: datetime, *, change: bool
) -> None:
    """Store from `tick` on which tenant each server belongs to; None is a shared server.

    The first known tenant of a server also applies to the time before: nobody knows another one.
    A server that is not in the settings keeps its last tenant. Without `change`, known servers keep
    theirs too.
    """
    servers = sorted(tenant_of)
    columns = [servers, [tenant_of[server] for server in servers]]
    await connection.execute(
        """
        UPDATE meter.server_tenant AS w SET until = greatest(w.since, $3::timestamptz)
        FROM unnest($1::integer[], $2::integer[]) AS x (server_id, tenant_id)
        WHERE $4 AND w.server_id = x.server_id AND w.until IS NULL
            AND w.tenant_id IS DISTINCT FROM x.tenant_id
        """,
        *columns,
        tick,
        change,
    )
    # Spans follow each other without a gap, also if the clock was set back. If a tenant changes
    # twice at one tick, the last change applies.
    await connection.execute(
        """
        INSERT INTO meter.server_tenant AS w (server_id, since, tenant_id)
        SELECT x.server_id, coalesce(max(o.until), '-infinity'), x.tenant_id
        FROM unnest($1::integer[], $2::integer[]) AS x (server_id, tenant_id)
        LEFT JOIN meter.server_tenant AS o ON x.server_id = o.server_id
        GROUP BY x.server_id, x.tenant_id
        HAVING count(*) FILTER (WHERE o.since IS NOT NULL AND o.until IS NULL) = 0
        ON CONFLICT (server_id, since) DO UPDATE SET
            until = NULL, tenant_id = excluded.tenant_id
        """,
        *columns,
    )


async def store_certificates(connection: Connection, expires_at: Mapping[str, datetime]) -> None:
    """Store when servers' certificates expire, by server name; unknown servers are skipped.

    Raises DatabaseError.
    """
    with translated("store the certificates"):
        await connection.execute(
            "UPDATE meter.server AS v SET tls_expires_at = x.expires_at "
            "FROM unnest($1::text[], $2::timestamptz[]) AS x (name, expires_at) "
            "WHERE v.name = x.name AND v.tls_expires_at IS DISTINCT FROM x.expires_at",
            *zip(*sorted(expires_at.items()), strict=True),
        )


async def tenant_names(connection: Connection) -> list[str]:
    """Return the names of all tenants. Raises DatabaseError."""
    with translated("read the tenants"):
        rows = await connection.fetch("SELECT name FROM meter.tenant")
    return [row["name"] for row in rows]


async def late_days(connection: Connection) -> int | None:
    """Return how many days late data can be stored; None is without limit.

    This is one day less than the database keeps samples and polls. A part of older data may be
    dropped already, and rollups are no longer refreshed there. Raises DatabaseError.
    """
    with translated("read the retention"):
        days: int | None = await connection.fetchval(
            """
            SELECT (min(extract(EPOCH FROM (config ->> 'drop_after')::interval)) / 86400)::integer
            FROM timescaledb_information.jobs
            WHERE proc_name = 'policy_retention' AND hypertable_schema = 'meter'
                AND hypertable_name IN ('sample', 'poll')
            """
        )
    return None if days is None else days - 1


async def covered_until(connection: Connection, interval_s: int) -> datetime | None:
    """Return the end of the time that recent polls of another interval cover; None if none does.

    `interval_s` is the present interval. A collector whose interval has changed begins after that
    time, so that no second counts twice. Raises DatabaseError.
    """
    with translated("read the last polls"):
        covered: datetime | None = await connection.fetchval(
            # The clock of the collector that stored them can be ahead of the database's.
            "SELECT max(ts + make_interval(secs => seconds)) FROM meter.poll "
            "WHERE ts > now() - interval '2 minutes' AND ts < now() + interval '1 minute' "
            "AND seconds <> $1",
            interval_s,
        )
    return covered


async def last_polls(
    connection: Connection, servers: Collection[str], tick: datetime, max_gap_s: int
) -> dict[str, LastPoll]:
    """Return each server's last successful poll of the minutes before `tick`.

    It also has the sessions that only polls before it showed.

    With it, a collector that was restarted or takes over servers fills the gap, and tells what
    polls did not show, as if it had always polled them. Raises DatabaseError.
    """
    since = tick - remembered(timedelta(seconds=max_gap_s))
    with translated("read the last polls"):
        rows = await connection.fetch(_LAST_POLLS, since, tick, list(servers))
    last: dict[str, LastPoll] = {}
    for row in rows:
        poll = last.get(row["server"])
        if poll is None:
            poll = last[row["server"]] = LastPoll(row["polled_at"], row["interval_s"])
            poll.earlier.extend(zip(row["earlier"], row["earlier_seconds"], strict=True))
        # A session without a row is announced again: its row may still be in a spool.
        if row["internal_id"] is None:
            continue
        place = Place(row["tenant"], row["room"])
        seen = Seen(row["session_id"], place, created_ms=None, nested=row["breakout"])
        sample = Sample(
            poll_ts=row["ts"],
            server=row["server"],
            ts=row["ts"],
            tenant=row["tenant"],
            session_id=row["session_id"],
            seconds=row["seconds"],
            breakout=row["breakout"],
            filled=False,
            **{count: row[count] for count in ALL_COUNTS},
        )
        if row["ts"] == poll.ts:
            poll.sessions[row["internal_id"]] = seen
            poll.samples.append(sample)
        elif (other := poll.absent.get(row["internal_id"])) is None or other.ts < row["ts"]:
            counted = zip(row["counted_at"] or (), row["counted"] or (), strict=True)
            poll.absent[row["internal_id"]] = Absent(
                seen,
                row["ts"],
                sample,
                unread=frozenset(row["unread"] or ()),
                counted=dict(counted),
            )
    for poll in last.values():
        # A breakout that lost its parent has two sessions.
        for internal_id in poll.absent.keys() & poll.sessions.keys():
            del poll.absent[internal_id]
    return last


# The last real sample of each session since $1, with the last successful poll of its server.
_LAST_POLLS = f"""
WITH poll AS (
    SELECT
        p.server_id, max(p.ts) AS ts, (array_agg(p.seconds ORDER BY p.ts DESC))[1] AS seconds,
        (array_agg(p.ts ORDER BY p.ts))[: count(*) - 1] AS earlier,
        (array_agg(p.seconds ORDER BY p.ts))[: count(*) - 1] AS earlier_seconds
    FROM meter.poll AS p
    INNER JOIN meter.server AS v ON p.server_id = v.id
    WHERE p.ok AND p.ts >= $1 AND p.ts < $2 AND v.name = ANY($3::text[])
    GROUP BY p.server_id
), seen AS (
    SELECT DISTINCT ON (a.session_id) a.*
    FROM meter.sample AS a
    INNER JOIN poll AS l ON a.server_id = l.server_id
    WHERE a.ts >= $1 AND a.ts < $2 AND NOT a.filled
    ORDER BY a.session_id, a.ts DESC
)
SELECT
    v.name AS server, l.ts AS polled_at, l.seconds AS interval_s, l.earlier, l.earlier_seconds,
    a.ts, s.internal_id, t.name AS tenant,
    r.external_id AS room, a.session_id,
    {", ".join(f"a.{count}" for count in ALL_COUNTS)}, a.seconds, a.breakout,
    CASE WHEN a.ts < l.ts THEN (
        SELECT array_agg(u.ts)
        FROM meter.unseen AS u
        WHERE u.server_id = a.server_id AND u.session_id = a.session_id
            AND u.ts >= a.ts AND u.ts < $2
    ) END AS unread,
    c.counted_at, c.counted
FROM poll AS l
INNER JOIN meter.server AS v ON l.server_id = v.id
LEFT JOIN seen AS a ON l.server_id = a.server_id
LEFT JOIN meter.session AS s ON a.session_id = s.session_id
LEFT JOIN meter.tenant AS t ON a.tenant_id = t.id
LEFT JOIN meter.room AS r ON s.room_id = r.id
-- The people of its breakouts that count by themselves since it is absent.
LEFT JOIN LATERAL (
    SELECT array_agg(x.ts) AS counted_at, array_agg(x.people) AS counted
    FROM (
        SELECT b.ts, sum(b.participants)::integer AS people
        FROM meter.open_session AS o
        INNER JOIN meter.session AS g
            ON o.session_id = g.session_id AND o.started_at = g.started_at
        INNER JOIN meter.sample AS b ON g.session_id = b.session_id
        WHERE g.server_id = a.server_id AND g.tenant_id = a.tenant_id
            AND g.parent_internal_id = s.internal_id
            AND b.ts > a.ts AND b.ts < $2 AND NOT b.breakout AND NOT b.filled
        GROUP BY b.ts
    ) AS x
) AS c ON a.ts < l.ts AND NOT a.breakout
"""  # noqa: S608 - from the names in model.py
