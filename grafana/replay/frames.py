"""Turns results of queries into the frames that panels get, by the rules of the data source."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from collector.database import Connection

_TIMES = {"timestamptz", "timestamp", "date"}
_NUMBERS = {"int2", "int4", "int8", "float4", "float8", "numeric"}
_JSON = {"json", "jsonb"}
_MS, _NS = 1_000_000_000_000, 1_000_000_000_000_000_000


class FrameError(Exception):
    """A result cannot be a frame: Grafana would show an error in the panel."""


@dataclass(slots=True)
class Field:
    """A column of a frame: `type` is time, number, string, boolean or other.

    Times are in milliseconds since the epoch.
    """

    name: str
    type: str
    values: list[Any]
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def display(self) -> str:
        """The name that the panel shows: the name, and the label that distinguishes it."""
        if not self.labels:
            return self.name
        if len(self.labels) == 1:
            return f"{self.name} {next(iter(self.labels.values()))}"
        return self.name + json.dumps(self.labels)


@dataclass(slots=True)
class Frame:
    """The result of one query for a panel. `columns` are names and database types.

    Without rows there are no fields.
    """

    fields: list[Field]
    columns: dict[str, str]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.fields[0].values) if self.fields else 0


def kind(of: str) -> str:
    """Return the type of a frame's field (see `Field`) for a type of the database."""
    if of in _TIMES:
        return "time"
    if of in _NUMBERS:
        return "number"
    if of == "bool":
        return "boolean"
    return "other" if of in _JSON else "string"


async def query(connection: Connection, sql: str, form: str) -> Frame:
    """Run a query and return its frame; `form` is `time_series` or `table`.

    Raises FrameError, and asyncpg.PostgresError if the database rejects the query.
    """
    statement = await connection.prepare(sql)
    columns = {a.name: a.type.name for a in statement.get_attributes()}
    if len(columns) != len(statement.get_attributes()):
        message = f"two columns have the same name: {', '.join(columns)}"
        raise FrameError(message)
    rows = await statement.fetch()
    if form == "time_series":
        _check_series(columns)
    if not rows:
        return Frame([], columns)
    values = list(zip(*map(tuple, rows), strict=True))
    pairs = zip(columns.items(), values, strict=True)
    if form == "table":
        return Frame([_field(name, of, column) for (name, of), column in pairs], columns)
    fields = [_series_field(name, of, column) for (name, of), column in pairs]
    return Frame(_wide(fields), columns)


def _check_series(columns: dict[str, str]) -> None:
    if "time" not in columns:
        message = "db has no time column: time column is missing"
        raise FrameError(message)
    if wrong := [name for name, of in columns.items() if of in _JSON]:
        message = f"a series cannot contain JSON: {wrong}"
        raise FrameError(message)


def _field(name: str, of: str, values: Sequence[Any]) -> Field:
    """Return a column of a table."""
    made = kind(of)
    if made == "time":
        return Field(name, made, [_epoch_ms(value) for value in values])
    if made == "number":
        if name == "time" or name.lower() == "timeend":
            return Field(name, "time", [_numeric_time(value) for value in values])
        return Field(name, made, [None if v is None else _number(v) for v in values])
    if made == "string":
        return Field(name, made, [None if value is None else str(value) for value in values])
    return Field(name, made, list(values))


def _series_field(name: str, of: str, values: Sequence[Any]) -> Field:
    """Return a column of a series: everything except the time and texts becomes a number."""
    made = _field(name, of, values)
    if name == "time":
        if made.type != "time" or None in made.values:
            message = "the column time is not a time, or contains null"
            raise FrameError(message)
        return Field("Time", "time", made.values)
    if made.type in {"boolean", "time"}:
        return Field(name, "number", [None if v is None else float(v) for v in made.values])
    return made


def _wide(fields: list[Field]) -> list[Field]:
    """Return one field for each series: from long to wide, with texts as labels.

    If there are three columns, and the text is called `metric`, the text is the series' name.
    """
    time = next(f for f in fields if f.name == "Time")
    texts = [f for f in fields if f.type == "string"]
    values = [f for f in fields if f.type == "number"]
    if not texts or not values:
        return fields
    if any(a > b for a, b in zip(time.values, time.values[1:], strict=False)):
        message = "a series with labels is not ordered by time"
        raise FrameError(message)
    place = {at: n for n, at in enumerate(dict.fromkeys(time.values))}
    series: dict[tuple[Any, ...], Field] = {}
    for row, at in enumerate(time.values):
        labels = {text.name: text.values[row] or "" for text in texts}
        for value in values:
            key = (value.name, *labels.values())
            if key not in series:
                series[key] = Field(value.name, "number", [None] * len(place), labels)
            series[key].values[place[at]] = value.values[row]
    made = sorted(series.values(), key=lambda f: (f.name, *f.labels.values()))
    if len(fields) == 3 and texts[0].name == "metric":  # noqa: PLR2004 - time, metric, value
        made = [Field(f.labels["metric"], f.type, f.values) for f in made]
    return [Field("Time", "time", list(place)), *made]


def _number(value: Any) -> int | float:  # noqa: ANN401 - any of the database's numbers
    return value if isinstance(value, int) else float(value)


def _numeric_time(value: Any) -> float | None:  # noqa: ANN401
    if value is None:
        return None
    number = float(value)
    if number >= _NS:
        return number / 1_000_000
    return number if number >= _MS else number * 1000


def _epoch_ms(value: Any) -> float | None:  # noqa: ANN401 - a date or an instant
    if value is None:
        return None
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if value.tzinfo is None:  # the data source reads it as UTC
        value = value.replace(tzinfo=UTC)
    return float(value.timestamp() * 1000)
