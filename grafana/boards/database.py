"""The panels about the database: rollups, jobs and storage. They are in Data quality."""

from grafana.boards import kit
from grafana.boards.kit import Column


def freshness() -> kit.Table:
    """Up to when rollups are computed."""
    return kit.rows(
        "Freshness of rollups",
        """Up to when each rollup is computed. Queries compute newer data themselves, which is
        slower. If a rollup is stale, check the job of the same name in Jobs.""",
        """
        SELECT
            rollup AS "rollup",
            computed_until AS "computed until",
            lag_seconds AS "lag",
            CASE WHEN is_stale THEN 'stale' ELSE 'fresh' END AS "state"
        FROM meter.rollup_freshness()
        ORDER BY rollup
        """,
        decimals=0,
        size=(12, 11),
        columns=[
            Column("computed until", unit="dateTimeAsIso"),
            Column("lag", unit="s"),
            Column(
                "state",
                mappings=[
                    kit.mapped("fresh", "fresh", kit.GREEN),
                    kit.mapped("stale", "stale", kit.RED),
                ],
                more=kit.COLORED,
            ),
        ],
    )


def jobs() -> kit.Table:
    """Jobs of the database."""
    return kit.rows(
        "Jobs",
        """TimescaleDB's jobs for bbbmeter: refresh, columnstore and retention. Failures is the
        total number so far. Error is that of the last run, if it failed. The embedded engine
        records no runs.""",
        """
        SELECT
            CASE job
                WHEN 'policy_refresh_continuous_aggregate' THEN 'refresh'
                WHEN 'policy_compression' THEN 'columnstore'
                WHEN 'policy_retention' THEN 'retention'
                ELSE job
            END AS "job",
            relation AS "of",
            coalesce(status, 'not yet run') AS "last run",
            last_run_at AS "at",
            next_run_at AS "next",
            failures AS "failures",
            error AS "error"
        FROM meter.job_state()
        ORDER BY status = 'Failed' DESC NULLS LAST, failures DESC, job, relation
        """,
        decimals=0,
        size=(12, 11),
        columns=[
            Column(
                "last run",
                mappings=[
                    kit.mapped("Success", "ok", kit.GREEN),
                    kit.mapped("Failed", "failed", kit.RED),
                    kit.mapped("Overtaken", "ok, done by another run", kit.GREEN),
                ],
                more=kit.COLORED,
            ),
            Column("at", unit="dateTimeFromNow"),
            Column("next", unit="dateTimeFromNow"),
        ],
    )


def storage() -> kit.Table:
    """Storage of each table."""
    return kit.rows(
        "Storage",
        """Size on disk of each table and rollup, with indexes, as rows and in columns. In a year is
        the expected size a year from now, with its retention and the growth of the last two weeks.
        Kept since is the time of the oldest data.""",
        """
        SELECT
            relation AS "table",
            bytes AS "size",
            row_bytes AS "as rows",
            column_bytes AS "in columns",
            chunks AS "chunks",
            column_chunks AS "chunks in columns",
            CASE WHEN kept_days > 0 THEN kept_days || ' days' ELSE 'no limit' END AS "kept for",
            kept_since AS "kept since",
            bytes_in_a_year AS "in a year"
        FROM meter.disk_usage()
        ORDER BY bytes DESC
        """,
        decimals=0,
        size=(24, 11),
        columns=[
            Column("size", unit="bytes", decimals=1),
            Column("as rows", unit="bytes", decimals=1),
            Column("in columns", unit="bytes", decimals=1),
            Column("kept since", unit="dateTimeAsIso"),
            Column("in a year", unit="bytes", decimals=1),
        ],
    )
