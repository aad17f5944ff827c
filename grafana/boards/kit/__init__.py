"""What the dashboards are made of, for `from grafana.boards import kit`.

- `sql`: the data source, the time range, a query
- `columns`: colours, thresholds, and how a column of a table looks
- `panels`: the kinds of panels
- `variables`: what people choose at the top, and the marks on time axes
- `board`: a whole dashboard
"""

from grafana.boards.kit.board import board
from grafana.boards.kit.columns import (
    BLUE,
    COLORED,
    COVERAGE,
    GREEN,
    GREY,
    METERED,
    NONE_IS_GOOD,
    ORANGE,
    POINTS,
    PURPLE,
    RED,
    SESSION_COLUMNS,
    SPAN,
    USE,
    YELLOW,
    Column,
    hidden,
    mapped,
)
from grafana.boards.kit.panels import (
    Bars,
    Heat,
    Series,
    Stat,
    States,
    Table,
    bars,
    heat,
    number,
    rows,
    series,
    states,
    word,
)
from grafana.boards.kit.sql import EDGES, FROM, REPORT, SESSIONS_KEPT, SINCE, STEP, STEPS, TO
from grafana.boards.kit.variables import TENANTS, choice, entry, servers, tenants

__all__ = [
    "BLUE",
    "COLORED",
    "COVERAGE",
    "EDGES",
    "FROM",
    "GREEN",
    "GREY",
    "METERED",
    "NONE_IS_GOOD",
    "ORANGE",
    "POINTS",
    "PURPLE",
    "RED",
    "REPORT",
    "SESSIONS_KEPT",
    "SESSION_COLUMNS",
    "SINCE",
    "SPAN",
    "STEP",
    "STEPS",
    "TENANTS",
    "TO",
    "USE",
    "YELLOW",
    "Bars",
    "Column",
    "Heat",
    "Series",
    "Stat",
    "States",
    "Table",
    "bars",
    "board",
    "choice",
    "entry",
    "heat",
    "hidden",
    "mapped",
    "number",
    "rows",
    "series",
    "servers",
    "states",
    "tenants",
    "word",
]
