"""Draws docs/img/report.svg, a report on two simulated days, for README.md."""

import asyncio
import io
import re
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.terminal_theme import MONOKAI

from collector.database import open_pool
from collector.database.migrate import migrate
from collector.log import setup_logging
from collector.reports.render import REPORT_WIDTH, as_tables
from collector.reports.usage import Request
from collector.simulator import Fleet, FleetPlan, Rhythm
from collector.simulator.plan import sim_tenants
from tests.support.rehearsal import rehearse, settings_for

PICTURE = Path(__file__).parents[1] / "img" / "report.svg"


async def draw() -> None:
    """Meter the two days with an embedded engine, and draw the report."""
    start = datetime(2026, 2, 2, 23, tzinfo=UTC)
    plan = FleetPlan(
        seed=4,
        start=start,
        end=start + timedelta(days=2),
        tenants=sim_tenants(6),
        servers=4,
        concurrent_sessions=40,
        rhythm=Rhythm(amplitude=0.8, time_zone="Europe/Berlin"),
    )
    fleet = Fleet(plan)
    settings = settings_for(fleet)
    with tempfile.TemporaryDirectory() as folder:
        async with open_pool(f"embedded:{folder}") as pool:
            async with pool.acquire() as connection:
                await migrate(connection, settings)
            done = await rehearse(pool, settings, fleet, fail_share=0.01)
            version = await pool.fetchval("SELECT meter.calculation_version()")
    console = Console(record=True, width=REPORT_WIDTH, file=io.StringIO(), highlight=False)
    request = Request(plan.start, plan.end)
    zone = ZoneInfo(settings.billing_timezone)
    console.print(as_tables(list(done.report.values()), request, zone, version))
    svg = console.export_svg(title="bbbmeter report", theme=MONOKAI)
    PICTURE.parent.mkdir(exist_ok=True)
    # Remove the fonts that rich would load from another site: any monospaced font will do.
    PICTURE.write_text(re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    setup_logging("console", "warning")
    asyncio.run(draw())
