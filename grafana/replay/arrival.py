"""The variables of a dashboard as links to it fill them in."""

from collections.abc import Mapping
from datetime import timedelta

from collector.database import Connection

# The usual time ranges that people choose.
RANGES = {
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "30d": timedelta(days=30),
    "1y": timedelta(days=365),
}
# A finished session with filled time in it, its room and its tenant.
_ONE = """
SELECT session_id::text AS session, tenant, room FROM meter.session_figures
WHERE
    tenant = $1 AND NOT breakout AND NOT is_open AND session_minutes > 30
    AND started_at > now() - interval '7 days'
ORDER BY filled_share > 0 DESC, started_at DESC LIMIT 1
"""
_FILLED = {
    "tenant": ("tenant",),
    "room": ("tenant", "room"),
    "session": ("session",),
}


async def a_session(connection: Connection, tenant: str) -> Mapping[str, str]:
    """Return a session of the last week, with its room and tenant.

    Raises LookupError if there is none.
    """
    row = await connection.fetchrow(_ONE, tenant)
    if row is None:
        message = f"no finished session of {tenant} in the last week"
        raise LookupError(message)
    return dict(row)


def given(name: str, session: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the variables that links to the dashboard with the file `name` fill in."""
    return {key: [session[key]] for key in _FILLED.get(name, ())}
