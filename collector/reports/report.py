"""`bbbmeter report`: what each tenant used, from meter.tenant_report and its relatives."""

import csv
import io
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import MAXYEAR, MINYEAR, datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

import asyncpg
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from collector.database import Connection, translated
from collector.errors import DatabaseError, MigrationError, ReportError

By = Literal["room", "server", "day", "month"]

# The figures of a report, in the order of columns and JSON keys: name, short heading, format.
FIGURES: tuple[tuple[str, str, str], ...] = (
    ("participant_minutes", "participant\nminutes", ",.1f"),
    ("voice_minutes", "voice\nminutes", ",.1f"),
    ("video_minutes", "video\nminutes", ",.1f"),
    ("dialin_minutes", "dial-in\nminutes", ",.1f"),
    ("sessions", "sessions", ",d"),
    ("session_minutes", "session\nminutes", ",.1f"),
    ("avg_session_minutes", "avg\nlength", ",.1f"),
    ("max_session_minutes", "max\nlength", ",.1f"),
    ("avg_session_size", "avg\nsize", ",.1f"),
    ("max_session_size", "max\nsize", ",d"),
    ("large_sessions", "large", ",d"),
    ("peak_participants", "peak\nparticipants", ",.1f"),
    ("peak_participants_at", "peak at", ""),
    ("peak_sessions", "peak\nsessions", ",.1f"),
    ("breakout_minutes", "breakout\nminutes", ",.1f"),
    ("coverage", "coverage", ".2%"),
    ("filled_share", "filled", ".2%"),
)
# Columns of the wider table, and of what its rows are grouped by beside the tenant.
REPORT_WIDTH = 130
ROOM_WIDTH = 40
# A terminal shows the figures in two tables, each as wide as a screen.
_SESSION_FIGURES = {
    "sessions",
    "session_minutes",
    "avg_session_minutes",
    "max_session_minutes",
    "avg_session_size",
    "max_session_size",
    "large_sessions",
}
_GROUP_KEYS: dict[str, tuple[str, ...]] = {
    "room": ("tenant", "room"),
    "server": ("tenant", "server"),
    "day": ("tenant", "day"),
    "month": ("tenant", "month"),
}
_UNKNOWN = "-"
# A reader may not look at the ledger of migrations: this is how it shows that one is missing.
_NO_SCHEMA = (
    asyncpg.InvalidSchemaNameError,
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedFunctionError,
    asyncpg.UndefinedColumnError,
)


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for: [since, until), aware, on full minutes; one tenant or server, or all."""

    since: datetime
    until: datetime
    tenant: str | None = None
    server: str | None = None
    by: By | None = None


async def fetch_report(connection: Connection, request: Request) -> list[dict[str, Any]]:
    """Return a row a tenant (or tenant and room, server, day, month), each a dict of the figures.

    Unknown figures are None. Raises ReportError for an unknown tenant or server, and for a period
    that the stored data can no longer answer exactly; MigrationError where the database lacks
    what a report is read from; DatabaseError where it is away.
    """
    _require_computable(request)
    try:
        with translated("report"):
            for table, name in (("tenant", request.tenant), ("server", request.server)):
                await _require_known(connection, table, name)
            rows = await _query(connection, request)
    except DatabaseError as error:
        cause = error.__cause__
        if isinstance(cause, asyncpg.InvalidParameterValueError):
            raise ReportError(f"{cause.message}. {cause.hint or ''}".strip()) from cause
        if isinstance(cause, _NO_SCHEMA):
            msg = "the database has no tables of bbbmeter, or older ones: run `bbbmeter migrate`"
            raise MigrationError(msg) from cause
        raise
    keys = _GROUP_KEYS.get(request.by or "", ("tenant",))
    wanted = (row for row in rows if request.tenant in {None, row["tenant"]})
    return [{key: row[key] for key in (*keys, *(f[0] for f in FIGURES))} for row in wanted]


def _require_computable(request: Request) -> None:
    if request.server is not None and request.by in {"day", "month"}:
        msg = "a report for one server can be by room or by server, not by day or month"
        raise ReportError(msg)
    # SQL would refuse these as well, but in a database without tenants it does not look at them.
    period = f"{request.since.isoformat()} to {request.until.isoformat()}"
    if request.until < request.since:
        msg = f"a period must not end before it begins: {period}"
        raise ReportError(msg)
    if any(at.second or at.microsecond for at in (request.since, request.until)):
        msg = f"a period must begin and end on a full minute: {period}"
        raise ReportError(msg)


async def _require_known(connection: Connection, table: str, name: str | None) -> None:
    if name is None:
        return
    rows = await connection.fetch(f"SELECT name FROM meter.{table} ORDER BY name")  # noqa: S608
    names = [row["name"] for row in rows]
    if name not in names:
        msg = f"unknown {table} {name!r}; known are: {', '.join(names) or 'none'}"
        raise ReportError(msg)


async def _query(connection: Connection, request: Request) -> Sequence[asyncpg.Record]:
    period = (request.since, request.until)
    if request.by in {"day", "month"}:
        return await connection.fetch(
            f"SELECT period AS {request.by}, * FROM meter.tenant_usage($1, $2, $3)",  # noqa: S608
            *period,
            request.by,
        )
    if request.by is not None or request.server is not None:
        return await connection.fetch(
            "SELECT * FROM meter.usage_by($1, $2, $3, $4)",
            *period,
            request.by or "tenant",
            request.server,
        )
    return await connection.fetch("SELECT * FROM meter.tenant_report($1, $2)", *period)


def as_json(rows: list[dict[str, Any]], zone: ZoneInfo) -> str:
    """Return the rows as a JSON list of objects; instants are ISO 8601 in `zone`."""
    return json.dumps([{k: _plain(k, v, zone) for k, v in row.items()} for row in rows], indent=2)


def as_csv(rows: list[dict[str, Any]], zone: ZoneInfo) -> str:
    """Return the rows as CSV with a header; unknown figures are empty."""
    out = io.StringIO()
    header = list(rows[0]) if rows else ["tenant", *(figure[0] for figure in FIGURES)]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        values = (_plain(key, value, zone) for key, value in row.items())
        writer.writerow(["" if value is None else _unformula(value) for value in values])
    return out.getvalue()


def as_tables(
    rows: list[dict[str, Any]], request: Request, zone: ZoneInfo, calculation_version: int
) -> Group:
    """Return the rows for a terminal, with the period and what the figures rest on."""
    shown = "%Y-%m-%d %H:%M"
    period = (
        f"from {request.since.astimezone(zone):{shown}} "
        f"to {request.until.astimezone(zone):{shown}} ({zone.key})"
    )
    usage = [figure for figure in FIGURES if figure[0] not in _SESSION_FIGURES]
    sessions = [figure for figure in FIGURES if figure[0] in _SESSION_FIGURES]
    return Group(
        _table(f"Usage {period}", rows, request, usage, zone),
        _table("Sessions", rows, request, sessions, zone),
        Text(
            "coverage: share of the time due that successful polls cover · filled: share of the "
            f"time in sessions\nthat was interpolated · {_UNKNOWN} unknown · lengths in minutes · "
            f"calculation {calculation_version}",
            style="dim",
        ),
    )


def _table(
    title: str,
    rows: list[dict[str, Any]],
    request: Request,
    figures: Sequence[tuple[str, str, str]],
    zone: ZoneInfo,
) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    groups = _GROUP_KEYS.get(request.by or "", ("tenant",))
    for key in groups:
        table.add_column(key, overflow="fold")
    for _, heading, _ in figures:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        cells: list[str | Text] = [_group_text(key, row[key], zone) for key in groups]
        cells += [_text(row[key], form, zone) for key, _, form in figures]
        table.add_row(*cells)
    return table


def _group_text(key: str, value: object, zone: ZoneInfo) -> Text:
    """Return a cell as it is: clients choose the ids of rooms, and `[` would begin markup."""
    return Text(_UNKNOWN if value is None else str(_plain(key, value, zone)))


def _text(value: object, form: str, zone: ZoneInfo) -> str:
    if value is None:
        return _UNKNOWN
    if isinstance(value, datetime):
        return f"{value.astimezone(zone):%m-%d %H:%M}"
    return format(value, form)


def _plain(key: str, value: object, zone: ZoneInfo) -> object:
    """Return a value for JSON and CSV: days and months as such, instants in ISO 8601."""
    if isinstance(value, datetime):
        local = value.astimezone(zone)
        if key == "day":
            return f"{local:%Y-%m-%d}"
        return f"{local:%Y-%m}" if key == "month" else local.isoformat()
    return round(value, 6) if isinstance(value, float) else value


def _unformula(value: object) -> object:
    """Keep a spreadsheet from taking a room's id, which clients choose, for a formula."""
    if isinstance(value, str) and value[:1] in "=+-@\t\r":
        return f"'{value}"
    return value


def parse_instant(text: str, zone: ZoneInfo) -> datetime:
    """Return the instant of `2026-02-01` or `2026-02-01T08:30[+01:00]`, by default in `zone`.

    Raises ReportError for anything else.
    """
    instant = None
    with suppress(ValueError):
        instant = datetime.fromisoformat(text)
    # In the first and the last year there is, other time zones can lead out of it.
    if instant is None or instant.year in {MINYEAR, MAXYEAR}:
        msg = f"{text!r} is no date such as 2026-02-01 and no time such as 2026-02-01T08:30"
        raise ReportError(msg)
    return instant if instant.tzinfo else instant.replace(tzinfo=zone)
