"""Meetings that two servers show: found in the database, as no collector sees all servers."""

from collections import defaultdict
from typing import NamedTuple

from collector.database import Connection, translated


class Duplicates(NamedTuple):
    """Meetings that are now on both `server` and `other_server`, and how many `sessions` they are.

    Without `counts`, they count only on `other_server`. With it they count twice, as it is unknown
    which of the two tenants they belong to.
    """

    server: str
    other_server: str
    tenant: str
    other_tenant: str
    counts: bool
    sessions: int


async def find_duplicates(connection: Connection) -> list[Duplicates]:
    """Find meetings that two servers show now; note and return them. Raises DatabaseError."""
    with translated("find duplicates"):
        await connection.execute("SELECT meter.find_duplicates()")
        rows = await connection.fetch("SELECT * FROM meter.duplicates_now()")
    return [Duplicates(*row.values()) for row in rows]


async def counted_elsewhere(connection: Connection) -> dict[str, frozenset[str]]:
    """Return by server the internal ids of meetings that count through another server's session.

    Raises DatabaseError.
    """
    with translated("read duplicates"):
        rows = await connection.fetch(
            "SELECT v.name, s.internal_id "
            "FROM meter.duplicate_session AS d "
            "INNER JOIN meter.session AS s "
            "ON d.session_id = s.session_id AND d.started_at = s.started_at "
            "INNER JOIN meter.server AS v ON d.server_id = v.id "
            "WHERE d.until IS NULL AND NOT d.counts"
        )
    ids = defaultdict(set)
    for server, internal_id in rows:
        ids[server].add(internal_id)
    return {server: frozenset(of_server) for server, of_server in ids.items()}
