"""Figures of tenants, as in reports."""

from collections.abc import Callable, Mapping
from typing import Any

from tests.grafana.figures.charts import concurrency
from tests.grafana.figures.view import View, wide
from tests.grafana.truth import (
    DAY,
    Rows,
    local_day,
    ms,
)
from tests.support.reports import BERLIN
from tests.support.short_past import (
    HOURS,
    TENANTS,
    at,
)


def tenant_rows(view: View) -> dict[str, dict[str, Any]]:
    """Return the report of the time range."""
    return view.truth.report(*view.edges)


def total(column: str, of: Callable[[list[Any]], Any] = sum) -> Callable[[View], Rows]:
    """Return a figure of all tenants together."""

    def rows(view: View) -> Rows:
        known = [row[column] for row in tenant_rows(view).values() if row[column] is not None]
        return [{view.title: of(known) if known else None}]

    return rows


def fleet_peak(view: View) -> Rows:
    """Return the highest minute of all tenants together."""
    lo, hi = view.edges
    truth = view.truth
    first = max(lo, truth.past.spans[0][0])
    if first < truth.now - HOURS * DAY or not truth.coverage(lo, hi):
        return [{view.title: None}]
    return [{view.title: truth.peak("", lo, hi)[0]}]


def over(view: View) -> Rows:
    """Return the times over the limits of all tenants."""
    return view.truth.over_limit(*view.edges, TENANTS)


def ranking(view: View) -> Rows:
    """Return the table of tenants."""
    lo, hi = view.edges
    report = tenant_rows(view)
    total = sum(row["participant minutes"] or 0 for row in report.values())
    rows = []
    for tenant, row in report.items():
        used = row["participant minutes"]
        use = view.truth.peak_use(tenant, lo, hi)
        rows.append(
            {key: value for key, value in row.items() if key != "of them moderators"}
            | {
                "name": tenant,
                "tenant": TENANTS[tenant] or tenant,
                "share": None if used is None or not total else used / total,
                "limit": view.truth.limit(tenant, hi - 1),
                "use of limit": None if row["peak"] is None else use,
            }
        )
    return sorted(rows, key=lambda r: (-(r["participant minutes"] or -1), r["name"]))


def month(view: View) -> Rows:
    """Return the table of the month up to the end of the time range."""
    _, hi = view.edges
    day = at(hi - 1).astimezone(BERLIN).date()
    since = local_day(hi - 1, 1 - day.day)
    before = at(since - 1).astimezone(BERLIN).date()
    before_since = local_day(since - 1, 1 - before.day)
    so_far = view.truth.report(since, hi)
    last = view.truth.report(before_since, since)
    rows = []
    for tenant, row in so_far.items():
        agreed = next(
            (c[4] for c in view.truth.past.contracts if c[0] == tenant and c[1] < hi <= c[2]), None
        )
        used = row["participant minutes"]
        rows.append(
            {
                "name": tenant,
                "tenant": TENANTS[tenant] or tenant,
                "minutes so far": used,
                "last month": last[tenant]["participant minutes"],
                "last month metered": last[tenant]["metered"],
                "agreed": agreed,
                "use": None if agreed is None or used is None else used / agreed,
                "coverage": row["coverage"],
            }
        )
    return sorted(rows, key=lambda r: (-(r["minutes so far"] or -1), r["name"]))


def stacked(view: View) -> Rows:
    """Return the mean participants of each tenant in steps."""
    cells = {
        (int(row["Time"]) // 1000, tenant): row["mean"]
        for tenant in TENANTS
        for row in concurrency(view, tenant)
    }
    return wide(cells)


def of_tenant(column: str) -> Callable[[View], Rows]:
    """Return a figure of the chosen tenant."""
    return lambda view: [{view.title: tenant_rows(view)[view.chosen("tenant")][column]}]


def days(view: View, columns: Mapping[str, str]) -> Rows:
    """Return figures of the chosen tenant by day."""
    lo, hi = view.edges
    rows = []
    day = local_day(lo)
    while day < hi:
        end = local_day(day, 1)
        row = view.truth.report(max(day, lo), min(end, hi))[view.chosen("tenant")]
        rows.append({"Time": ms(day)} | {name: row[of] for name, of in columns.items()})
        day = end
    return rows
