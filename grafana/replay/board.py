"""Runs a dashboard's JSON as Grafana does: variables, each panel's queries, annotations."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import asyncpg

from collector.database import Connection
from grafana.replay import frames, interval, macros, variables
from grafana.replay.frames import Frame
from grafana.replay.macros import TimeRange
from grafana.replay.variables import Value

Json = Mapping[str, Any]

# The width of a dashboard on a usual screen, in pixels. A panel requests one point per pixel.
WIDTH = 1800
COLUMNS = 24


@dataclass(frozen=True, slots=True)
class Statement:
    """A query of a dashboard: of a panel, an annotation or a variable."""

    of: str
    sql: str
    form: str


@dataclass(slots=True)
class Screen:
    """A dashboard as it is shown, with the time range and the values of its variables."""

    board: Json
    shown: TimeRange
    chosen: dict[str, Value] = field(default_factory=dict)
    offered: dict[str, list[str]] = field(default_factory=dict)

    async def choose(self, connection: Connection, **given: Sequence[str]) -> None:
        """Run the variables' queries in order; choose the values `given`, else the default."""
        for variable in self.board["templating"]["list"]:
            name = variable["name"]
            rows: list[Any] = []
            columns: list[str] = []
            if variable["type"] == "query":
                statement = await connection.prepare(self.sql(variable["query"], 60_000))
                columns = [a.name for a in statement.get_attributes()]
                rows = await statement.fetch()
            self.offered[name] = variables.options(columns, rows)
            self.chosen[name] = (
                Value(variable["current"]["value"])
                if variable["type"] == "datasource"
                else variables.chosen(variable, self.offered[name], given.get(name, ()))
            )

    def sql(self, text: str, interval_ms: int) -> str:
        """Return a query as the database gets it."""
        return macros.expand(variables.interpolate(text, self.chosen), self.shown, interval_ms)

    def statements(self, panel: Json) -> list[Statement]:
        """Return the queries of a panel as the database gets them."""
        span: timedelta = self.shown.until - self.shown.since
        points = panel.get("maxDataPoints") or panel["gridPos"]["w"] * WIDTH // COLUMNS
        wanted = interval.interval_ms(span, points, panel.get("interval") or "1m")
        return [
            Statement(
                f"{self.board['title']}, {panel['title']}",
                self.sql(target["rawSql"], wanted),
                target["format"],
            )
            for target in panel.get("targets", ())
        ]

    def annotations(self) -> list[Statement]:
        """Return the queries of the annotations."""
        return [
            Statement(
                f"{self.board['title']}, annotation {annotation['name']}",
                self.sql(annotation["target"]["rawSql"], 60_000),
                annotation["target"]["format"],
            )
            for annotation in self.board["annotations"]["list"]
            if "target" in annotation
        ]

    def all_statements(self) -> list[Statement]:
        """Return the queries of all panels, then those of the annotations."""
        shown = [one for panel in panels(self.board) for one in self.statements(panel)]
        return [*shown, *self.annotations()]


def panels(board: Json) -> Iterator[Json]:
    """Yield the panels of a dashboard, also those in collapsed rows, but not the rows."""
    for panel in board["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", ())
        else:
            yield panel


async def run(connection: Connection, statement: Statement) -> Frame:
    """Run one query.

    Raises FrameError or asyncpg.PostgresError, with a note that names the panel and the query.
    """
    try:
        return await frames.query(connection, statement.sql, statement.form)
    except (frames.FrameError, asyncpg.PostgresError) as error:
        error.add_note(f"{statement.of}:\n{statement.sql}")
        raise
