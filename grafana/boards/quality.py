"""Data quality: what was seen and what was not, and the state of bbbmeter and its database."""

from grafana_foundation_sdk.models import dashboard as models

from grafana.boards import database, kit, places
from grafana.boards.kit import FROM, REPORT, STEP, TO, Column

_SERVERS = "ARRAY[${server:sqlstring}]::text[]"
_CHOSEN = f"server = ANY({_SERVERS})"


def board() -> models.Dashboard:
    """Return the dashboard."""
    return kit.board(
        places.QUALITY,
        "Data quality",
        """Whether you can bill by the figures: coverage, failed polls, gaps and filled time. Also
        the state of collectors, rollups, jobs and storage.""",
        since="now-24h",
        variables=[kit.servers()],
        sections=[
            (None, [seen(), failed(), live(), spool(), quarantine(), stale()]),
            ("What was seen", [coverage(), failures(), filled(), latency(), gaps(), duplicates()]),
            ("Collectors", [collectors()]),
            ("Database", [database.freshness(), database.jobs(), database.storage()]),
            ("Certificates", [certificates()]),
        ],
    )


def seen() -> kit.Stat:
    """Coverage of the chosen servers."""
    return kit.number(
        "Coverage",
        f"""Share of the due time in which the chosen servers were seen, all together, times the
        share of the sessions that they showed. Short gaps of the rest are filled. {kit.EDGES}""",
        f"""
        SELECT sum(coverage * due_seconds) / nullif(sum(due_seconds), 0) AS "Coverage"
        FROM meter.server_coverage({REPORT})
        WHERE {_CHOSEN}
        """,
        unit="percentunit",
        decimals=3,
        steps=kit.COVERAGE,
    )


def failed() -> kit.Stat:
    """Failed polls."""
    return kit.number(
        "Failed polls",
        f"""Polls of the chosen servers that failed in the time range. The chart by kind shows why.
        {kit.EDGES}""",
        f"""
        SELECT coalesce(sum(polls - ok_polls), 0)::float8 AS "Failed polls"
        FROM meter.polls_between({REPORT})
        WHERE server_id = ANY(SELECT id FROM meter.server WHERE name = ANY({_SERVERS}))
        """,
        decimals=0,
        steps=((None, kit.GREEN), (1.0, kit.YELLOW)),
    )


def live() -> kit.Stat:
    """Collectors that are alive."""
    return kit.number(
        "Live collectors",
        """Collectors that wrote a heartbeat within the last two poll intervals. 0 means that
        nothing is metered, or that no collector reaches the database.""",
        'SELECT count(*) FILTER (WHERE is_live) AS "Live collectors" FROM meter.collector_now',
        decimals=0,
        steps=((None, kit.RED), (1.0, kit.GREEN)),
    )


def spool() -> kit.Stat:
    """The fullest spool."""
    return kit.number(
        "Fullest spool",
        """Share of its maximum size that the fullest spool of the live collectors uses. A spool
        fills while the database is away or slow, and empties by itself. When spool and memory are
        full, new polls are lost.""",
        'SELECT max(spool_use) AS "Fullest spool" FROM meter.collector_now WHERE is_live',
        unit="percentunit",
        decimals=1,
        steps=((None, kit.GREEN), (0.1, kit.YELLOW), (0.5, kit.RED)),
    )


def quarantine() -> kit.Stat:
    """Batches in quarantine."""
    return kit.number(
        "In quarantine",
        """Batches that the database rejected or that were too old to store, on the disks of the
        live collectors. Inspect and retry them with `bbbmeter spool`. Until they are stored, their
        polls are missing from coverage.""",
        'SELECT coalesce(sum(quarantined_batches), 0)::float8 AS "In quarantine" '
        "FROM meter.collector_now WHERE is_live",
        decimals=0,
        steps=kit.NONE_IS_GOOD,
    )


def stale() -> kit.Stat:
    """Rollups and jobs that need attention."""
    return kit.number(
        "Stale rollups, failing jobs",
        """Rollups that are too far behind, and database jobs whose last run failed. Freshness of
        rollups and Jobs name them.""",
        """
        SELECT
            (SELECT count(*) FROM meter.rollup_freshness() WHERE is_stale)
            + (SELECT count(*) FROM meter.job_state() WHERE status = 'Failed')
                AS "Stale rollups, failing jobs"
        """,
        decimals=0,
        steps=kit.NONE_IS_GOOD,
    )


def coverage() -> kit.States:
    """Coverage by server and step."""
    return kit.states(
        "Coverage by server",
        f"""Share of each step in which the server was seen. A step is at least an hour.
        {kit.STEPS} Red means less than 90 %; an empty step means that the server was not due. If
        all servers are red at once, check the collectors and the network.""",
        f"""
        SELECT ts AS time, server AS metric, coverage
        FROM meter.server_load({FROM}, {TO}, greatest({STEP}, '1 hour'), {_SERVERS})
        ORDER BY ts, server
        """,
        unit="percentunit",
        steps=kit.COVERAGE,
        size=(24, 10),
    )


def failures() -> kit.Series:
    """Failed polls by outcome."""
    return kit.series(
        "Failed polls by outcome",
        f"""timeout, deadline, dns, connect, tls, disconnect: the server or the network.
        http_status, redirect, not_xml, encoding, too_large, implausible, api_error: bbb-web or its
        proxy. not_asked: the tick was too short for all servers. The runbook server-down explains
        each outcome. A step is at least an hour. {kit.STEPS} Outcomes are kept for 400 days unless
        the settings say otherwise.""",
        f"""
        SELECT ts AS time, outcome AS metric, polls
        FROM meter.poll_failures({FROM}, {TO}, {STEP}, {_SERVERS})
        ORDER BY ts, outcome
        """,
        bars=True,
        stacked=True,
        decimals=0,
        legend=("sum",),
    )


def filled() -> kit.Series:
    """Share of filled time."""
    return kit.series(
        "Filled share",
        """Share of all session time that was interpolated because polls were missing or failed. If
        it is high without outages, the poll interval is too short for the fleet.""",
        f"""
        SELECT ts AS time, filled_share AS "filled"
        FROM meter.fleet_concurrency({FROM}, {TO}, {STEP})
        ORDER BY ts
        """,
        unit="percentunit",
        decimals=2,
        columns=[Column("filled", color=kit.ORANGE)],
    )


def latency() -> kit.Heat:
    """Polls by latency."""
    return kit.heat(
        "Polls by latency",
        """How many successful polls of the chosen servers took how long. The row from 100 ms holds
        polls up to the next row. If all rows move up at once, check the network and the load
        balancer. A step is at least an hour.""",
        f"""
        SELECT ts AS time, latency_ms::text AS metric, polls
        FROM meter.poll_latencies({FROM}, {TO}, {STEP}, {_SERVERS})
        ORDER BY ts, latency_ms
        """,
        size=(24, 8),
        y_unit="ms",
    )


def gaps() -> kit.Table:
    """Times in which polls failed."""
    return kit.rows(
        "Gaps",
        """Times in which at least three polls of a server in a row failed, the newest first, 500 at
        most. In a time range of more than two days, and where polls are no longer kept: whole hours
        with at least three failed polls. Times in which no collector polled are not listed here;
        they lower the coverage.""",
        f"""
        SELECT
            server AS "server",
            down_since AS "from",
            down_until AS "to",
            extract(EPOCH FROM down_until - down_since)::float8 AS "length",
            failed_polls AS "failed polls",
            outcome AS "outcome"
        FROM meter.outages({FROM}, {TO})
        WHERE {_CHOSEN}
        ORDER BY down_since DESC, server
        LIMIT 500
        """,
        decimals=0,
        size=(24, 8),
        columns=[
            Column("from", unit="dateTimeAsIso"),
            Column("to", unit="dateTimeAsIso"),
            Column("length", unit="s"),
        ],
    )


def duplicates() -> kit.Table:
    """Meetings that two servers show."""
    return kit.rows(
        "Meetings on two servers",
        """Meetings that two of the configured servers showed, such as a load balancer and a server
        behind it. They count only on the other server, unless they have two tenants: then they
        count twice, and the runbook meetings-on-two-servers says what to do. An empty table is
        good.""",
        f"""
        SELECT
            server AS "server",
            tenant AS "tenant",
            other_server AS "other server",
            other_tenant AS "tenant there",
            sessions AS "meetings",
            CASE WHEN counts THEN 'twice' ELSE 'once' END AS "counted",
            twice_minutes AS "minutes counted twice"
        FROM meter.duplicates({FROM}, {TO})
        WHERE {_CHOSEN} OR other_server = ANY({_SERVERS})
        ORDER BY counts DESC, sessions DESC, server, other_server
        LIMIT 100
        """,
        decimals=0,
        size=(24, 6),
        columns=[
            Column(
                "counted",
                mappings=[
                    kit.mapped("twice", "twice", kit.RED),
                    kit.mapped("once", "once", kit.GREEN),
                ],
                more=kit.COLORED,
            ),
        ],
    )


def collectors() -> kit.Table:
    """All collectors of the last seven days."""
    return kit.rows(
        "Collectors",
        """The last report of each collector that was seen in the last seven days. Lag is the age of
        the newest tick that it had stored by then. Stopped means that it shut down in order; away
        means that its heartbeats ended without that.""",
        """
        SELECT
            host AS "host",
            CASE WHEN is_live THEN 'live' WHEN stopped THEN 'stopped' ELSE 'away' END AS "state",
            started_at AS "started",
            seen_at AS "last heartbeat",
            servers AS "servers",
            lag_seconds AS "lag",
            spool_polls AS "spooled polls",
            spool_use AS "spool use",
            quarantined_batches AS "in quarantine"
        FROM meter.collector_now
        WHERE seen_at > now() - interval '7 days'
        ORDER BY is_live DESC, seen_at DESC
        LIMIT 100
        """,
        decimals=0,
        size=(24, 6),
        columns=[
            Column(
                "state",
                mappings=[
                    kit.mapped("live", "live", kit.GREEN),
                    kit.mapped("away", "away", kit.RED),
                ],
                more=kit.COLORED,
            ),
            Column("started", unit="dateTimeAsIso"),
            Column("last heartbeat", unit="dateTimeFromNow"),
            Column(
                "lag", unit="s", steps=((None, kit.GREEN), (120.0, kit.ORANGE), (600.0, kit.RED))
            ),
            Column("spool use", unit="percentunit", decimals=1),
            Column("in quarantine", steps=kit.NONE_IS_GOOD),
        ],
    )


def certificates() -> kit.Table:
    """Certificates of the servers."""
    return kit.rows(
        "Certificates",
        "When the certificate of each chosen server expires. After that, all polls of it fail.",
        f"""
        SELECT
            server AS "server",
            tls_expires_at AS "expires",
            extract(EPOCH FROM tls_expires_at - now())::float8 AS "left"
        FROM meter.server_now
        WHERE {_CHOSEN}
        ORDER BY tls_expires_at NULLS LAST, server
        """,
        decimals=0,
        size=(24, 7),
        columns=[
            Column("expires", unit="dateTimeAsIso"),
            Column(
                "left",
                unit="s",
                steps=((None, kit.RED), (604800.0, kit.ORANGE), (1814400.0, kit.GREEN)),
            ),
        ],
    )
