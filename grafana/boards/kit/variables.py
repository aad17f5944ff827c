"""What people choose at the top of a dashboard, and the marks on the time axes of all panels."""

from textwrap import dedent

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as models

from grafana.boards.kit.columns import BLUE, RED
from grafana.boards.kit.sql import FROM, SOURCE, TO, Ready, Sql


def choice(
    name: str, label: str, sql: str, *, multi: bool = False, sort: int = 1
) -> dashboard.QueryVariable:
    """Return a variable whose values come from a query; `multi` allows several values, or all."""
    builder = (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(dedent(sql).strip())
        .refresh(models.VariableRefresh.ON_DASHBOARD_LOAD)
        .sort(models.VariableSort(sort))
        .multi(multi)
        .include_all(multi)
    )
    if multi:
        builder = builder.current(
            models.VariableOption(selected=True, text=["All"], value=["$__all"])
        )
    return builder


def entry(name: str, label: str) -> dashboard.TextBoxVariable:
    """Return a variable that people type in, or that a link fills in."""
    return dashboard.TextBoxVariable(name).label(label).default_value("")


def tenants() -> dashboard.QueryVariable:
    """Return the choice of tenants by their titles: several, or all."""
    return choice("tenant", "Tenant", TENANTS, multi=True)


TENANTS = """
    SELECT name AS __value, coalesce(nullif(title, ''), name) AS __text
    FROM meter.tenant
    ORDER BY 2
"""


def servers() -> dashboard.QueryVariable:
    """Return the choice of servers: several, or all."""
    return choice("server", "Server", "SELECT name FROM meter.server ORDER BY 1", multi=True)


def _event(name: str, color: str, sql: str) -> dashboard.AnnotationQuery:
    return (
        dashboard.AnnotationQuery()
        .name(name)
        .datasource(SOURCE)
        .enable(True)
        .icon_color(color)
        .target(Ready(Sql(sql, "table")))
    )


def outages() -> dashboard.AnnotationQuery:
    """Return the marks of the times in which servers did not answer."""
    return _event(
        "Server outages",
        RED,
        f"""
        SELECT
            down_since AS time,
            down_until AS timeend,
            'Polls of ' || server || ' failed' || coalesce(': ' || outcome, '') AS text,
            'outage,' || server AS tags
        FROM meter.outages({FROM}, {TO})
        """,
    )


def restarts() -> dashboard.AnnotationQuery:
    """Return the marks of the instants at which collectors started."""
    return _event(
        "Collector restarts",
        BLUE,
        f"""
        SELECT
            since AS time,
            'Collector started on ' || host AS text,
            'collector' AS tags
        FROM meter.collector
        WHERE since >= {FROM} AND since < {TO}
        ORDER BY since
        """,
    )
