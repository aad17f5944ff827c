"""Room: the sessions of one room."""

from grafana_foundation_sdk.models import dashboard as models

from grafana.boards import kit, places
from grafana.boards.kit import FROM, REPORT, SINCE, STEP, TO, Column

_TENANT = "${tenant:sqlstring}"
_ROOM = "${room:sqlstring}"


def board() -> models.Dashboard:
    """Return the dashboard."""
    return kit.board(
        places.ROOM,
        "Room",
        "One room of one tenant: open it from Rooms. Breakout rooms are included only where named.",
        since="now-30d",
        refresh="5m",
        variables=[kit.choice("tenant", "Tenant", kit.TENANTS), kit.entry("room", "Room's id")],
        sections=[
            (None, [name(), minutes(), sessions(), largest(), last_active()]),
            (None, [use(), sizes()]),
            (None, [session_list()]),
        ],
    )


def _usage(expression: str, title: str) -> str:
    return f"""
        SELECT {expression} AS "{title}"
        FROM meter.room_usage({REPORT}, {_TENANT}, {_ROOM})
        WHERE room = {_ROOM}
        """


def name() -> kit.Stat:
    """The name of the room."""
    return kit.word(
        "Room",
        "The name, if names are stored, else the id that the front end gave.",
        _usage("coalesce(nullif(room_name, ''), room)", "Room"),
        size=(8, 4),
    )


def minutes() -> kit.Stat:
    """Participant minutes."""
    return kit.number(
        "Minutes of sessions begun",
        f"""Participant minutes of the sessions that began in the time range, each counted up to its
        end, without breakout rooms. {kit.EDGES} {kit.SESSIONS_KEPT}""",
        _usage("participant_minutes", "Minutes of sessions begun"),
        decimals=0,
        no_value="none",
    )


def sessions() -> kit.Stat:
    """Sessions."""
    return kit.number(
        "Sessions begun",
        f"""Sessions that began in the time range, without breakout rooms. {kit.EDGES}
        {kit.SESSIONS_KEPT}""",
        _usage("sessions::float8", "Sessions begun"),
        decimals=0,
        no_value="none",
    )


def largest() -> kit.Stat:
    """The largest session."""
    return kit.number(
        "Largest session",
        "The largest number of concurrent participants in one of these sessions.",
        _usage("max_session_size", "Largest session"),
        decimals=0,
        no_value="none",
        steps=((None, kit.YELLOW),),
    )


def last_active() -> kit.Stat:
    """When the room was last used."""
    return kit.word(
        "Last active",
        "When one of these sessions was last seen.",
        _usage("last_active_at", "Last active"),
        unit="dateTimeAsIso",
    )


def use() -> kit.Series:
    """Minutes over time."""
    return kit.series(
        "Minutes of sessions begun, over time",
        """Participant minutes of the sessions of the time range that began in each step, which
        is at least an hour. Breakout minutes are separate: users in a breakout room are also in
        this room.""",
        f"""
        SELECT
            meter.step_of(
                greatest(meter.chart_step({FROM}, {TO}, {STEP}), '1 hour'), started_at
            ) AS time,
            sum(participant_minutes) FILTER (WHERE NOT breakout) AS "participant minutes",
            sum(participant_minutes) FILTER (WHERE breakout) AS "in breakout rooms"
        FROM meter.session_list({REPORT}, {_TENANT}, {_ROOM})
        WHERE started_at >= {SINCE}
        GROUP BY 1
        ORDER BY 1
        """,
        bars=True,
        decimals=0,
    )


def sizes() -> kit.Series:
    """Sizes over time."""
    return kit.series(
        "Size of each session",
        """Largest and mean number of participants of each session that was on in the time range,
        without breakout rooms. Each point is at the start of its session, which can be before the
        time range.""",
        f"""
        SELECT
            started_at AS time,
            max(max_participants) AS "most",
            max(mean_participants) AS "mean"
        FROM meter.session_list({REPORT}, {_TENANT}, {_ROOM})
        WHERE NOT breakout
        GROUP BY started_at
        ORDER BY started_at
        """,
        decimals=0,
        columns=[
            Column("most", color=kit.YELLOW, more=kit.POINTS),
            Column("mean", color=kit.GREEN, more=kit.POINTS),
        ],
    )


def session_list() -> kit.Table:
    """The room's sessions."""
    return kit.rows(
        "Sessions that were on",
        f"""Sessions that were on in the time range, also those that began earlier, and breakout
        rooms; the newest first, 500 at most. Length is from beginning to end, without gaps that are
        not filled. A session without an end is still on, or its server has not been seen since.
        Filled is the share of its time that was interpolated because it was not seen. {kit.EDGES}
        {kit.SESSIONS_KEPT}""",
        f"""
        SELECT
            session_id::text AS "session",
            {kit.SPAN}
            started_at AS "began",
            ended_at AS "ended",
            length_minutes * 60 AS "length",
            participant_minutes AS "participant minutes",
            max_participants AS "most",
            mean_participants AS "mean",
            dialin_minutes AS "telephone minutes",
            CASE WHEN breakout THEN 'yes' ELSE '' END AS "breakout",
            origin AS "origin",
            server AS "server",
            filled_share AS "filled"
        FROM meter.session_list({REPORT}, {_TENANT}, {_ROOM})
        ORDER BY started_at DESC
        LIMIT 500
        """,
        decimals=0,
        size=(24, 12),
        columns=[Column("length", unit="s", width=100), *kit.SESSION_COLUMNS],
    )
