"""Output of reports: tables for a terminal, CSV and JSON."""

import csv
import io
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from collector.reports.figures import FIGURES, Figure
from collector.reports.usage import GROUP_KEYS, Request

# Width of the wider table in characters, and of the column for the grouping (such as room).
REPORT_WIDTH = 130
ROOM_WIDTH = 40
_UNKNOWN = "-"


def as_json(rows: list[dict[str, Any]], zone: ZoneInfo) -> str:
    """Return the rows as a JSON list of objects; instants are ISO 8601 in `zone`."""
    return json.dumps([{k: _plain(k, v, zone) for k, v in row.items()} for row in rows], indent=2)


def as_csv(rows: list[dict[str, Any]], zone: ZoneInfo) -> str:
    """Return the rows as CSV with a header. Unknown figures are empty."""
    out = io.StringIO()
    header = list(rows[0]) if rows else ["tenant", *(figure.name for figure in FIGURES)]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        values = (_plain(key, value, zone) for key, value in row.items())
        writer.writerow(["" if value is None else _unformula(value) for value in values])
    return out.getvalue()


def as_tables(
    rows: list[dict[str, Any]], request: Request, zone: ZoneInfo, calculation_version: int
) -> Group:
    """Return the rows as tables for a terminal, with the period and an explanation of terms.

    `calculation_version` is the version of the rules by which the figures were computed.
    """
    shown = "%Y-%m-%d %H:%M"
    period = (
        f"from {request.since.astimezone(zone):{shown}} "
        f"to {request.until.astimezone(zone):{shown}} ({zone.key})"
    )
    usage = [figure for figure in FIGURES if figure.table == "usage"]
    sessions = [figure for figure in FIGURES if figure.table == "sessions"]
    return Group(
        _table(f"Usage {period}", rows, request, usage, zone),
        _table("Sessions", rows, request, sessions, zone),
        Text(
            "coverage: share of due polls that succeeded, times that of sessions seen · "
            f"filled: share of the session\ntime that was interpolated · {_UNKNOWN} unknown · "
            "lengths in minutes · "
            f"calculation {calculation_version}",
            style="dim",
        ),
    )


def _table(
    title: str,
    rows: list[dict[str, Any]],
    request: Request,
    figures: Sequence[Figure],
    zone: ZoneInfo,
) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    groups = GROUP_KEYS.get(request.by or "", ("tenant",))
    for key in groups:
        table.add_column(key, overflow="fold")
    for figure in figures:
        table.add_column(figure.heading, justify="right", no_wrap=True)
    for row in rows:
        cells: list[str | Text] = [_group_text(key, row[key], zone) for key in groups]
        cells += [_text(row[figure.name], figure.format, zone) for figure in figures]
        table.add_row(*cells)
    return table


def _group_text(key: str, value: object, zone: ZoneInfo) -> Text:
    """Return a cell as plain text: clients choose room ids, and rich would read `[` as markup."""
    return Text(_UNKNOWN if value is None else str(_plain(key, value, zone)))


def _text(value: object, form: str, zone: ZoneInfo) -> str:
    if value is None:
        return _UNKNOWN
    if isinstance(value, datetime):
        return f"{value.astimezone(zone):%m-%d %H:%M}"
    return format(value, form)


def _plain(key: str, value: object, zone: ZoneInfo) -> object:
    """Return a value for JSON and CSV: days as 2026-02-01, months as 2026-02, times in ISO 8601."""
    if isinstance(value, datetime):
        local = value.astimezone(zone)
        if key == "day":
            return f"{local:%Y-%m-%d}"
        return f"{local:%Y-%m}" if key == "month" else local.isoformat()
    return round(value, 6) if isinstance(value, float) else value


def _unformula(value: object) -> object:
    """Quote a text that a spreadsheet would run as a formula, as clients choose room ids."""
    if isinstance(value, str) and value[:1] in "=+-@\t\r":
        return f"'{value}"
    return value
