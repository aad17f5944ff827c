"""`bbbmeter verify`: recompute all figures, and compare them with the stored ones."""

import asyncio
import sys
from typing import Annotated
from zoneinfo import ZoneInfo

import typer
from rich.console import Console

from collector.commands.options import Config, Format, load
from collector.database import open_pool
from collector.errors import UsageError
from collector.reports.render import REPORT_WIDTH
from collector.reports.usage import parse_instant
from collector.verify import Result, as_json, as_table, repair
from collector.verify import verify as verify_figures


def verify(
    config: Config = None,
    since: Annotated[
        str | None, typer.Option("--from", help="Begin. Default: the oldest stored data.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", help="End, not included. Default: the newest data.")
    ] = None,
    mend: Annotated[
        bool, typer.Option("--repair", help="Repair what can be repaired, then verify again.")
    ] = False,
    output: Annotated[
        Format, typer.Option("--format", help="Output format: table or json; csv is not possible.")
    ] = Format.table,
) -> None:
    """Recompute all figures, and compare them with the stored ones. Exit code 1 if they differ."""
    if output is Format.csv:
        raise UsageError(["--format csv: a verification has no rows; use table or json"], "verify")
    settings = load(config)
    zone = ZoneInfo(settings.billing_timezone)
    period_start = parse_instant(since, zone) if since else None
    period_end = parse_instant(until, zone) if until else None

    async def work() -> list[Result]:
        database = settings.database.get_secret_value()
        async with open_pool(database, max_size=2) as pool:
            results = await verify_figures(pool, settings, since=period_start, until=period_end)
            if mend and any(result.repairs for result in results):
                for done in await repair(pool, settings, results):
                    print(done, file=sys.stderr)
                results = await verify_figures(pool, settings, since=period_start, until=period_end)
        return results

    results = asyncio.run(work())
    if output is Format.json:
        print(as_json(results))
    else:
        width = max(REPORT_WIDTH, Console().width)
        Console(width=width, highlight=False).print(as_table(results))
    if not all(result.ok for result in results):
        raise typer.Exit(1)
