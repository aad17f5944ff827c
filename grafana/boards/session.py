"""Session: one session from its beginning to its end, and the other sessions on its server."""

from grafana_foundation_sdk.models import dashboard as models

from grafana.boards import kit, places
from grafana.boards.kit import FROM, STEP, TO, Column

_SESSION = "${session:sqlstring}"
_FACTS = f"FROM meter.session_figures WHERE session_id = meter.session_number({_SESSION})"


def board() -> models.Dashboard:
    """Return the dashboard."""
    return kit.board(
        places.SESSION,
        "Session",
        "One session: open it from Room. A second link there sets the time range to the session.",
        since="now-6h",
        refresh="1m",
        variables=[kit.entry("session", "Session")],
        sections=[
            (None, [facts()]),
            ("Timeline", [course(), filled()]),
            ("On the same server", [load(), neighbours()]),
        ],
    )


def facts() -> kit.Table:
    """The figures of the session."""
    return kit.rows(
        "Facts",
        """Figures of the whole session; the time range has no effect here. A session without an end
        is still on, or its server has not been seen since. Length is from beginning to end, without
        gaps that are not filled. Filled is the share of its time that was interpolated because it
        was not seen.""",
        f"""
        SELECT
            tenant AS "tenant",
            room AS "room",
            server AS "server",
            origin AS "origin",
            started_at AS "began",
            ended_at AS "ended",
            length_minutes * 60 AS "length",
            participant_minutes AS "participant minutes",
            max_participants AS "most",
            mean_participants AS "mean",
            voice_minutes AS "voice minutes",
            video_minutes AS "webcam minutes",
            dialin_minutes AS "telephone minutes",
            CASE WHEN breakout THEN 'yes' ELSE 'no' END AS "breakout",
            CASE WHEN recording THEN 'yes' ELSE 'no' END AS "recordable",
            filled_share AS "filled"
        {_FACTS}
        """,
        decimals=0,
        size=(24, 3),
        columns=[
            Column("tenant", link=places.link("Tenant", places.TENANT, tenant="tenant")),
            Column("room", link=places.link("Room", places.ROOM, tenant="tenant", room="room")),
            Column("origin", width=90),
            Column("began", unit="dateTimeAsIso", width=155),
            Column("ended", unit="dateTimeAsIso", width=155),
            Column("length", unit="s", width=90),
            Column("participant minutes", width=135),
            Column("most", width=60),
            Column("mean", decimals=1, width=60),
            Column("voice minutes", width=105),
            Column("webcam minutes", width=120),
            Column("telephone minutes", width=130),
            Column("breakout", width=80),
            Column("recordable", width=95),
            Column("filled", unit="percentunit", decimals=2, width=75),
        ],
    )


def course() -> kit.Series:
    """Participants, voice, webcams over time."""
    return kit.series(
        "Participants, voice, webcams",
        """Each poll of the session; over more than six hours, or where samples are no longer kept,
        the mean of each hour. Grey points are filled: the poll was missing or failed, and the
        figure was interpolated between the polls before and after it.""",
        f"""
        SELECT
            ts AS time,
            participants AS "participants",
            voice AS "with voice",
            video AS "webcams",
            dialins AS "by telephone",
            CASE WHEN filled THEN participants END AS "filled"
        FROM meter.session_course({_SESSION}, {FROM}, {TO})
        ORDER BY ts
        """,
        decimals=0,
        size=(24, 9),
        columns=[
            Column(
                "participants", color=kit.GREEN, more={"custom.lineInterpolation": "stepBefore"}
            ),
            Column("with voice", color=kit.BLUE, more={"custom.lineInterpolation": "stepBefore"}),
            Column("webcams", color=kit.PURPLE, more={"custom.lineInterpolation": "stepBefore"}),
            Column(
                "by telephone", color=kit.ORANGE, more={"custom.lineInterpolation": "stepBefore"}
            ),
            Column("filled", color=kit.GREY, more=kit.POINTS),
        ],
    )


def filled() -> kit.States:
    """Times that were seen, and times that were filled."""
    return kit.states(
        "Seen and filled",
        """Where the session's figures come from: seen by a poll, or filled because polls were
        missing or failed. If much is filled, check the server in Data quality.""",
        f"""
        SELECT ts AS time, filled::integer AS "source"
        FROM meter.session_course({_SESSION}, {FROM}, {TO})
        UNION ALL
        -- Else the last state would last until the end of the range.
        SELECT ended_at, NULL {_FACTS} AND ended_at IS NOT NULL
        ORDER BY 1
        """,
        unit="none",
        steps=((None, kit.GREEN), (1.0, kit.GREY)),
        mappings=[kit.mapped("0", "seen", kit.GREEN), kit.mapped("1", "filled", kit.GREY)],
        size=(24, 4),
    )


def load() -> kit.Series:
    """Load of the session's server."""
    return kit.series(
        "Load of its server",
        "All participants on the server of this session, and how long it took to answer polls.",
        f"""
        SELECT ts AS time, participants AS "participants", latency_ms AS "latency"
        FROM meter.server_load({FROM}, {TO}, {STEP}, ARRAY(SELECT server {_FACTS}))
        ORDER BY ts
        """,
        decimals=0,
        size=(24, 7),
        columns=[
            Column("participants", color=kit.GREEN),
            Column(
                "latency",
                unit="ms",
                color=kit.GREY,
                more={"custom.axisPlacement": "right", "custom.fillOpacity": 0},
            ),
        ],
    )


def neighbours() -> kit.Table:
    """Other sessions on the server during this one."""
    return kit.rows(
        "Other sessions on its server",
        """Sessions on the same server during this session and in the time range, the largest first,
        100 at most. If users complain that the session was slow, see what else the server
        carried.""",
        f"""
        WITH this AS (
            SELECT server, started_at, coalesce(ended_at, now()) AS ended_at
            {_FACTS}
        )
        SELECT
            n.tenant AS "tenant",
            n.room AS "room",
            n.session_id::text AS "session",
            {kit.SPAN.replace("started_at", "n.started_at").replace("ended_at", "n.ended_at")}
            n.started_at AS "began",
            n.ended_at AS "ended",
            n.max_participants AS "most",
            n.mean_participants AS "mean",
            n.video_minutes AS "webcam minutes",
            CASE WHEN n.breakout THEN 'yes' ELSE '' END AS "breakout"
        FROM this AS t
        CROSS JOIN LATERAL meter.session_list(
            greatest(t.started_at, {FROM}), least(t.ended_at, {TO}), NULL, NULL, t.server
        ) AS n
        WHERE n.session_id <> meter.session_number({_SESSION})
        ORDER BY n.max_participants DESC, n.started_at DESC
        LIMIT 100
        """,
        decimals=0,
        size=(24, 9),
        columns=[
            Column("tenant", link=places.link("Tenant", places.TENANT, tenant="tenant")),
            Column("room", link=places.link("Room", places.ROOM, tenant="tenant", room="room")),
            *kit.SESSION_COLUMNS[:-1],
        ],
    )
