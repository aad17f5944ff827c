"""What the dashboards are made of: queries, panels, columns, variables, annotations.

Every panel has a title, a description (what the figure means, what to do when it is odd) and a
unit. Sizes are in Grafana's grid: 24 columns, rows of 30 pixels.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import dedent
from typing import Any, TypeVar

from grafana_foundation_sdk.builders import (
    barchart,
    common,
    dashboard,
    heatmap,
    stat,
    statetimeline,
    table,
    text,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmap_models

from grafana.boards import places

PLUGIN = "grafana-postgresql-datasource"
# A variable, so that the dashboards can be imported beside any data source.
SOURCE = common_models.DataSourceRef(type_val=PLUGIN, uid="${datasource}")

# What the queries are put together from: the time range, and the step that fits the width.
FROM = "$__timeFrom()::timestamptz"
TO = "$__timeTo()::timestamptz"
STEP = "'$__interval'::interval"
# A report needs whole minutes, and, where minutes are no longer kept, whole hours or days.
REPORT = f"meter.report_edge({FROM}, {TO} - {FROM}), meter.report_edge({TO}, {TO} - {FROM})"

GREEN, YELLOW, ORANGE, RED, BLUE, PURPLE = "green", "yellow", "orange", "red", "blue", "purple"
GREY = "#8e8e8e"
# A share of 1 that should be all of it.
COVERAGE = ((None, RED), (0.9, ORANGE), (0.98, YELLOW), (0.995, GREEN))
# A share of 1 that should stay below it.
USE = ((None, GREEN), (0.8, ORANGE), (1.0, RED))
NONE_IS_GOOD = ((None, GREEN), (1.0, RED))

Steps = Sequence[tuple[float | None, str]]
Panel = TypeVar(
    "Panel",
    barchart.Panel,
    heatmap.Panel,
    stat.Panel,
    statetimeline.Panel,
    table.Panel,
    timeseries.Panel,
)


Bars = barchart.Panel
Heat = heatmap.Panel
Series = timeseries.Panel
Stat = stat.Panel
States = statetimeline.Panel
Table = table.Panel


@dataclass
class Sql(Dataquery):
    """A query for the PostgreSQL data source."""

    sql: str
    format: str = "time_series"
    ref_id: str = "A"

    def to_json(self) -> dict[str, object]:
        """Return it as the data source expects it."""
        return {
            "refId": self.ref_id,
            "datasource": SOURCE.to_json(),
            "rawSql": dedent(self.sql).strip(),
            "format": self.format,
            "editorMode": "code",
            "rawQuery": True,
        }


@dataclass
class Column:
    """How a column of a table, or a series of a chart, is shown."""

    name: str
    unit: str | None = None
    decimals: int | None = None
    width: int | None = None
    link: dict[str, object] | None = None
    color: str | None = None
    steps: Steps | None = None
    gauge: bool = False
    mappings: list[dict[str, object]] = field(default_factory=list)
    more: dict[str, object] = field(default_factory=dict)

    def properties(self) -> list[models.DynamicConfigValue]:
        """Return it as the properties of an override."""
        values: dict[str, object] = {}
        if self.unit:
            values["unit"] = self.unit
        if self.decimals is not None:
            values["decimals"] = self.decimals
        if self.width:
            values["custom.width"] = self.width
        if self.link:
            values["links"] = [self.link]
        if self.color:
            values["color"] = {"mode": "fixed", "fixedColor": self.color}
        if self.steps:
            values["thresholds"] = thresholds(self.steps).build().to_json()
            values["custom.cellOptions"] = {"type": "color-text"}
        if self.gauge:
            values |= {"min": 0, "max": 1}
            values["custom.cellOptions"] = {
                "type": "gauge",
                "mode": "basic",
                "valueDisplayMode": "text",
            }
        if self.mappings:
            values["mappings"] = self.mappings
        return [models.DynamicConfigValue(k, v) for k, v in (values | self.more).items()]


def mapped(value: str, shown: str, color: str | None = None) -> dict[str, object]:
    """Return a mapping of one value to what is shown instead."""
    result: dict[str, object] = {"text": shown, "index": 0}
    if color:
        result["color"] = color
    return {"type": "value", "options": {value: result}}


# A cell whose text has the column's colour.
COLORED: dict[str, object] = {"custom.cellOptions": {"type": "color-text"}}
# A series of separate points: no line claims what was between them.
POINTS: dict[str, object] = {"custom.drawStyle": "points", "custom.pointSize": 7}


def hidden(name: str) -> Column:
    """Return a column that is there for links only."""
    return Column(name, more={"custom.hideFrom": {"viz": True, "legend": True, "tooltip": True}})


# For the links of a list of sessions: five minutes around each, as milliseconds.
SPAN = """
            floor(extract(EPOCH FROM started_at - interval '5 minutes') * 1000) AS "from_ms",
            ceil(extract(
                EPOCH FROM coalesce(ended_at, now()) + interval '5 minutes'
            ) * 1000) AS "to_ms",""".strip()

SESSION_COLUMNS = (
    hidden("session"),
    hidden("from_ms"),
    hidden("to_ms"),
    Column(
        "began",
        unit="dateTimeAsIso",
        width=175,
        more={
            "links": [
                places.link("Session", places.SESSION, session="session"),
                {
                    "title": "Session, from its beginning to its end",
                    "url": f"/d/{places.SESSION}?var-session="
                    '${__data.fields["session"]:percentencode}'
                    '&from=${__data.fields["from_ms"].numeric}&to=${__data.fields["to_ms"].numeric}',
                },
            ]
        },
    ),
    Column("ended", unit="dateTimeAsIso", width=175),
    Column("mean", decimals=1),
    Column("filled", unit="percentunit", decimals=2),
)


def thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    """Return thresholds: from each value on, a colour; None is from the least on."""
    return (
        dashboard.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value=value, color=color) for value, color in steps])
    )


def _panel(
    panel: Panel,
    title: str,
    description: str,
    unit: str,
    queries: Iterable[Sql],
    size: tuple[int, int],
) -> Panel:
    panel = (
        panel.title(title)
        .description(" ".join(description.split()))
        .unit(unit)
        .datasource(SOURCE)
        .span(size[0])
        .height(size[1])
    )
    for number, query in enumerate(queries):
        query.ref_id = "ABCDEFGH"[number]
        panel = panel.with_target(_Ready(query))
    return panel


class _Ready(Builder[Dataquery]):
    """A query where the SDK wants the builder of one."""

    def __init__(self, query: Sql) -> None:
        self._query = query

    def build(self) -> Dataquery:
        return self._query


def number(
    title: str,
    description: str,
    sql: str,
    *,
    unit: str = "locale",
    decimals: int | None = None,
    steps: Steps = ((None, BLUE),),
    size: tuple[int, int] = (4, 4),
    no_value: str = "unknown",
) -> stat.Panel:
    """Return one figure: the last value of the query's only numeric column."""
    panel = (
        _panel(stat.Panel(), title, description, unit, [Sql(sql, "table")], size)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
        .thresholds(thresholds(steps))
        .color_scheme(_scheme("thresholds"))
        .color_mode(common_models.BigValueColorMode.VALUE)
        .graph_mode(common_models.BigValueGraphMode.NONE)
        .no_value(no_value)
    )
    return panel if decimals is None else panel.decimals(decimals)


def word(
    title: str, description: str, sql: str, *, size: tuple[int, int] = (4, 4), unit: str = "none"
) -> stat.Panel:
    """Return one text or instant: the last value of the query's only column."""
    return (
        _panel(stat.Panel(), title, description, unit, [Sql(sql, "table")], size)
        .reduce_options(
            common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields("/.*/")
        )
        .thresholds(thresholds(((None, "text"),)))
        .color_scheme(_scheme("thresholds"))
        .color_mode(common_models.BigValueColorMode.VALUE)
        .graph_mode(common_models.BigValueGraphMode.NONE)
        .no_value("unknown")
    )


def _scheme(mode: str) -> dashboard.FieldColor:
    return dashboard.FieldColor().mode(models.FieldColorModeId(mode))


def series(
    title: str,
    description: str,
    *queries: str,
    unit: str = "locale",
    decimals: int | None = None,
    size: tuple[int, int] = (12, 8),
    stacked: bool = False,
    bars: bool = False,
    columns: Iterable[Column] = (),
    legend: Sequence[str] = (),
    maximum: float | None = None,
    points: int = 600,
) -> timeseries.Panel:
    """Return a chart over time. A step in which nothing was seen is a gap, not zero.

    `legend` names what the legend, then a table, says of each series: mean, max, lastNotNull. Of
    each series `points` points are asked for at most.
    """
    panel = (
        _panel(timeseries.Panel(), title, description, unit, map(Sql, queries), size)
        .max_data_points(points)
        .min(0)
        .line_width(1)
        .fill_opacity(80 if bars else 25 if stacked else 10)
        .span_nulls(False)
        .show_points(common_models.VisibilityMode.AUTO)
        .draw_style(
            common_models.GraphDrawStyle.BARS if bars else common_models.GraphDrawStyle.LINE
        )
        .color_scheme(_scheme("palette-classic"))
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_models.TooltipDisplayMode.MULTI)
            .sort(common_models.SortOrder.DESCENDING)
        )
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(
                common_models.LegendDisplayMode.TABLE
                if legend
                else common_models.LegendDisplayMode.LIST
            )
            .placement(
                common_models.LegendPlacement.RIGHT
                if legend
                else common_models.LegendPlacement.BOTTOM
            )
            .calcs(list(legend))
        )
    )
    if stacked:
        panel = panel.stacking(
            common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A")
        )
    if decimals is not None:
        panel = panel.decimals(decimals)
    if maximum is not None:
        panel = panel.max(maximum)
    return _shown(panel, columns)


def rows(
    title: str,
    description: str,
    sql: str,
    *,
    unit: str = "locale",
    decimals: int | None = None,
    size: tuple[int, int] = (24, 9),
    columns: Iterable[Column] = (),
    sort: str | None = None,
    descending: bool = True,
) -> table.Panel:
    """Return a table; `sort` is the column it is sorted by, else the query's order holds."""
    panel = (
        _panel(table.Panel(), title, description, unit, [Sql(sql, "table")], size)
        .thresholds(thresholds(((None, "text"),)))
        .color_scheme(_scheme("thresholds"))
        .cell_height(common_models.TableCellHeight.SM)
        .show_header(True)
    )
    if decimals is not None:
        panel = panel.decimals(decimals)
    if sort:
        panel = panel.sort_by([common.TableSortByFieldState().display_name(sort).desc(descending)])
    return _shown(panel, columns)


def bars(
    title: str,
    description: str,
    sql: str,
    *,
    x: str,
    unit: str = "locale",
    size: tuple[int, int] = (8, 8),
    columns: Iterable[Column] = (),
    horizontal: bool = False,
) -> barchart.Panel:
    """Return bars by the text column `x`."""
    panel = (
        _panel(barchart.Panel(), title, description, unit, [Sql(sql, "table")], size)
        .x_field(x)
        .min(0)
        .orientation(
            common_models.VizOrientation.HORIZONTAL
            if horizontal
            else common_models.VizOrientation.VERTICAL
        )
        .show_value(common_models.VisibilityMode.AUTO)
        .fill_opacity(80)
        .color_scheme(_scheme("palette-classic"))
        .legend(
            common.VizLegendOptions()
            .show_legend(False)
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
            .calcs([])
        )
        .tooltip(common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.SINGLE))
    )
    return _shown(panel, columns)


def heat(
    title: str,
    description: str,
    sql: str,
    *,
    unit: str = "locale",
    size: tuple[int, int] = (12, 8),
    y_unit: str = "short",
) -> heatmap.Panel:
    """Return a heat map: one column a class, named by its number."""
    return (
        _panel(heatmap.Panel(), title, description, unit, [Sql(sql)], size)
        .max_data_points(240)
        .calculate(False)
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heatmap_models.HeatmapColorMode.SCHEME)
            .scheme("Oranges")
            .steps(32)
            .reverse(False)
        )
        .cell_gap(1)
        .y_axis(heatmap.YAxisConfig().unit(y_unit))
        .show_legend()
        .tooltip(
            heatmap.HeatmapTooltip()
            .mode(common_models.TooltipDisplayMode.SINGLE)
            .y_histogram(False)
        )
    )


def states(
    title: str,
    description: str,
    sql: str,
    *,
    unit: str,
    steps: Steps,
    size: tuple[int, int] = (24, 8),
    mappings: Iterable[Mapping[str, object]] = (),
) -> statetimeline.Panel:
    """Return a timeline for each series, coloured by its value."""
    return (
        _panel(statetimeline.Panel(), title, description, unit, [Sql(sql)], size)
        .max_data_points(150)
        .thresholds(thresholds(steps))
        .color_scheme(_scheme("thresholds"))
        .mappings([models.ValueMap.from_json(dict(mapping)) for mapping in mappings])
        .show_value(common_models.VisibilityMode.NEVER)
        .merge_values(False)
        .row_height(0.9)
        .fill_opacity(80)
        .line_width(0)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
            .calcs([])
        )
    )


def note(markdown: str, *, size: tuple[int, int] = (24, 2)) -> text.Panel:
    """Return a text for people."""
    return (
        text.Panel()
        .title("")
        .transparent(True)
        .content(dedent(markdown).strip())
        .span(size[0])
        .height(size[1])
    )


def _shown(panel: Panel, columns: Iterable[Column]) -> Panel:
    for column in columns:
        panel = panel.override_by_name(column.name, column.properties())
    return panel


def choice(
    name: str, label: str, sql: str, *, multi: bool = False, sort: int = 1
) -> dashboard.QueryVariable:
    """Return a variable whose values a query gives; `multi` lets choose several, or all."""
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
    """Return a variable that is typed in, or filled by a link."""
    return dashboard.TextBoxVariable(name).label(label).default_value("")


def tenants() -> dashboard.QueryVariable:
    """Return the choice of tenants by their titles; several, or all."""
    return choice("tenant", "Tenant", TENANTS, multi=True)


TENANTS = """
    SELECT name AS __value, coalesce(nullif(title, ''), name) AS __text
    FROM meter.tenant
    ORDER BY 2
"""


def servers() -> dashboard.QueryVariable:
    """Return the choice of servers; several, or all."""
    return choice("server", "Server", "SELECT name FROM meter.server ORDER BY 1", multi=True)


def _event(name: str, color: str, sql: str) -> dashboard.AnnotationQuery:
    return (
        dashboard.AnnotationQuery()
        .name(name)
        .datasource(SOURCE)
        .enable(True)
        .icon_color(color)
        .target(_Ready(Sql(sql, "table")))
    )


def outages() -> dashboard.AnnotationQuery:
    """Return the times in which servers were away."""
    return _event(
        "Server outages",
        RED,
        f"""
        SELECT
            down_since AS time,
            down_until AS timeend,
            server || ' did not answer' || coalesce(': ' || error, '') AS text,
            'outage,' || server AS tags
        FROM meter.outages({FROM}, {TO})
        """,
    )


def restarts() -> dashboard.AnnotationQuery:
    """Return when collectors came, and when they were gone without another one."""
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
    """Return a dashboard of sections: a heading (or None) and panels, laid out in their order."""
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
