"""Rooms: find a room by a part of its name or id."""

from grafana_foundation_sdk.models import dashboard as models

from grafana.boards import kit, places
from grafana.boards.kit import FROM, TO, Column


def board() -> models.Dashboard:
    """Return the dashboard."""
    return kit.board(
        places.ROOMS,
        "Rooms",
        "Rooms that were used in the time range. Search for any part of the name or id.",
        since="now-7d",
        refresh="5m",
        variables=[kit.tenants(), kit.entry("search", "Name or id")],
        sections=[(None, [rooms()])],
    )


def rooms() -> kit.Table:
    """All rooms that match."""
    return kit.rows(
        "Rooms",
        """Rooms with sessions that began in the time range and whose name or id contains the search
        text. The room with the most participant minutes is first, 500 at most. Names are stored
        only if the settings say so. Breakout rooms count only as breakout minutes.""",
        f"""
        SELECT
            tenant AS "tenant",
            room AS "id",
            coalesce(nullif(room_name, ''), room) AS "room",
            CASE WHEN is_open THEN 'on now' ELSE '' END AS "now",
            last_active_at AS "last active",
            participant_minutes AS "participant minutes",
            sessions AS "sessions",
            max_session_size AS "largest",
            avg_session_size AS "mean size",
            breakout_minutes AS "breakout minutes",
            filled_share AS "filled"
        FROM meter.room_usage({FROM}, {TO}, NULL, ${{search:sqlstring}})
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
            Column("participant minutes", width=160),
            Column("sessions", width=95),
            Column("largest", width=90),
            Column("mean size", decimals=1, width=100),
            Column("breakout minutes", width=150),
            Column("filled", unit="percentunit", decimals=2, width=90),
        ],
    )
