"""`bbbmeter demo`: meter a simulated fleet, and compare the report with the simulated truth."""

import asyncio
import os
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from collector.clock import SystemClock, tick_at
from collector.daemon import Daemon
from collector.database import open_pool
from collector.database.packages import engine_folder, is_installed
from collector.errors import UsageError
from collector.log import setup_logging
from collector.model import PollResult
from collector.reports.usage import Request, fetch_report
from collector.settings import Settings
from collector.settings.file import load_settings
from collector.simulator import Fleet, FleetPlan, SimTenant, Truth
from collector.simulator.command import settings_toml
from collector.simulator.server import SimulatedFleet
from collector.storage.registry import sync_fleet

INTERVAL_S = 5
SERVERS = 3
TENANTS = (
    SimTenant("acme", "bbblb", 1.0),
    SimTenant("law", "scalelite", 0.8),
    SimTenant("music", "greenlight", 0.7),
    SimTenant("physics", "moodle", 0.7),
    SimTenant("medicine", "prefix", 0.6),
)
# This server answers with an error from and until these shares of the demo's duration.
FAILING = "sim02"
FAILS_FROM, FAILS_UNTIL = 0.3, 0.5
# Largest accepted difference from the truth, as a share. Beyond it, the demo's exit code is 1.
TOLERANCE = 0.02
# Only a checkout has one.
_MAKEFILE = Path(__file__).resolve().parents[2] / "Makefile"


def demo(
    directory: Annotated[Path, typer.Argument(help="Directory for the data.")] = Path("demo-data"),
    seconds: Annotated[int, typer.Option(min=20, max=3600, help="Seconds to collect.")] = 80,
) -> None:
    """Meter a simulated fleet, and compare the report with the truth."""
    setup_logging("console", os.environ.get("BBBMETER_LOG_LEVEL", "error"))
    if not asyncio.run(run_demo(directory, seconds)):
        raise typer.Exit(1)


async def run_demo(directory: Path, duration_s: int) -> bool:
    """Collect from a simulated fleet for `duration_s` seconds into `directory`, and print a report.

    Returns whether every tenant's participant minutes are within TOLERANCE of the truth.
    """
    console = Console(highlight=False)
    secret = SecretStr(secrets.token_urlsafe(24))
    async with SimulatedFleet(Fleet(_plan(SystemClock().now())), secret=secret) as simulated:
        path = _write_settings(directory, simulated, secret)
        settings = load_settings(path)
        console.print(
            f"{SERVERS} simulated BigBlueButton servers with {len(TENANTS)} tenants are "
            f"listening. bbbmeter polls them every {INTERVAL_S} s."
        )
        if not is_installed(folder := engine_folder()):
            console.print(f"Fetching the packages of the embedded TimescaleDB into {folder} …")
        console.print(f"Starting the embedded TimescaleDB in {directory / 'data'} …")
        since, until, failed = await _collect(console, settings, simulated, duration_s)
        truth = simulated.fleet.truth(since, until)
    async with open_pool(settings.database.get_secret_value()) as pool, pool.acquire() as db:
        # The simulated servers have stopped, so no further poll is due.
        await sync_fleet(db, (), settings.tenant, until)
        minute = timedelta(minutes=1)
        request = Request(tick_at(since, 60), tick_at(until - minute / 60, 60) + minute)
        rows = await fetch_report(db, request)
    console.print(_table(rows, truth))
    worst = max(abs(_difference(row, truth)) for row in rows if row["tenant"] in truth.tenants)
    _print_next_steps(console, path, worst, failed)
    return worst <= TOLERANCE


def _plan(start: datetime) -> FleetPlan:
    """Return a plan of lessons that run already at `start`, as the demo takes only seconds."""
    return FleetPlan(
        seed=7,
        start=start,
        end=start + timedelta(hours=2),
        tenants=TENANTS,
        servers=SERVERS,
        concurrent_sessions=60,
        mean_length_s=1200,
        min_length_s=60,
        max_length_s=4800,
        empty_linger_s=5,
        unjoined_linger_s=15,
        mean_size=15,
        large_share=0,
        huge_share=0,
        breakout_share=0.25,
        dialin_share=0.15,
    )


def _write_settings(directory: Path, simulated: SimulatedFleet, secret: SecretStr) -> Path:
    path = directory / "bbbmeter.toml"
    head: dict[str, str | int] = {"database": "embedded:./data", "poll_interval_s": INTERVAL_S}
    text = settings_toml(simulated, {"secret": secret.get_secret_value()}, head)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(text + "\n[http]\nport = 0\n", encoding="utf-8")
    except OSError as error:
        problem = f"cannot be written: {error.strerror}"
        raise UsageError([problem], str(path)) from error
    return path


async def _collect(
    console: Console, settings: Settings, simulated: SimulatedFleet, duration_s: int
) -> tuple[datetime, datetime, int]:
    """Run the collector for `duration_s` seconds.

    Returns begin and end of the metered period, and the number of failed polls.
    """
    ticks = duration_s // INTERVAL_S
    seen: dict[datetime, int] = {}
    totals: dict[str, tuple[int, int]] = {}
    failed = 0
    daemon = Daemon(settings)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=console
    ) as progress:
        task = progress.add_task("waiting for the first tick", total=ticks * SERVERS)

        def show(result: PollResult) -> None:
            nonlocal failed
            if not seen:
                _let_one_fail(simulated, result.ts, duration_s)
            seen[result.ts] = seen.get(result.ts, 0) + 1
            failed += not result.ok
            main = [meeting for meeting in result.answer.meetings if not meeting.breakout]
            totals[result.server] = (len(main), sum(m.participants for m in main))
            sessions, participants = map(sum, zip(*totals.values(), strict=True))
            progress.update(
                task,
                advance=1,
                description=f"{participants} participants in {sessions} sessions, "
                f"{sum(seen.values())} polls, {failed} failed",
            )
            if len(seen) == ticks and min(seen.values()) == SERVERS:
                daemon.stop()

        daemon.on_result = show
        await daemon.run()
    if not seen:
        raise UsageError(["was stopped before the first tick, so there is no report"], "demo")
    return min(seen), max(seen) + timedelta(seconds=INTERVAL_S), failed


def _let_one_fail(simulated: SimulatedFleet, start: datetime, duration_s: int) -> None:
    since = start + timedelta(seconds=FAILS_FROM * duration_s)
    until = start + timedelta(seconds=FAILS_UNTIL * duration_s)
    simulated.fault(FAILING, "http_502", since, until)


def _difference(row: Mapping[str, Any], truth: Truth) -> float:
    """Return the difference of participant minutes from the truth, as a share of the truth."""
    true_s = truth.tenants[row["tenant"]].participant_seconds
    return row["participant_minutes"] * 60 / true_s - 1 if true_s else 0.0


def _table(rows: list[dict[str, Any]], truth: Truth) -> Table:
    marks = {tenant.name: tenant.mark for tenant in TENANTS}
    seconds = (truth.until - truth.since).total_seconds()
    table = Table(
        title=f"Usage of each tenant in these {seconds:.0f} seconds",
        box=None,
        padding=(0, 1, 0, 0),
        title_justify="left",
    )
    table.add_column("tenant", no_wrap=True)
    table.add_column("marked by", no_wrap=True)
    for heading in (
        "participant\nminutes",
        "the\ntruth",
        "differ-\nence",
        "largest\nsession",
        "dial-in\nminutes",
        "cover-\nage",
        "filled",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        if row["tenant"] not in truth.tenants:
            continue
        table.add_row(
            row["tenant"],
            marks[row["tenant"]],
            f"{row['participant_minutes']:.1f}",
            f"{truth.tenants[row['tenant']].participant_seconds / 60:.1f}",
            f"{_difference(row, truth):+.2%}",
            f"{row['max_session_size']}",
            f"{row['dialin_minutes']:.1f}",
            f"{row['coverage']:.1%}",
            f"{row['filled_share'] or 0:.1%}",
        )
    return table


def _print_next_steps(console: Console, path: Path, worst: float, failed: int) -> None:
    said = f"\nThe largest difference from the truth is {worst:.2%}."
    if failed:
        said += f" {FAILING} failed for some time: coverage is lower, and the gap was interpolated."
    console.print(f"{said}\n")
    for command, purpose in (
        (
            f"bbbmeter report -c {path} --by server",
            "See the same data by server (or room, day, month):",
        ),
        (
            f"bbbmeter psql -c {path}",
            "Query the database, for example SELECT * FROM meter.session;",
        ),
        ("bbbmeter init && bbbmeter check && bbbmeter run", "Meter your own servers:"),
    ):
        console.print(f"{purpose}\n    {command}")
    if _MAKEFILE.is_file():
        console.print("(In this checkout, bbbmeter is .venv/bin/bbbmeter.)")
