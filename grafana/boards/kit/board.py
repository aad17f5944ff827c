"""A whole dashboard: its sections, and what all dashboards have in common."""

from collections.abc import Iterable, Sequence
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as models

from grafana.boards import places
from grafana.boards.kit.sql import PLUGIN
from grafana.boards.kit.variables import outages, restarts


def board(
    uid: str,
    title: str,
    description: str,
    *,
    since: str = "now-24h",
    refresh: str = "1m",
    variables: Iterable[Any] = (),
    sections: Iterable[tuple[str | None, Sequence[Any]]],
) -> models.Dashboard:
    """Return a dashboard. A section is a heading (or None) and its panels, shown in their order."""
    builder = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(" ".join(description.split()))
        .tags([places.TAG])
        .editable()
        .time(since, "now")
        .refresh(refresh)
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(places.menu())
        .with_variable(
            dashboard.DatasourceVariable("datasource")
            .label("Data source")
            .type(PLUGIN)
            .current(models.VariableOption(selected=True, text="bbbmeter", value="bbbmeter"))
        )
        .annotation(outages())
        .annotation(restarts())
    )
    for variable in variables:
        builder = builder.with_variable(variable)
    for heading, panels in sections:
        if heading:
            builder = builder.with_row(dashboard.Row(heading))
        for panel in panels:
            builder = builder.with_panel(panel)
    whole = builder.build()
    whole.schema_version = 42
    for number_, panel in enumerate(whole.panels or (), start=1):
        panel.id_val = number_
    return whole
