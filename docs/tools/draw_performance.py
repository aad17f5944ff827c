"""Draws the plots of docs/performance.md from the benchmarks' JSON: `make performance`."""

import json
import sys
from pathlib import Path
from typing import Any

import pygal
from pygal.style import CleanStyle

IMAGES = Path(__file__).parents[1] / "img"
_STYLE = CleanStyle(
    font_family="sans-serif", background="#ffffff", plot_background="#ffffff", legend_font_size=16
)
_LOOKS: dict[str, Any] = {
    "style": _STYLE,
    "js": (),  # pygal's default is a script from another site
    "logarithmic": True,
    "legend_at_bottom": True,
    "legend_at_bottom_columns": 1,
    "value_formatter": "{:,}".format,
    "x_value_formatter": "{:,}".format,
    "width": 760,
    "height": 420,
}


def draw_history(found: dict[str, Any]) -> None:
    """Draw the duration of reports, by days of history."""
    chart = pygal.XY(
        title="Reports of a month (ms), by days of history", x_title="days of history", **_LOOKS
    )
    history = found["history"]
    for query in history[0]["queries_ms"]:
        chart.add(query, [(one["days"], one["queries_ms"][query]) for one in history])
    chart.x_labels = [one["days"] for one in history]
    chart.y_labels = [1, 10, 100, 1_000, 10_000]
    chart.render_to_file(IMAGES / "performance-history.svg")


def draw_sizes(found: list[dict[str, Any]]) -> None:
    """Draw the CPU time of a tick, by concurrent sessions."""
    chart = pygal.XY(
        title="CPU seconds per tick, by concurrent sessions",
        x_title="concurrent sessions",
        **_LOOKS,
    )
    points = []
    for one in found:
        servers, meetings, _ = map(int, one["fleet"].split("x"))
        points.append((servers * meetings, one["cpu_s_a_tick"]))
    chart.add("one collector", sorted(points))
    chart.x_labels = [100, 1_000, 10_000, 100_000]
    chart.y_labels = [0.01, 0.1, 1, 10]
    chart.render_to_file(IMAGES / "performance-size.svg")


if __name__ == "__main__":
    draw_history(json.loads(Path(sys.argv[1]).read_text()))
    draw_sizes(json.loads(Path(sys.argv[2]).read_text()))
