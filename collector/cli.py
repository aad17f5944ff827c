"""The command line: `bbbmeter COMMAND`. Each command is a few lines; the work is elsewhere."""

import asyncio
import gc
import os
import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.console import Console

from collector import __version__
from collector.commands.check import check_all
from collector.commands.demo import run_demo
from collector.commands.init import init as write_example
from collector.commands.psql import open_console
from collector.commands.spool import drop, print_spool, retry, show_batch
from collector.commands.tenant import grant_sql, revoke_sql, role_of
from collector.daemon import Daemon
from collector.database import open_pool, translated
from collector.database.migrate import migrate as migrate_database
from collector.errors import BbbmeterError, SettingsError
from collector.log import setup_logging
from collector.reports.report import (
    REPORT_WIDTH,
    ROOM_WIDTH,
    Request,
    as_csv,
    as_json,
    as_tables,
    fetch_report,
    parse_instant,
)
from collector.settings import Settings
from collector.settings.file import load_settings
from collector.simulator.command import SimulateOptions
from collector.simulator.command import simulate as simulate_fleet
from collector.simulator.server import SimulatedFleet
from collector.verify import Result, repair, verify
from collector.verify import as_json as results_as_json
from collector.verify import as_table as results_as_table

DEFAULT_CONFIG = Path("bbbmeter.toml")

app = typer.Typer(
    name="bbbmeter",
    help="Usage metering for BigBlueButton fleets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

spool_app = typer.Typer(
    name="spool",
    help="What waits on disk, and what the database refused.",
    no_args_is_help=True,
)
app.add_typer(spool_app)
tenant_app = typer.Typer(name="tenant", help="Database roles of tenants.", no_args_is_help=True)
app.add_typer(tenant_app)

BatchId = Annotated[str, typer.Argument(help="The batch, as `spool list` names it, or `all`.")]

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="BBBMETER_CONFIG",
        help="The settings; by default bbbmeter.toml in this folder, if there is one.",
    ),
]


class Format(StrEnum):
    """How a report is printed."""

    table = "table"
    csv = "csv"
    json = "json"


class Grouping(StrEnum):
    """What a report's rows are, beside the tenant."""

    room = "room"
    server = "server"
    day = "day"
    month = "month"


def main() -> None:
    """Run the command line. An error of ours is one clear text and exit code 2."""
    try:
        app()
    except BbbmeterError as error:
        print(f"bbbmeter: {error}", file=sys.stderr)
        sys.exit(2)


def _load(config: Path | None) -> Settings:
    settings = load_settings(_path(config))
    setup_logging(settings.log_format, "warning")
    return settings


def _path(config: Path | None) -> Path | None:
    return config or (DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback
    if wanted:
        print(f"bbbmeter {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Usage metering for BigBlueButton fleets."""


@app.command()
def init(
    config: Config = None,
    force: Annotated[bool, typer.Option(help="Overwrite the file.")] = False,
) -> None:
    """Write a commented example of the settings."""
    path = config or DEFAULT_CONFIG
    write_example(path, force=force)
    print(f"wrote {path}: put in your servers, then run `bbbmeter check`")


@app.command()
def check(config: Config = None) -> None:
    """Check the settings, then call every server and the database, and print a line each."""
    settings = _load(config)
    if not asyncio.run(check_all(settings, Console(highlight=False))):
        raise typer.Exit(1)


@app.command()
def migrate(
    config: Config = None,
    dry_run: Annotated[bool, typer.Option(help="Only say what would be done.")] = False,
    rebuild_days: Annotated[
        bool, typer.Option(help="Cut all days anew after a change of the billing time zone.")
    ] = False,
) -> None:
    """Bring the database to this version and these settings."""
    settings = _load(config)

    async def work() -> list[str]:
        database = settings.database.get_secret_value()
        async with open_pool(database, max_size=1) as pool, pool.acquire() as connection:
            return await migrate_database(
                connection, settings, dry_run=dry_run, rebuild_days=rebuild_days
            )

    names = asyncio.run(work())
    verb = "would apply" if dry_run else "applied"
    print(f"{verb} {', '.join(names)}" if names else "the tables are up to date")
    print("views and policies " + ("would be" if dry_run else "were") + " set from the settings")


@app.command()
def run(config: Config = None) -> None:
    """Collect until SIGTERM."""
    path = _path(config)
    settings = _load(path)
    setup_logging(settings.log_format, settings.log_level)
    if not settings.enabled_servers:
        raise SettingsError(["server: there is none to poll"], str(path or "environment"))
    # What a tick makes lives to its end, so that the collector of cycles, which looks at it every
    # few hundred objects, finds nothing and takes a quarter of the processor's time.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    asyncio.run(Daemon(settings, path).run())


@app.command()
def report(
    config: Config = None,
    since: Annotated[
        str | None,
        typer.Option("--from", help="Begin, e.g. 2026-02-01; by default that of this month."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", help="End, not included; by default the present.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant.")] = None,
    server: Annotated[str | None, typer.Option(help="Only sessions on this server.")] = None,
    by: Annotated[Grouping | None, typer.Option(help="Rows beside the tenant.")] = None,
    output: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.table,
) -> None:
    """Print what each tenant used. Dates are days of the billing time zone."""
    settings = _load(config)
    zone = ZoneInfo(settings.billing_timezone)
    now = datetime.now(UTC).astimezone(zone).replace(second=0, microsecond=0)
    request = Request(
        since=parse_instant(since, zone) if since else now.replace(day=1, hour=0, minute=0),
        until=parse_instant(until, zone) if until else now,
        tenant=tenant,
        server=server,
        by=by.value if by else None,
    )

    async def work() -> tuple[list[dict[str, Any]], int]:
        database = settings.database.get_secret_value()
        async with open_pool(database, max_size=1) as pool, pool.acquire() as connection:
            rows = await fetch_report(connection, request)
            with translated("report"):
                return rows, await connection.fetchval("SELECT meter.calculation_version()")

    rows, version = asyncio.run(work())
    if output is Format.json:
        print(as_json(rows, zone))
    elif output is Format.csv:
        print(as_csv(rows, zone), end="")
    else:
        # Never narrower than the tables: a figure must not be cut off.
        width = max(REPORT_WIDTH + (ROOM_WIDTH if by else 0), Console().width)
        Console(width=width, highlight=False).print(as_tables(rows, request, zone, version))


@app.command("verify")
def verify_figures(
    config: Config = None,
    since: Annotated[
        str | None, typer.Option("--from", help="Begin; by default of all that is kept.")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="End, not included.")] = None,
    mend: Annotated[
        bool, typer.Option("--repair", help="Mend what can be mended, and verify again.")
    ] = False,
    output: Annotated[Format, typer.Option("--format", help="table or json.")] = Format.table,
) -> None:
    """Compute everything again, and compare it with what is stored. Exit code 1 if it differs."""
    settings = _load(config)
    zone = ZoneInfo(settings.billing_timezone)
    lo = parse_instant(since, zone) if since else None
    hi = parse_instant(until, zone) if until else None

    async def work() -> list[Result]:
        database = settings.database.get_secret_value()
        async with open_pool(database, max_size=2) as pool:
            results = await verify(pool, settings, since=lo, until=hi)
            if mend and any(result.repairs for result in results):
                for done in await repair(pool, settings, results):
                    print(done, file=sys.stderr)
                results = await verify(pool, settings, since=lo, until=hi)
        return results

    results = asyncio.run(work())
    if output is Format.json:
        print(results_as_json(results))
    else:
        width = max(REPORT_WIDTH, Console().width)
        Console(width=width, highlight=False).print(results_as_table(results))
    if not all(result.ok for result in results):
        raise typer.Exit(1)


@spool_app.command("list")
def spool_list(config: Config = None) -> None:
    """List what waits in each collector's spool, and what is in quarantine."""
    console = Console(width=max(REPORT_WIDTH, Console().width), highlight=False)
    print_spool(_load(config).spool.directory, console)


@spool_app.command("show")
def spool_show(batch: BatchId, config: Config = None) -> None:
    """Print the rows of a batch in quarantine as JSON, a line each."""
    for line in show_batch(_load(config).spool.directory, batch):
        print(line)


@spool_app.command("retry")
def spool_retry(batch: BatchId, config: Config = None) -> None:
    """Let a batch in quarantine be stored after all, when what was wrong is mended."""
    for one in retry(_load(config).spool.directory, batch):
        print(f"{one.id}: waits to be stored")


@spool_app.command("drop")
def spool_drop(batch: BatchId, config: Config = None) -> None:
    """Delete a batch in quarantine for good; its polls stay failed."""
    for one in drop(_load(config).spool.directory, batch):
        print(f"{one.id}: deleted ({one.reason})")


@tenant_app.command("grant-sql")
def tenant_grant_sql(
    tenant: Annotated[str, typer.Argument(help="The tenant's name.")],
    role: Annotated[
        str | None, typer.Option(help="The role; by default its present one, or one by number.")
    ] = None,
    revoke: Annotated[bool, typer.Option("--revoke", help="Print what takes it away.")] = False,
    config: Config = None,
) -> None:
    """Print SQL that lets a role of the database see one tenant's rows; it changes nothing."""
    settings = _load(config)

    async def work() -> str:
        database = settings.database.get_secret_value()
        async with open_pool(database, max_size=1) as pool, pool.acquire() as connection:
            return await role_of(connection, tenant)

    # Also with a role given: the tenant must be there.
    known = asyncio.run(work())
    try:
        print((revoke_sql if revoke else grant_sql)(tenant, role or known), end="")
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


@app.command()
def psql(config: Config = None) -> None:
    """Open psql on the database (or a plain prompt where psql is missing)."""
    settings = _load(config)
    sys.exit(asyncio.run(open_console(settings.database.get_secret_value())))


@app.command()
def demo(
    directory: Annotated[Path, typer.Argument(help="Where the data go.")] = Path("demo-data"),
    seconds: Annotated[int, typer.Option(min=20, max=3600, help="How long to collect.")] = 80,
) -> None:
    """Show it: a simulated fleet, the real collector, and the report beside the truth."""
    setup_logging("console", os.environ.get("BBBMETER_LOG_LEVEL", "error"))
    if not asyncio.run(run_demo(directory, seconds)):
        raise typer.Exit(1)


@app.command()
def simulate(
    servers: Annotated[int, typer.Option(help="How many servers.")] = 4,
    tenants: Annotated[int, typer.Option(help="How many tenants.")] = 6,
    sessions: Annotated[float, typer.Option(help="Sessions at a time, on average.")] = 24.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same fleet.")] = 1,
    speed: Annotated[float, typer.Option(help="Simulated seconds a second.")] = 1.0,
    lively: Annotated[bool, typer.Option(help="Sessions of minutes, to look at.")] = False,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The first server's port; 0: any free ones.")] = 0,
    duration: Annotated[
        float | None, typer.Option(help="Seconds until it ends; by default until SIGTERM.")
    ] = None,
    secret_file: Annotated[Path | None, typer.Option(help="File with the secret.")] = None,
    secret_env: Annotated[str | None, typer.Option(help="Variable with the secret.")] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="server:kind:from-to in seconds, e.g. sim02:http_502:20-40; repeatable."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Write settings for the collector to this file.")
    ] = None,
    truth: Annotated[Path | None, typer.Option(help="Write the truth here at the end.")] = None,
) -> None:
    """Run a simulated fleet over HTTP, with faults, and tell the truth about it."""
    options = SimulateOptions(
        servers=servers,
        tenants=tenants,
        sessions=sessions,
        seed=seed,
        speed=speed,
        lively=lively,
        host=host,
        port=port,
        duration_s=duration,
        secret_file=secret_file,
        secret_env=secret_env,
        fault=tuple(fault or ()),
        config=config,
        truth=truth,
    )

    def ready(simulated: SimulatedFleet) -> None:
        for name, url in simulated.urls.items():
            print(name, url, flush=True)

    asyncio.run(simulate_fleet(options, ready))
