"""What each collector polls, and the spans in which polls are due.

Each collector reports its fleet with its heartbeat (meter.collector). A server is due while any
collector has it in its settings. So a collector with an older settings file does not end the
servers of the others.
"""

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from collector.database import Connection
from collector.settings import Settings

# For this time after its last heartbeat, a collector still claims its servers, and a newer settings
# file of it still decides. It protects a collector that is restarted from one with other settings.
CLAIM_LASTS = "interval '10 minutes'"
_OLDEST = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Fleet:
    """What the settings of a collector say about the fleet.

    `servers` are the names of the enabled servers. `hash` is equal for two collectors if their
    settings agree on everything that decides what is polled and for whom. `settings_changed_at` is
    when the settings file was last changed, None without a file.
    """

    servers: tuple[str, ...]
    hash: str
    settings_changed_at: datetime | None

    @property
    def rank(self) -> tuple[datetime, str]:
        """Of collectors that differ, the one with the highest rank decides: the newest file."""
        return self.settings_changed_at or _OLDEST, self.hash


@dataclass(frozen=True, slots=True)
class Claimant:
    """A collector, by its id, and its fleet."""

    collector: str
    fleet: Fleet


def fleet_of(settings: Settings, modified_s: float | None) -> Fleet:
    """Return the fleet of `settings`; `modified_s` is the file's time of change since 1970.

    The hash contains names, addresses and tenants of servers, the poll interval, tenants with their
    contracts, and the attribution. It contains no secret.
    """
    facts = {
        "interval": settings.poll_interval_s,
        "servers": sorted(
            [server.name, str(server.api_url), server.tenant or "", server.enabled]
            for server in settings.server
        ),
        "tenants": sorted(tenant.model_dump_json() for tenant in settings.tenant),
        "attribution": settings.attribution.model_dump(mode="json"),
    }
    digest = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=8)
    return Fleet(
        tuple(sorted(server.name for server in settings.enabled_servers)),
        digest.hexdigest(),
        None if modified_s is None else datetime.fromtimestamp(modified_s, UTC),
    )


# The fleets of the other collectors ($1 is this one), for as long as they count.
_OTHERS = f"""
    SELECT DISTINCT ON (c.id) c.id, c.fleet, c.fleet_hash, c.settings_changed_at
    FROM meter.collector AS c
    WHERE c.id <> $1 AND c.until > now() - {CLAIM_LASTS}
    ORDER BY c.id, c.until DESC, c.since DESC
"""  # noqa: S608 - from the constant above


async def decides(connection: Connection, claimant: Claimant) -> bool:
    """Return whether no other collector has a different fleet from a newer settings file."""
    changed_at, own_hash = claimant.fleet.rank
    newer: bool = await connection.fetchval(
        f"""
        SELECT EXISTS (
            SELECT FROM ({_OTHERS}) AS o
            WHERE o.fleet_hash <> $3
                AND (coalesce(o.settings_changed_at, 'epoch'), o.fleet_hash COLLATE "C")
                > ($2::timestamptz, $3::text COLLATE "C")
        )
        """,  # noqa: S608
        claimant.collector,
        changed_at,
        own_hash,
    )
    return not newer


async def end_unclaimed(
    connection: Connection,
    enabled: Collection[str],
    tick: datetime,
    collector: str | None,
    *,
    at_last_claim: bool = False,
) -> None:
    """End the due spans of servers that no collector has in its settings.

    `enabled` are the servers of this collector, whose id is `collector`. Without an id, only
    `enabled` counts. A collector of an earlier version, which does not report its fleet, may have
    any server. The spans end at `tick`, or `at_last_claim`: at the last heartbeat of a collector
    that had the server.
    """
    await connection.execute(
        f"""
        UPDATE meter.server_due AS d SET until = greatest(d.since, CASE WHEN $4 THEN (
            SELECT max(c.until) FROM meter.collector AS c
            WHERE c.id <> $1 AND v.name = ANY(c.fleet)
        ) END, CASE WHEN NOT $4 OR NOT EXISTS (
            SELECT FROM meter.collector AS c WHERE c.id <> $1 AND v.name = ANY(c.fleet)
        ) THEN $3::timestamptz END)
        FROM meter.server AS v
        WHERE d.until IS NULL AND d.server_id = v.id AND NOT v.name = ANY($2::text[])
            AND ($1::text IS NULL OR NOT EXISTS (
                SELECT FROM ({_OTHERS}) AS o WHERE o.fleet IS NULL OR v.name = ANY(o.fleet)
            ))
        """,  # noqa: S608
        collector,
        list(enabled),
        tick,
        at_last_claim,
    )


async def begin_due(connection: Connection, enabled: Collection[str], tick: datetime) -> None:
    """Make the polls of the servers `enabled` due from `tick` on, unless they are due already."""
    # A span that ended at this tick is continued; a new span could have the same key.
    await connection.execute(
        """
        UPDATE meter.server_due AS x SET until = NULL
        FROM meter.server AS v
        WHERE x.server_id = v.id AND v.name = ANY($1::text[]) AND x.until = $2 AND NOT EXISTS (
            SELECT FROM meter.server_due AS d
            WHERE d.server_id = x.server_id AND (d.until IS NULL OR d.since > x.since)
        )
        """,
        list(enabled),
        tick,
    )
    await connection.execute(
        """
        INSERT INTO meter.server_due (server_id, since)
        SELECT v.id, $2 FROM meter.server AS v
        WHERE v.name = ANY($1::text[]) AND NOT EXISTS (
            SELECT FROM meter.server_due AS d WHERE d.server_id = v.id AND d.until IS NULL
        )
        ON CONFLICT DO NOTHING
        """,
        list(enabled),
        tick,
    )
