"""Every query of every dashboard and alert rule on a database in which nothing was ever stored."""

import json
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from grafana import alerts, generate
from grafana.replay import alerting, board, checks
from grafana.replay.board import Screen
from grafana.replay.macros import TimeRange

SPANS = [timedelta(hours=1), timedelta(hours=24), timedelta(days=30), timedelta(days=365)]
DASHBOARDS = [text for path, text in generate.files().items() if path.suffix == ".json"]


async def test_queries_fit_their_panels(pool: asyncpg.Pool) -> None:
    """In all ranges, with variables that offer nothing."""
    until = datetime.now(UTC)
    async with pool.acquire() as reader:
        await reader.execute("SET ROLE bbbmeter_reader")
        for text in DASHBOARDS:
            for span in SPANS:
                shown = Screen(json.loads(text), TimeRange(until - span, until))
                await shown.choose(reader)
                for panel in board.panels(shown.board):
                    frames = [await board.run(reader, one) for one in shown.statements(panel)]
                    assert list(checks.panel_faults(panel, frames)) == [], panel["title"]
                for one in shown.annotations():
                    assert list(checks.annotation_faults(await board.run(reader, one))) == []


@pytest.mark.parametrize("alert", alerts.ALERTS, ids=lambda alert: alert.uid)
async def test_only_silence_fires(pool: asyncpg.Pool, alert: alerts.Alert) -> None:
    """Where nothing is, no rule is broken, but that no collector lives."""
    async with pool.acquire() as reader:
        await reader.execute("SET ROLE bbbmeter_reader")
        states = await alerting.evaluate(reader, alert.rule(), datetime.now(UTC))
    fires = "Alerting" in states.values()
    assert fires == (alert.uid == "collector-silent")
