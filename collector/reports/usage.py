"""Queries the usage of tenants from meter.tenant_report and similar SQL functions."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import MAXYEAR, MINYEAR, UTC, datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

import asyncpg

from collector.database import Connection, translated
from collector.database.pool import NO_SCHEMA
from collector.errors import DatabaseError, MigrationError, ReportError
from collector.reports.figures import FIGURES

By = Literal["room", "server", "day", "month"]

# The columns that identify a row, for each grouping.
GROUP_KEYS: dict[str, tuple[str, ...]] = {
    "room": ("tenant", "room"),
    "server": ("tenant", "server"),
    "day": ("tenant", "day"),
    "month": ("tenant", "month"),
}


@dataclass(frozen=True, slots=True)
class Request:
    """A period [since, until), and filters. The times are aware and on full minutes.

    With `tenant` or `server` None, the report has all of them. With `by` None, it has one row per
    tenant.
    """

    since: datetime
    until: datetime
    tenant: str | None = None
    server: str | None = None
    by: By | None = None


async def fetch_report(connection: Connection, request: Request) -> list[dict[str, Any]]:
    """Return one row per tenant (or tenant and room, server, day, month) as dicts of the figures.

    Unknown figures are None. Raises ReportError for an unknown tenant or server, and for a period
    for which no exact data are stored any more. Raises MigrationError if the database has no
    tables of bbbmeter, or older ones. Raises DatabaseError if it is unavailable.
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
        if isinstance(cause, NO_SCHEMA):
            raise MigrationError(str(error)) from cause
        raise
    keys = GROUP_KEYS.get(request.by or "", ("tenant",))
    wanted = (row for row in rows if request.tenant in {None, row["tenant"]})
    return [
        {key: row[key] for key in (*keys, *(figure.name for figure in FIGURES))} for row in wanted
    ]


async def doubts(connection: Connection, request: Request) -> list[str]:
    """Return a sentence for each thing that the figures of the report do not show.

    These are tenants that were metered in a part of the period only, and meetings that count twice.
    Raises DatabaseError.
    """
    with translated("report"):
        metered = await connection.fetch(_METERED, request.since, request.until, request.tenant)
        twice = await connection.fetch(
            _TWICE, request.since, request.until, request.tenant, request.server
        )
    return [
        *(
            f"metered in {row['metered_share']:.1%} of the period: {row['tenants']}"
            for row in metered
        ),
        *(
            f"counted twice: meetings on {row['server']} (tenant {row['tenant']}) that are also on "
            f"{row['other_server']} (tenant {row['other_tenant']}): {row['sessions']}, with "
            + (
                "an unknown number of participant minutes"
                if row["twice_minutes"] is None
                else f"{row['twice_minutes']:,.1f} participant minutes"
            )
            for row in twice
        ),
    ]


# Tenants that nobody ever metered have no figures at all. A minute may be due and not there yet.
_METERED = """
SELECT m.metered_share, string_agg(t.name, ', ' ORDER BY t.name) AS tenants
FROM meter.tenant_metered($1, $2) AS m
INNER JOIN meter.tenant AS t ON m.tenant_id = t.id
WHERE m.metered_share > 0 AND m.metered_share < 0.9995 AND ($3::text IS NULL OR t.name = $3)
GROUP BY m.metered_share
ORDER BY m.metered_share
"""
_TWICE = """
SELECT * FROM meter.duplicates($1, $2)
WHERE counts AND ($3::text IS NULL OR $3 IN (tenant, other_tenant))
    AND ($4::text IS NULL OR $4 IN (server, other_server))
"""


def _require_computable(request: Request) -> None:
    if request.server is not None and request.by in {"day", "month"}:
        msg = "a report for one server can be grouped by room or by server, not by day or month"
        raise ReportError(msg)
    # SQL rejects these periods too, but not in a database without tenants.
    period = f"{request.since.isoformat()} to {request.until.isoformat()}"
    if request.until < request.since:
        msg = f"the period must not end before it begins: {period}"
        raise ReportError(msg)
    if any(at.second or at.microsecond for at in (request.since, request.until)):
        msg = f"the period must begin and end on a full minute: {period}"
        raise ReportError(msg)


async def _require_known(connection: Connection, table: str, name: str | None) -> None:
    if name is None:
        return
    rows = await connection.fetch(f"SELECT name FROM meter.{table} ORDER BY name")  # noqa: S608
    names = [row["name"] for row in rows]
    if name not in names:
        msg = f"unknown {table} {name!r}; the database has: {', '.join(names) or 'none'}"
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


def parse_instant(text: str, zone: ZoneInfo) -> datetime:
    """Return the instant of `2026-02-01` or `2026-02-01T08:30[+01:00]`, by default in `zone`.

    Raises ReportError for any other text.
    """
    instant = None
    with suppress(ValueError):
        instant = datetime.fromisoformat(text)
    # Exclude the first and the last year of datetime, where a change of time zone can overflow.
    if instant is None or instant.year in {MINYEAR, MAXYEAR}:
        msg = f"{text!r} is not a date such as 2026-02-01 or a time such as 2026-02-01T08:30"
        raise ReportError(msg)
    return instant if instant.tzinfo else local_instant(instant, zone)


def local_instant(local: datetime, zone: ZoneInfo) -> datetime:
    """Return the instant at which the clocks of `zone` show `local`, a time without a zone.

    If they show it twice, it is the second instant. If they never show it, it is that of the clock
    before it was set forward. PostgreSQL reads local times in the same way.
    """
    return max(local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))


def month_begin(instant: datetime, zone: ZoneInfo) -> datetime:
    """Return the beginning of the month of `zone` that contains `instant`.

    If the first midnight of a month occurs twice, the month begins at the second one.
    """
    first = instant.astimezone(zone).replace(
        day=1, hour=0, minute=0, second=0, microsecond=0, tzinfo=None
    )
    begin = local_instant(first, zone)
    return begin if begin <= instant else month_begin(begin - timedelta(days=1), zone)
