"""Every alert rule, evaluated as Grafana does: on what must fire, and on what must not."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest
import yaml

from grafana import alerts
from grafana.replay import alerting
from grafana.replay.board import Json
from tests.support.repository import ROOT

RULES = {alert.uid: alert.rule() for alert in alerts.ALERTS}

# A fleet that is well, now: each server answers, the collector lives, and so on.
WELL = """
INSERT INTO meter.poll (ts, server_id, ok, outcome, latency_ms, seconds, skipped, sessions,
    participants, voice, video, listeners, dialins, breakouts)
SELECT date_trunc('second', now()), v.id, TRUE, 'ok', 50, 60, 0, 0, 0, 0, 0, 0, 0, 0
FROM meter.server AS v ON CONFLICT DO NOTHING;
UPDATE meter.server SET tls_expires_at = now() + interval '60 days';
UPDATE meter.collector SET until = now(), newest_stored_at = now() - interval '20 seconds'
WHERE id = 'three';
UPDATE meter.contract SET participant_limit = 100000, month_minute_limit = NULL;
DELETE FROM meter.session WHERE tenant_id = (SELECT id FROM meter.tenant WHERE name = 'unassigned')
    AND (ended_at IS NULL OR ended_at > now() - interval '2 hours');
-- On the first day of a month, nothing may have been used yet. The present minute is in no rollup.
INSERT INTO meter.sample (
    ts, tenant_id, server_id, session_id, participants, voice, video, listeners, dialins,
    seconds, breakout, filled
)
SELECT
    date_trunc('minute', now()), t.id, v.id, 1, 1000, 0, 0, 0, 0, 60,
    FALSE, FALSE
FROM meter.tenant AS t, meter.server AS v
WHERE t.name = 'medicine' AND v.name = 'bbb02';
"""
# By rule: what makes it fire, and for whom. What is not named here must stay quiet meanwhile.
SICK = {
    "server-down": (
        """
        UPDATE meter.poll SET ok = FALSE, outcome = 'timeout'
        WHERE
            server_id = (SELECT id FROM meter.server WHERE name = 'bbb02')
            AND ts > now() - interval '1 minute'
        """,
        [{"server": "bbb02"}],
    ),
    "coverage-low": (
        """
        INSERT INTO meter.server (name) VALUES ('bbb09');
        INSERT INTO meter.server_due (server_id, since)
        SELECT id, now() - interval '1 day' FROM meter.server WHERE name = 'bbb09';
        INSERT INTO meter.poll (ts, server_id, ok, outcome, latency_ms, seconds, skipped)
        SELECT date_trunc('second', now()), id, TRUE, 'ok', 50, 60, 0
        FROM meter.server WHERE name = 'bbb09'
        """,
        [{"server": "bbb09"}],
    ),
    "collector-silent": (
        "UPDATE meter.collector SET until = now() - interval '10 minutes' WHERE id = 'three'",
        [{}],
    ),
    "lag": (
        """
        UPDATE meter.collector SET newest_stored_at = now() - interval '6 minutes'
        WHERE id = 'three'
        """,
        [{"collector": "three", "host": "meter2"}],
    ),
    "spool-filling": (
        "UPDATE meter.collector SET spool_bytes = spool_max_bytes / 3 WHERE id = 'three'",
        [{"collector": "three", "host": "meter2"}],
    ),
    "quarantine": (
        "UPDATE meter.collector SET quarantined_batches = 1 WHERE id = 'three'",
        [{"collector": "three", "host": "meter2"}],
    ),
    "rollups-stale": (
        """
        INSERT INTO meter.sample (ts, tenant_id, server_id, session_id, participants, voice, video,
            listeners, dialins, seconds, breakout, filled)
        SELECT
            date_trunc('minute', now() - interval '20 minutes'), tenant_id, server_id,
            session_id, 1, 0, 0, 0, 0, 60, FALSE, FALSE
        FROM meter.session
        ORDER BY started_at DESC LIMIT 1
        ON CONFLICT DO NOTHING;
        -- As if nothing had been computed for a day.
        UPDATE _timescaledb_catalog.continuous_aggs_watermark AS w
        SET watermark = w.watermark - 86400000000
        FROM _timescaledb_catalog.continuous_agg AS a
        WHERE w.mat_hypertable_id = a.mat_hypertable_id AND a.user_view_name LIKE '%1m'
        """,
        [{"rollup": "fleet_1m"}, {"rollup": "usage_1m"}],
    ),
    "fleets-differ": (
        """
        INSERT INTO meter.collector (id, host, since, until, safe_until, interval_s, fleet_hash)
        VALUES
            ('four', 'meter1', now(), now(), now(), 60, 'a'),
            ('five', 'meter2', now(), now(), now(), 60, 'b')
        """,
        [{}],
    ),
    "meetings-on-two-servers": (
        """
        INSERT INTO meter.duplicate_session (
            session_id, started_at, server_id, tenant_id, same_as, other_server_id,
            other_tenant_id, counts, since
        )
        SELECT 1, now(), v.id, t.id, 2, w.id, t.id, FALSE, now()
        FROM meter.server AS v, meter.server AS w, meter.tenant AS t
        WHERE v.name = 'bbb02' AND w.name = 'bbb01' AND t.name = 'medicine'
        """,
        [{"server": "bbb02", "other_server": "bbb01", "counted": "once"}],
    ),
    "tenant-near-limit": (
        """
        UPDATE meter.contract SET month_minute_limit = (
            SELECT participant_minutes / 0.95 FROM meter.month_to_date()
            WHERE tenant = 'medicine'
        )
        WHERE tenant_id = (SELECT id FROM meter.tenant WHERE name = 'medicine')
        """,
        [{"tenant": "medicine", "agreed": "minutes of the month"}],
    ),
    "tenant-over-limit": (
        """
        UPDATE meter.contract SET month_minute_limit = 1
        WHERE tenant_id = (SELECT id FROM meter.tenant WHERE name = 'medicine')
        """,
        [{"tenant": "medicine", "agreed": "minutes of the month"}],
    ),
    "unassigned-meetings": (
        """
        UPDATE meter.session SET
            ended_at = NULL,
            last_seen_at = now(),
            tenant_id = (SELECT id FROM meter.tenant WHERE name = 'unassigned')
        WHERE session_id = (
            SELECT session_id FROM meter.session
            WHERE NOT breakout ORDER BY started_at DESC LIMIT 1
        )
        """,
        [{}],
    ),
    "certificate-expiring": (
        """
        UPDATE meter.server SET tls_expires_at = now() + interval '13 days' WHERE name = 'bbb02'
        """,
        [{"server": "bbb02"}],
    ),
}
# A rule whose reason fires another one as well.
ALSO = {"tenant-over-limit": {"tenant-near-limit"}}


@pytest.fixture
async def well(past: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a fleet that is well; nothing that is done with it stays."""
    connection = await asyncpg.connect(past)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(WELL)
    yield connection
    await transaction.rollback()
    await connection.close()


async def firing(connection: asyncpg.Connection) -> dict[str, list[dict[str, str]]]:
    """Return the rules that fire, as the reader sees it, each with the labels it fires for."""
    await connection.execute("SET LOCAL ROLE bbbmeter_reader")
    now = datetime.now(UTC)
    found = {}
    for uid, rule in RULES.items():
        states = await alerting.evaluate(connection, rule, now)
        if labels := [dict(key) for key, state in states.items() if state == "Alerting"]:
            found[uid] = labels
    return found


async def test_a_fleet_that_is_well_fires_nothing(well: asyncpg.Connection) -> None:
    """No rule fires."""
    assert await firing(well) == {}


@pytest.mark.parametrize("uid", SICK)
async def test_a_rule_fires_for_its_reason_alone(well: asyncpg.Connection, uid: str) -> None:
    """It fires for the sick one, and no other rule does."""
    sql, labels = SICK[uid]
    await well.execute(sql)
    found = await firing(well)
    assert found.pop(uid) == labels
    assert found.keys() == ALSO.get(uid, set())


async def test_a_peak_above_the_limit_fires(well: asyncpg.Connection) -> None:
    """Participants at a time: beside minutes, the other thing that is agreed."""
    row = await well.fetchrow(
        "SELECT peak_participants AS peak, peak_participants_at AS at FROM meter.tenant_ranking("
        "meter.billing_trunc('day', now() - interval '10 days'), meter.billing_trunc('day', now()))"
        " WHERE tenant = 'law'"
    )
    assert row is not None
    # The minutes after the past's highest one, instead of the last hour.
    changed = with_sql(
        RULES["tenant-over-limit"],
        "now() - interval '1 hour', now(), '1 minute'",
        f"'{row['at']}'::timestamptz, '{row['at']}'::timestamptz + interval '9 min', '1 minute'",
    )
    law = (("agreed", "concurrent participants"), ("tenant", "law"))
    for limit, state in ((row["peak"] + 1, "Normal"), (row["peak"] - 1, "Alerting")):
        await well.execute("UPDATE meter.contract SET participant_limit = $1", int(limit))
        assert (await alerting.evaluate(well, changed, datetime.now(UTC)))[law] == state


async def test_a_failed_job_fires(well: asyncpg.Connection) -> None:
    """A job cannot be made to fail in a transaction: its state is put in its place."""
    row = "(VALUES (1, 'refresh', 'usage_1m', '{}'), (2, 'x', 'y', 'Success'), (3, 'x', 'z', NULL))"
    for status, fires in (
        ("Failed", [{"job": "refresh", "number": "1", "relation": "usage_1m"}]),
        ("Success", []),
    ):
        source = row.format(status) + " AS j (job_id, job, relation, status)"
        changed = with_sql(RULES["job-failing"], "meter.job_state()", source)
        states = await alerting.evaluate(well, changed, datetime.now(UTC))
        assert [dict(key) for key, state in states.items() if state == "Alerting"] == fires


def with_sql(rule: Json, old: str, new: str) -> Json:
    """Return a rule whose query has `new` where it had `old`."""
    query, *rest = rule["data"]
    sql = query["model"]["rawSql"]
    assert old in sql
    return {
        **rule,
        "data": [{**query, "model": {**query["model"], "rawSql": sql.replace(old, new)}}, *rest],
    }


def test_each_rule_has_a_runbook() -> None:
    """And there is no runbook for a rule that there is not."""
    pages = {path.stem: path.read_text() for path in (ROOT / "docs/runbooks").glob("*.md")}
    assert pages.keys() == RULES.keys()
    for uid, rule in RULES.items():
        assert rule["annotations"]["runbook"] == f"docs/runbooks/{uid}.md"
        assert pages[uid].startswith(f"# {rule['title']}\n")
        assert "\n1. " in pages[uid]


def test_what_is_provisioned_is_what_the_code_gives() -> None:
    """The file that Grafana reads; each rule as Grafana requires it."""
    path = ROOT / "grafana/provisioning/alerting/bbbmeter.yaml"
    provisioned = yaml.safe_load(path.read_text())
    assert provisioned == alerts.provisioning()
    [group] = provisioned["groups"]
    assert len({rule["uid"] for rule in group["rules"]}) == len(alerts.ALERTS) == 14
    for rule in group["rules"]:
        refs = [part["refId"] for part in rule["data"]]
        assert rule["condition"] == refs[-1]
        assert len(rule["data"][-1]["model"]["conditions"]) == 1
        assert rule["annotations"]["summary"]
        assert len(rule["uid"]) <= 40
