"""Fleet: what is on now, and how it went: by server, by origin, by size."""

from grafana_foundation_sdk.models import dashboard as models

from grafana.boards import kit, places
from grafana.boards.kit import FROM, STEP, TO, Column

_SERVERS = "ARRAY[${server:sqlstring}]::text[]"
_CHOSEN = f"server = ANY({_SERVERS})"


def board() -> models.Dashboard:
    """Return the dashboard."""
    return kit.board(
        places.FLEET,
        "Fleet",
        "The whole fleet: now, over time, by server, by origin. Figures leave breakout rooms out.",
        since="now-24h",
        variables=[kit.servers()],
        sections=[
            (
                None,
                [
                    _now("Participants", "participants", kit.GREEN),
                    _now("Sessions", "sessions", kit.GREEN),
                    _now("With voice", "voice", kit.BLUE),
                    _now("Webcams", "video", kit.BLUE),
                    _now("By telephone", "dialins", kit.BLUE),
                    servers_away(),
                ],
            ),
            (
                "Over time",
                [participants(), sessions(), media(), starts_and_ends(), by_server(), by_origin()],
            ),
            ("Servers", [servers()]),
            ("Sizes and capacity", [sizes(), weekly_peaks()]),
        ],
    )


def _now(title: str, column: str, color: str) -> kit.Stat:
    return kit.number(
        title,
        """As the last poll of each chosen server saw it, up to five minutes ago, without breakout
        rooms. Servers that do not answer are left out: their figures are unknown, not zero; see
        Servers away.""",
        f'SELECT sum({column}) AS "{title}" FROM meter.server_now WHERE {_CHOSEN}',
        steps=((None, color),),
        decimals=0,
    )


def servers_away() -> kit.Stat:
    """How many servers cannot be seen."""
    return kit.number(
        "Servers away",
        """Chosen servers whose last poll failed, or that were not polled for five minutes. What
        they carry is missing from the other figures. The table of servers names the error.""",
        f'SELECT count(*) FILTER (WHERE NOT is_up) AS "Servers away" FROM meter.server_now '
        f"WHERE {_CHOSEN}",
        steps=kit.NONE_IS_GOOD,
        decimals=0,
    )


def _concurrency(title: str, description: str, of: str) -> kit.Series:
    """Return the mean and the highest minute of each step; `of` is participants or sessions."""
    return kit.series(
        title,
        description,
        f"""
        SELECT ts AS time, peak_{of} AS "highest minute", {of} AS "mean"
        FROM meter.fleet_concurrency({FROM}, {TO}, {STEP})
        ORDER BY ts
        """,
        decimals=0,
        columns=[
            Column("mean", color=kit.GREEN),
            Column("highest minute", color=kit.YELLOW, more={"custom.fillOpacity": 0}),
        ],
    )


def participants() -> kit.Series:
    """Mean and peak of the fleet."""
    return _concurrency(
        "Participants",
        """Mean of each step, and the highest minute in it, of all servers together. A gap: no
        server was seen. A dip beside a red mark can be a server that did not answer.""",
        "participants",
    )


def sessions() -> kit.Series:
    """Mean and peak of sessions."""
    return _concurrency(
        "Sessions",
        """Sessions at a time: mean of each step, and the highest minute in it, without breakout
        rooms. A gap: no server was seen.""",
        "sessions",
    )


def media() -> kit.Series:
    """Voice, webcams, dial-in, breakouts."""
    return kit.series(
        "Voice, webcams, telephone, breakout rooms",
        """Means of each step. BigBlueButton 3 counts listeners as voice, 2.x does not: compare
        within a version. Who is in a breakout room is in the parent room too.""",
        f"""
        SELECT
            ts AS time, voice AS "with voice", video AS "webcams", dialins AS "by telephone",
            breakout_participants AS "in breakout rooms"
        FROM meter.fleet_concurrency({FROM}, {TO}, {STEP})
        ORDER BY ts
        """,
        decimals=0,
    )


def starts_and_ends() -> kit.Series:
    """Sessions that began and ended."""
    return kit.series(
        "Sessions that began and ended",
        """In each step, of an hour at least, without breakout rooms. Many ends at one moment can be
        a server that was restarted.""",
        f"""
        SELECT ts AS time, began AS "began", ended AS "ended"
        FROM meter.fleet_turnover({FROM}, {TO}, {STEP})
        ORDER BY ts
        """,
        bars=True,
        decimals=0,
        columns=[Column("began", color=kit.GREEN), Column("ended", color=kit.ORANGE)],
    )


def by_server() -> kit.Series:
    """Participants by server."""
    return kit.series(
        "Participants by server",
        """Mean over what was seen of each chosen server, stacked. A server that was not seen has a
        gap. Very uneven shares: look at the load balancer's weights.""",
        f"""
        SELECT ts AS time, server AS metric, participants
        FROM meter.server_load({FROM}, {TO}, {STEP}, {_SERVERS})
        ORDER BY ts, server
        """,
        stacked=True,
        decimals=0,
        legend=("mean", "max"),
        points=150,
    )


def by_origin() -> kit.Series:
    """Participant minutes by origin."""
    return kit.series(
        "Participant minutes by origin",
        """Of the sessions that began in each step, of an hour at least, by the product that created
        them (bbb-origin). Clients say so themselves; unknown is who says nothing.""",
        f"""
        SELECT ts AS time, origin AS metric, participant_minutes AS minutes
        FROM meter.fleet_origins({FROM}, {TO}, {STEP})
        ORDER BY ts, origin
        """,
        bars=True,
        stacked=True,
        decimals=0,
        legend=("sum",),
    )


def servers() -> kit.Table:
    """All servers, side by side."""
    return kit.rows(
        "Servers",
        """Sessions and participants are those of the last poll; all else is of the time range, in
        whole hours. Coverage is the share of due polls that succeeded. Latency is what 95 % of
        polls stayed below: a second or more means a server at its limit.""",
        f"""
        SELECT
            n.server AS "server",
            n.is_up AS "up",
            n.sessions AS "sessions",
            n.participants AS "participants",
            r.share AS "share",
            r.participant_minutes AS "participant minutes",
            r.max_participants AS "most participants",
            r.latency_p95_ms AS "latency p95",
            r.coverage AS "coverage",
            r.failed_polls AS "failed polls",
            r.errors AS "errors",
            r.skipped AS "unread meetings",
            n.tls_expires_at AS "certificate until"
        FROM meter.server_now AS n
        LEFT JOIN meter.server_report({FROM}, {TO}) AS r ON n.server = r.server
        WHERE n.{_CHOSEN}
        ORDER BY 1
        """,
        decimals=0,
        columns=[
            Column(
                "server",
                width=130,
                link=places.link("Data quality", places.QUALITY, server="server"),
            ),
            Column(
                "up",
                width=70,
                mappings=[
                    kit.mapped("true", "up", kit.GREEN),
                    kit.mapped("false", "away", kit.RED),
                ],
                more=kit.COLORED,
            ),
            Column("sessions", width=90),
            Column("participants", width=105),
            Column("share", unit="percentunit", decimals=1, gauge=True, width=150),
            Column("participant minutes", width=150),
            Column("most participants", width=140),
            Column(
                "latency p95",
                unit="ms",
                width=110,
                steps=((None, "text"), (500.0, kit.ORANGE), (2000.0, kit.RED)),
            ),
            Column("coverage", unit="percentunit", decimals=2, width=100, steps=kit.COVERAGE),
            Column("failed polls", width=100),
            Column("unread meetings", width=130),
            Column("certificate until", unit="dateTimeFromNow", width=150),
        ],
    )


def sizes() -> kit.Heat:
    """A heat map of sizes."""
    return kit.heat(
        "Sizes of sessions",
        """How many sessions began in each step, of an hour at least, by their most participants: a
        row from 3 holds those of 3 to 5. Without breakout rooms.""",
        f"""
        SELECT ts AS time, size::text AS metric, sessions
        FROM meter.fleet_sizes({FROM}, {TO}, {STEP})
        ORDER BY ts, size
        """,
    )


def weekly_peaks() -> kit.Bars:
    """Peaks of weeks."""
    return kit.bars(
        "Peak of each week",
        """The highest minute of participants of all servers together, of this week (so far) and the
        eleven before, whatever the time range. What the fleet must be able to carry.""",
        """
        SELECT
            CASE
                WHEN meter.step_of('7 days', h.bucket) = meter.step_of('7 days', now())
                    THEN 'this week'
                ELSE to_char(
                    meter.step_of('7 days', h.bucket) AT TIME ZONE meter.billing_timezone(),
                    '"week" IW'
                )
            END AS "week",
            (max(h.peak_participants))[1] / 60.0 AS "peak participants"
        FROM meter.fleet_1h AS h
        WHERE h.bucket >= meter.step_of('7 days', now() - interval '77 days')
        GROUP BY meter.step_of('7 days', h.bucket)
        ORDER BY meter.step_of('7 days', h.bucket)
        """,
        x="week",
        size=(12, 8),
        columns=[Column("peak participants", decimals=0, color=kit.YELLOW)],
    )
