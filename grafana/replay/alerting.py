"""Evaluates alert rules as Grafana does: query, reduce, threshold, and the state without data."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from collector.database import Connection
from grafana.replay import frames, macros
from grafana.replay.board import Json, Statement
from grafana.replay.frames import FrameError
from grafana.replay.macros import TimeRange

# The labels of a series, sorted: they identify one instance of an alert.
Labels = tuple[tuple[str, str], ...]


def statement(rule: Json, now: datetime) -> Statement:
    """Return the query of a rule as the database gets it."""
    query = next(part for part in rule["data"] if part["refId"] == "A")
    span = query["relativeTimeRange"]
    shown = TimeRange(now - timedelta(seconds=span["from"]), now - timedelta(seconds=span["to"]))
    model = query["model"]
    sql = macros.expand(model["rawSql"], shown, model["intervalMs"])
    return Statement(f"alert {rule['title']}", sql, model["format"])


async def evaluate(connection: Connection, rule: Json, now: datetime) -> Mapping[Labels, str]:
    """Return each instance's state at one evaluation: Normal or Alerting.

    Alerting means that the rule fires if this lasts. Without data there is one instance without
    labels, in the rule's state for missing data. Raises FrameError where Grafana would put the rule
    into the state Error, and asyncpg.PostgresError.
    """
    asked = statement(rule, now)
    frame = await frames.query(connection, asked.sql, asked.form)
    parts = {part["refId"]: part["model"] for part in rule["data"]}
    threshold = parts[rule["condition"]]
    if parts[threshold["expression"]]["reducer"] != "last":
        message = f"rule {rule['title']!r}: only the reducer `last` is supported"
        raise FrameError(message)
    evaluator = threshold["conditions"][0]["evaluator"]
    states: dict[Labels, str] = {}
    for field in frame.fields[1:]:
        numbers = [value for value in field.values if value is not None]
        labels = tuple(sorted(field.labels.items()))
        if labels in states:
            message = f"two series with the labels {labels}"
            raise FrameError(message)
        if numbers:
            states[labels] = "Alerting" if _passed(evaluator, numbers[-1]) else "Normal"
    missing: str = rule["noDataState"]
    return states or {(): "Normal" if missing == "OK" else missing}


def _passed(evaluator: Mapping[str, Any], value: float) -> bool:
    limit: float = evaluator["params"][0]
    return value > limit if evaluator["type"] == "gt" else value < limit
