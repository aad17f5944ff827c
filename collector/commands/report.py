"""`bbbmeter report`: print the usage of each tenant."""

import asyncio
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.console import Console

from collector.commands.options import Config, Format, load
from collector.database import open_pool, translated
from collector.reports.render import REPORT_WIDTH, ROOM_WIDTH, as_csv, as_json, as_tables
from collector.reports.usage import Request, doubts, fetch_report, month_begin, parse_instant


class Grouping(StrEnum):
    """What the rows of a report are grouped by, in addition to the tenant."""

    room = "room"
    server = "server"
    day = "day"
    month = "month"


def report(
    config: Config = None,
    since: Annotated[
        str | None,
        typer.Option("--from", help="Begin, e.g. 2026-02-01. Default: the first of this month."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", help="End, not included. Default: now.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant.")] = None,
    server: Annotated[str | None, typer.Option(help="Only sessions on this server.")] = None,
    by: Annotated[
        Grouping | None, typer.Option(help="Group by this in addition to the tenant.")
    ] = None,
    output: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.table,
) -> None:
    """Print the usage of each tenant. Dates are in the billing time zone."""
    settings = load(config)
    zone = ZoneInfo(settings.billing_timezone)
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    request = Request(
        since=parse_instant(since, zone) if since else month_begin(now, zone),
        until=parse_instant(until, zone) if until else now,
        tenant=tenant,
        server=server,
        by=by.value if by else None,
    )

    async def work() -> tuple[list[dict[str, Any]], list[str], int]:
        database = settings.database.get_secret_value()
        async with open_pool(database, max_size=1) as pool, pool.acquire() as connection:
            rows = await fetch_report(connection, request)
            said = await doubts(connection, request)
            with translated("report"):
                version = await connection.fetchval("SELECT meter.calculation_version()")
        return rows, said, version

    rows, said, version = asyncio.run(work())
    if output is Format.json:
        print(as_json(rows, zone))
    elif output is Format.csv:
        print(as_csv(rows, zone), end="")
    else:
        # At least as wide as the tables, so that rich truncates no figure.
        width = max(REPORT_WIDTH + (ROOM_WIDTH if by else 0), Console().width)
        Console(width=width, highlight=False).print(as_tables(rows, request, zone, version))
    # To standard error, so that JSON and CSV stay what they are.
    for sentence in said:
        typer.echo(sentence, err=True)
