"""The alert rules, each with a runbook in docs/runbooks.

A rule has a query, a threshold and a duration. The query returns a row for each thing that the
rule watches (a server, a tenant): its name as a text, and a number. The rule fires when the number
has been beyond the threshold for the duration.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import dedent
from typing import Any

from grafana.boards import places

_SOURCE = "bbbmeter"
_EXPRESSIONS = "__expr__"


@dataclass(frozen=True, slots=True)
class Alert:
    """One rule. It fires for each row whose number is `above` or `below` the limit.

    `lasts` is how long the number must be beyond the limit, in Grafana's notation (`3m`).
    `missing` is the state if the query returns no row: OK or Alerting. `summary` can contain
    `{{ $labels.… }}`, a text of the row, and `{{ $values.B.Value }}`, the number.
    """

    uid: str
    title: str
    summary: str
    severity: str
    dashboard: str
    sql: str
    above: float | None = None
    below: float | None = None
    lasts: str = "0s"
    missing: str = "OK"

    def rule(self) -> dict[str, Any]:
        """Return the rule as Grafana's provisioning expects it."""
        operator, limit = ("gt", self.above) if self.above is not None else ("lt", self.below)
        return {
            "uid": f"bbbmeter-{self.uid}",
            "title": self.title,
            "condition": "C",
            "for": self.lasts,
            "noDataState": self.missing,
            # While the database does not answer, every rule is in the state Error.
            "execErrState": "Error",
            "dashboardUid": self.dashboard,
            "labels": {"service": "bbbmeter", "severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "runbook": f"docs/runbooks/{self.uid}.md",
            },
            "data": [self._query(), _reduce(), _threshold(operator, limit)],
        }

    def _query(self) -> dict[str, Any]:
        return {
            "refId": "A",
            "datasourceUid": _SOURCE,
            "relativeTimeRange": {"from": 3600, "to": 0},
            "model": {
                "refId": "A",
                "rawSql": dedent(self.sql).strip(),
                "format": "time_series",
                "editorMode": "code",
                "rawQuery": True,
                "intervalMs": 60000,
                "maxDataPoints": 100,
            },
        }


def _reduce() -> dict[str, Any]:
    """Return the expression that takes the last number of each series."""
    return {
        "refId": "B",
        "datasourceUid": _EXPRESSIONS,
        "model": {
            "refId": "B",
            "type": "reduce",
            "expression": "A",
            "reducer": "last",
            "settings": {"mode": "dropNN"},
        },
    }


def _threshold(operator: str, limit: float | None) -> dict[str, Any]:
    return {
        "refId": "C",
        "datasourceUid": _EXPRESSIONS,
        "model": {
            "refId": "C",
            "type": "threshold",
            "expression": "B",
            "conditions": [{"evaluator": {"type": operator, "params": [limit]}}],
        },
    }


_USE = """
SELECT
    now() AS time,
    x.tenant,
    x.agreed,
    x.use
FROM (
    SELECT
        c.tenant,
        'concurrent participants' AS agreed,
        max(c.peak_participants / nullif(c.participant_limit, 0)) AS use
    FROM meter.concurrency(now() - interval '1 hour', now(), '1 minute') AS c
    GROUP BY c.tenant
    UNION ALL
    SELECT m.tenant, 'minutes of the month', m.use
    FROM meter.month_to_date() AS m
) AS x
WHERE x.use IS NOT NULL
ORDER BY x.tenant, x.agreed
"""

ALERTS: Sequence[Alert] = (
    Alert(
        uid="server-down",
        title="Server down",
        summary="{{ $labels.server }} has not answered for three minutes.",
        severity="critical",
        dashboard=places.FLEET,
        sql="""
        SELECT now() AS time, server, (NOT is_up)::integer AS down
        FROM meter.server_now
        ORDER BY server
        """,
        above=0,
        lasts="3m",
    ),
    Alert(
        uid="coverage-low",
        title="Coverage low",
        summary="{{ $labels.server }} was seen for {{ humanizePercentage $values.B.Value }} of the "
        "last 24 hours. Usage in the rest of the time is missing from its tenants' figures.",
        severity="warning",
        dashboard=places.QUALITY,
        sql="""
        SELECT now() AS time, server, coverage
        FROM meter.server_report(now() - interval '24 hours', now())
        WHERE coverage IS NOT NULL
        ORDER BY server
        """,
        below=0.98,
        lasts="10m",
    ),
    Alert(
        uid="collector-silent",
        title="No collector is alive",
        summary="No collector writes a heartbeat: nothing is metered, or polls wait in a spool.",
        severity="critical",
        dashboard=places.QUALITY,
        sql="""
        SELECT now() AS time, count(*) FILTER (WHERE is_live) AS live
        FROM meter.collector_now
        """,
        below=1,
        lasts="2m",
        missing="Alerting",
    ),
    Alert(
        uid="lag",
        title="Collector lags",
        summary="The newest tick that the collector on {{ $labels.host }} stored is "
        "{{ humanizeDuration $values.B.Value }} old.",
        severity="warning",
        dashboard=places.QUALITY,
        sql="""
        SELECT now() AS time, host, collector, lag_seconds AS lag
        FROM meter.collector_now
        WHERE is_live AND lag_seconds IS NOT NULL
        ORDER BY host, collector
        """,
        above=300,
        lasts="5m",
    ),
    Alert(
        uid="spool-filling",
        title="Spool fills",
        summary="The spool on {{ $labels.host }} is {{ humanizePercentage $values.B.Value }} full. "
        "When spool and memory are full, new polls are lost.",
        severity="critical",
        dashboard=places.QUALITY,
        sql="""
        SELECT now() AS time, host, collector, spool_use AS used
        FROM meter.collector_now
        WHERE is_live AND spool_use IS NOT NULL
        ORDER BY host, collector
        """,
        above=0.25,
    ),
    Alert(
        uid="quarantine",
        title="Quarantine is not empty",
        summary="{{ $values.B.Value }} batches of the collector on {{ $labels.host }} are in "
        "quarantine and not in the database.",
        severity="warning",
        dashboard=places.QUALITY,
        sql="""
        SELECT now() AS time, host, collector, quarantined_batches AS batches
        FROM meter.collector_now
        WHERE is_live AND quarantined_batches IS NOT NULL
        ORDER BY host, collector
        """,
        above=0,
    ),
    Alert(
        uid="fleets-differ",
        title="Collectors have different settings",
        summary="The living collectors have {{ $values.B.Value }} different fleets in their "
        "settings.",
        severity="warning",
        dashboard=places.QUALITY,
        sql="""
        SELECT now() AS time, count(DISTINCT fleet_hash) FILTER (WHERE is_live) AS fleets
        FROM meter.collector_now
        """,
        above=1,
        lasts="5m",
    ),
    Alert(
        uid="meetings-on-two-servers",
        title="Meetings on two servers",
        summary="{{ $values.B.Value }} meetings are on {{ $labels.server }} and on "
        "{{ $labels.other_server }}. They count {{ $labels.counted }}.",
        severity="warning",
        dashboard=places.QUALITY,
        sql="""
        SELECT
            now() AS time, server, other_server,
            CASE WHEN counts THEN 'twice' ELSE 'once' END AS counted, sum(sessions)::float8 AS n
        FROM meter.duplicates_now()
        GROUP BY server, other_server, counts
        ORDER BY server, other_server, counts
        """,
        above=0,
    ),
    Alert(
        uid="rollups-stale",
        title="Rollup is stale",
        summary="The rollup {{ $labels.rollup }} is not refreshed.",
        severity="warning",
        dashboard=places.QUALITY,
        sql="""
        SELECT now() AS time, rollup, is_stale::integer AS stale
        FROM meter.rollup_freshness()
        ORDER BY rollup
        """,
        above=0,
        lasts="15m",
    ),
    Alert(
        uid="job-failing",
        title="Database job fails",
        summary="{{ $labels.job }} of {{ $labels.relation }} failed in its last run.",
        severity="warning",
        dashboard=places.QUALITY,
        sql="""
        SELECT
            now() AS time, job, relation, job_id::text AS number,
            (status = 'Failed')::integer AS failed
        FROM meter.job_state()
        WHERE status IS NOT NULL
        ORDER BY job_id
        """,
        above=0,
        lasts="10m",
    ),
    Alert(
        uid="tenant-near-limit",
        title="Tenant near its limit",
        summary="{{ $labels.tenant }} uses {{ humanizePercentage $values.B.Value }} of its "
        "contract ({{ $labels.agreed }}).",
        severity="info",
        dashboard=places.TENANTS,
        sql=_USE,
        above=0.9,
    ),
    Alert(
        uid="tenant-over-limit",
        title="Tenant over its limit",
        summary="{{ $labels.tenant }} uses {{ humanizePercentage $values.B.Value }} of its "
        "contract ({{ $labels.agreed }}).",
        severity="warning",
        dashboard=places.TENANTS,
        sql=_USE,
        above=1,
    ),
    Alert(
        uid="unassigned-meetings",
        title="Meetings without a tenant",
        summary="{{ $values.B.Value }} sessions of the last hour matched no attribution rule.",
        severity="warning",
        dashboard=places.TENANTS,
        sql="""
        SELECT now() AS time, count(*) AS sessions
        FROM meter.session_list(now() - interval '1 hour', now(), meter.default_tenant())
        """,
        above=0,
    ),
    Alert(
        uid="certificate-expiring",
        title="Certificate expires",
        summary="The certificate of {{ $labels.server }} expires in "
        "{{ humanizeDuration $values.B.Value }}.",
        severity="warning",
        dashboard=places.QUALITY,
        sql="""
        SELECT
            now() AS time, server, extract(EPOCH FROM tls_expires_at - now())::float8 AS remaining
        FROM meter.server_now
        WHERE tls_expires_at IS NOT NULL
        ORDER BY server
        """,
        below=14 * 86400,
    ),
)


def provisioning() -> dict[str, Any]:
    """Return all rules as the content of Grafana's provisioning file."""
    return {
        "apiVersion": 1,
        "groups": [
            {
                "orgId": 1,
                "name": "bbbmeter",
                "folder": "bbbmeter",
                "interval": "1m",
                "rules": [alert.rule() for alert in ALERTS],
            }
        ],
    }
