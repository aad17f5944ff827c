"""Every alert rule, evaluated as Grafana does: on what must fire, and on what must not."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest
import yaml

from grafana import alerts
from grafana.replay import alerting

ROOT = Path(__file__).parents[2]
RULES = {alert.uid: alert.rule() for alert in alerts.ALERTS}

# A fleet that is well, now: each server answers, the collector lives, and so on.
WELL = """
INSERT INTO meter.poll (ts, server_id, ok, latency_ms, seconds, skipped, sessions, participants,
    voice, video, listeners, dialins, breakouts)
SELECT date_trunc('second', now()), v.id, TRUE, 50, 60, 0, 0, 0, 0, 0, 0, 0, 0
FROM meter.server AS v ON CONFLICT DO NOTHING;
UPDATE meter.server SET tls_expires_at = now() + interval '60 days';
UPDATE meter.collector SET until = now(), newest_stored_at = now() - interval '20 seconds'
WHERE id = 'three';
UPDATE meter.contract SET max_participants = 100000, month_minutes = NULL;
DELETE FROM meter.session WHERE tenant_id = (SELECT id FROM meter.tenant WHERE name = 'unassigned')
    AND (ended_at IS NULL OR ended_at > now() - interval '2 hours');
"""
SERVER = "(SELECT id FROM meter.server WHERE name = 'bbb02')"
# By rule: what makes it fire, and for whom. What is not named here must stay quiet meanwhile.
SICK = {
    "server-down": (
        f"UPDATE meter.poll SET ok = FALSE, error = 'timeout' "
        f"WHERE server_id = {SERVER} AND ts > now() - interval '1 minute'",
        [{"server": "bbb02"}],
    ),
    "coverage-low": (
        f"UPDATE meter.poll SET ok = FALSE, error = 'timeout' WHERE server_id = {SERVER} "
        f"AND ts BETWEEN now() - interval '4 hours' AND now() - interval '2 hours'",
        [{"server": "bbb02"}],
    ),
    "collector-silent": (
        "UPDATE meter.collector SET until = now() - interval '10 minutes' WHERE id = 'three'",
        [{}],
    ),
    "lag": (
        "UPDATE meter.collector SET newest_stored_at = now() - interval '6 minutes' "
        "WHERE id = 'three'",
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
    "tenant-near-limit": (
        "UPDATE meter.contract SET month_minutes = (SELECT participant_minutes / 0.95 "
        "FROM meter.month_to_date() WHERE tenant = 'medicine') WHERE tenant_id = "
        "(SELECT id FROM meter.tenant WHERE name = 'medicine')",
        [{"tenant": "medicine", "agreed": "minutes of the month"}],
    ),
    "tenant-over-limit": (
        "UPDATE meter.contract SET month_minutes = 1 WHERE tenant_id = "
        "(SELECT id FROM meter.tenant WHERE name = 'medicine')",
        [{"tenant": "medicine", "agreed": "minutes of the month"}],
    ),
    "unassigned-meetings": (
        "UPDATE meter.session SET ended_at = NULL, tenant_id = "
        "(SELECT id FROM meter.tenant WHERE name = 'unassigned') "
        "WHERE session_id = (SELECT max(session_id) FROM meter.session WHERE NOT breakout)",
        [{}],
    ),
    "certificate-expiring": (
        f"UPDATE meter.server SET tls_expires_at = now() + interval '13 days' WHERE id = {SERVER}",
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
    """No rule fires, but the two that look at what the made-up past has not: refreshes by jobs."""
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
    tenant, peak = await well.fetchrow(
        "SELECT tenant, peak_participants FROM meter.tenant_ranking("
        "meter.billing_trunc('day', now() - interval '10 days'), meter.billing_trunc('day', now()))"
        " WHERE tenant = 'law'"
    )
    rule = RULES["tenant-over-limit"]
    sql = rule["data"][0]["model"]["rawSql"]
    # The hour of the past's last peak, instead of the last one.
    at = await well.fetchval(
        "SELECT peak_participants_at FROM meter.tenant_ranking(meter.billing_trunc('day', "
        "now() - interval '10 days'), meter.billing_trunc('day', now())) WHERE tenant = $1",
        tenant,
    )
    hour = sql.replace(
        "now() - interval '1 hour', now(), '1 minute'",
        f"'{at}'::timestamptz, '{at}'::timestamptz + interval '10 minutes', '1 minute'",
    )
    assert hour != sql
    for limit, state in ((peak + 1, None), (peak - 1, "Alerting")):
        await well.execute("UPDATE meter.contract SET max_participants = $1", int(limit))
        changed = {**rule, "data": [dict(part) for part in rule["data"]]}
        changed["data"][0]["model"] = {**rule["data"][0]["model"], "rawSql": hour}
        states = await alerting.evaluate(well, changed, datetime.now(UTC))
        of = (("agreed", "participants at a time"), ("tenant", "law"))
        assert (states[of] if state else states.get(of)) == (state or "Normal")


@pytest.mark.parametrize(
    ("uid", "view", "sick", "well_", "labels"),
    [
        (
            "rollups-stale",
            "meter.rollup_freshness()",
            "(VALUES ('usage_1m', TRUE), ('usage_1h', FALSE)) AS r (rollup, is_stale)",
            "(VALUES ('usage_1m', FALSE)) AS r (rollup, is_stale)",
            {"rollup": "usage_1m"},
        ),
        (
            "job-failing",
            "meter.job_state()",
            "(VALUES (1, 'refresh', 'usage_1m', 'Failed'), (2, 'x', 'y', 'Success')) "
            "AS j (job_id, job, relation, status)",
            "(VALUES (1, 'refresh', 'usage_1m', 'Success'), (2, 'x', 'y', NULL)) "
            "AS j (job_id, job, relation, status)",
            {"job": "refresh", "number": "1", "relation": "usage_1m"},
        ),
    ],
)
async def test_rules_on_the_database_itself(
    well: asyncpg.Connection, uid: str, view: str, sick: str, well_: str, labels: dict[str, str]
) -> None:
    """Whose reason cannot be made in a transaction: the query's source is put in its place."""
    rule = RULES[uid]
    for source, fires in ((sick, [labels]), (well_, [])):
        query = rule["data"][0]
        sql = query["model"]["rawSql"].replace(view, source)
        assert sql != query["model"]["rawSql"]
        changed = {
            **rule,
            "data": [{**query, "model": {**query["model"], "rawSql": sql}}, *rule["data"][1:]],
        }
        states = await alerting.evaluate(well, changed, datetime.now(UTC))
        assert [dict(key) for key, state in states.items() if state == "Alerting"] == fires


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
    assert len({rule["uid"] for rule in group["rules"]}) == len(alerts.ALERTS) == 12
    for rule in group["rules"]:
        refs = [part["refId"] for part in rule["data"]]
        assert rule["condition"] == refs[-1]
        assert len(rule["data"][-1]["model"]["conditions"]) == 1
        assert rule["annotations"]["summary"]
        assert len(rule["uid"]) <= 40
