"""Fleet: the present state, and the past by server, by origin and by size."""

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
        """The whole fleet: now, over time, by server and by origin. Breakout rooms are included
        only where a panel names them.""",
        since="now-24h",
        variables=[kit.servers()],
        sections=[
            (
                None,
                [
                    _now("Participants now", "participants", kit.GREEN),
                    _now("Sessions now", "sessions", kit.GREEN),
                    _now("With voice now", "voice", kit.BLUE),
                    _now("Webcams now", "video", kit.BLUE),
                    _now("By telephone now", "dialins", kit.BLUE),
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
        """Sum of the last poll of each chosen server, at most five minutes old, without breakout
        rooms. Servers that do not answer are not included: their figures are unknown, not zero.
        See Servers away.""",
        f'SELECT sum({column}) AS "{title}" FROM meter.server_now WHERE {_CHOSEN}',
        steps=((None, color),),
        decimals=0,
    )


def servers_away() -> kit.Stat:
    """How many servers do not answer."""
    return kit.number(
        "Servers away",
        """Chosen servers whose last poll failed, or that were not polled for five minutes. The
        other figures do not include their sessions. The table Servers names the errors.""",
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
        "Concurrent participants",
        """Mean of each step and the highest minute in it, over all servers together. The running
        step has only its highest minute so far. A gap means that no server was seen. A dip at a red
        mark can be a server that did not answer.""",
        "participants",
    )


def sessions() -> kit.Series:
    """Mean and peak of sessions."""
    return _concurrency(
        "Concurrent sessions",
        """Sessions over all servers together: mean of each step and the highest minute in it,
        without breakout rooms. The running step has only its highest minute so far. A gap means
        that no server was seen.""",
        "sessions",
    )


def media() -> kit.Series:
    """Voice, webcams, dial-in, breakouts."""
    return kit.series(
        "Voice, webcams, telephone, breakout rooms",
        """Mean of each step. BigBlueButton 3 counts listeners as voice, 2.x does not: compare voice
        within one version only. Users in a breakout room are also in the parent room.""",
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
        f"""Sessions that began and ended in each step, without breakout rooms. A step is at
        least an hour. {kit.STEPS} Many ends at the same moment can mean that a server was
        restarted. {kit.SESSIONS_KEPT}""",
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
        """Mean of each chosen server over the time in which it was seen, stacked. A server that was
        not seen has a gap. If the shares are very uneven, check the load balancer's weights.""",
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
        "Minutes of sessions begun, by origin",
        f"""Participant minutes of the sessions that began in each step, up to their ends, by the
        product that created them. A step is at least an hour. {kit.STEPS} Products name themselves
        (bbb-origin); unknown means no name. {kit.SESSIONS_KEPT}""",
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
    """All chosen servers."""
    return kit.rows(
        "Servers",
        f"""Up, sessions now, participants now and certificate are current. The other columns are
        for the time range. Measured minutes are participant minutes that successful polls saw,
        without the filled ones that are in bills; share is the server's part of them. Coverage
        is the share of the due time that successful polls cover, times the share of the sessions
        that they showed. 95 % of successful polls were
        faster than latency p95: a second or more means that the server is at its limit. Failures
        and latency are those of the last 400 days unless the settings say otherwise.
        {kit.EDGES}""",
        f"""
        SELECT
            n.server AS "server",
            n.is_up AS "up",
            n.sessions AS "sessions now",
            n.participants AS "participants now",
            r.share AS "share",
            r.measured_participant_minutes AS "measured minutes",
            r.max_participants AS "most participants",
            r.latency_p95_ms AS "latency p95",
            r.coverage AS "coverage",
            r.failed_polls AS "failed polls",
            r.failures AS "failures",
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
            Column("sessions now", width=105),
            Column("participants now", width=125),
            Column("share", unit="percentunit", decimals=1, gauge=True, width=150),
            Column("measured minutes", width=140),
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
        "Sizes of sessions begun",
        f"""How many sessions began in each step, by their largest number of participants, without
        breakout rooms. The row from 3 holds sessions with 3 to 5. A step is at least an hour.
        {kit.STEPS} {kit.SESSIONS_KEPT}""",
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
        """The highest minute of participants over all servers together, in this week so far and in
        each of the eleven weeks before. The time range has no effect here. The fleet must be able
        to carry the highest of these peaks.""",
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
            (max(h.peak_minute))[1] / 60.0 AS "peak participants"
        FROM meter.fleet_1h AS h
        WHERE h.bucket >= meter.step_of('7 days', now() - interval '77 days')
        GROUP BY meter.step_of('7 days', h.bucket)
        ORDER BY meter.step_of('7 days', h.bucket)
        """,
        x="week",
        size=(12, 8),
        columns=[Column("peak participants", decimals=0, color=kit.YELLOW)],
    )
