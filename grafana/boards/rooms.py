"""Rooms: find a room by a part of its name or id."""

from grafana_foundation_sdk.models import dashboard as models

from grafana.boards import kit, places
from grafana.boards.kit import REPORT, Column


def board() -> models.Dashboard:
    """Return the dashboard."""
    return kit.board(
        places.ROOMS,
        "Rooms",
        "Rooms with sessions that began in the time range. Search for any part of the name or id.",
        since="now-7d",
        refresh="5m",
        variables=[kit.tenants(), kit.entry("search", "Name or id")],
        sections=[(None, [rooms()])],
    )


def rooms() -> kit.Table:
    """All rooms that match."""
    return kit.rows(
        "Rooms",
        f"""Rooms with sessions that began in the time range and whose name or id contains the
        search text. Their minutes are those of these sessions up to their ends. The room with
        the most of them is first, 500 at most. Names are stored only if the settings say so.
        Breakout rooms count only as breakout minutes. {kit.EDGES} {kit.SESSIONS_KEPT}""",
        f"""
        SELECT
            tenant AS "tenant",
            room AS "id",
            coalesce(nullif(room_name, ''), room) AS "room",
            CASE WHEN is_open THEN 'on now' ELSE '' END AS "now",
            last_active_at AS "last active",
            sessions AS "sessions begun",
            participant_minutes AS "their participant minutes",
            max_session_size AS "largest",
            avg_session_size AS "mean size",
            breakout_minutes AS "breakout minutes",
            filled_share AS "filled"
        FROM meter.room_usage({REPORT}, NULL, ${{search:sqlstring}})
        WHERE tenant = ANY(ARRAY[${{tenant:sqlstring}}]::text[])
        ORDER BY participant_minutes DESC, tenant, room
        LIMIT 500
        """,
        decimals=0,
        size=(24, 22),
        columns=[
            Column("tenant", width=150, link=places.link("Tenant", places.TENANT, tenant="tenant")),
            kit.hidden("id"),
            Column("room", link=places.link("Room", places.ROOM, tenant="tenant", room="id")),
            Column("now", width=80, color=kit.GREEN, more=kit.COLORED),
            Column("last active", unit="dateTimeAsIso", width=175),
            Column("sessions begun", width=125),
            Column("their participant minutes", width=185),
            Column("largest", width=90),
            Column("mean size", decimals=1, width=100),
            Column("breakout minutes", width=150),
            Column("filled", unit="percentunit", decimals=2, width=90),
        ],
    )
