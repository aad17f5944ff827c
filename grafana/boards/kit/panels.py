"""The kinds of panels. Each has a title, a description, a unit and a size in Grafana's grid.

A description says what the figure means and what to do when it looks wrong. The grid has 24
columns, and rows of 30 pixels.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from grafana_foundation_sdk.builders import (
    barchart,
    common,
    dashboard,
    heatmap,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmap_models

from grafana.boards.kit.columns import BLUE, Column, Steps, thresholds
from grafana.boards.kit.sql import SOURCE, Ready, Sql

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
        panel = panel.with_target(Ready(query))
    return panel


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
    """Return a chart over time. A step without polls is a gap, not zero.

    `legend` names the figures of each series (mean, max, sum, lastNotNull). With any, the legend
    is a table to the right of the chart. `points` is the maximum number of points of a series.
    """
    panel = (
        _panel(timeseries.Panel(), title, description, unit, map(Sql, queries), size)
        .max_data_points(points)
        .min(0)
        .line_width(1)
        .fill_opacity(80 if bars else 25 if stacked else 10)
        .span_nulls(False)
        # The time of a bar is the beginning of its step.
        .bar_alignment(common_models.BarAlignment.AFTER)
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
    """Return a table. `sort` is the column to sort by; without it, the query's order is kept."""
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
    """Return a bar chart with one bar for each row, named by the text column `x`."""
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
    """Return a heat map. The query gives one series for each class, named by the class's number."""
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
    """Return a timeline for each series, whose colour follows the value."""
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


def _shown(panel: Panel, columns: Iterable[Column]) -> Panel:
    for column in columns:
        panel = panel.override_by_name(column.name, column.properties())
    return panel
