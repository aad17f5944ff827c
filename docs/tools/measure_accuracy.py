"""Measures how exact the figures are, and writes docs/accuracy.md: `make accuracy`."""

import argparse
import asyncio
import logging
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from collector.database import open_pool
from collector.database.migrate import migrate
from collector.simulator import Fleet, FleetPlan, Rhythm
from collector.simulator.faults import FaultKind
from collector.simulator.plan import sim_tenants
from tests.support.rehearsal import Rehearsal, rehearse, settings_for


def as_markdown(rehearsal: Rehearsal) -> list[str]:
    """Return the lines of a table: for each tenant the truth, bbbmeter's and BBBLB's figures."""
    lines = [
        (
            "| tenant | participant minutes: truth | metered | difference | BBBLB's query "
            "| sessions seen by a tick: truth | metered | BBBLB's query "
            "| peak: truth | metered | difference | coverage | filled |"
        ),
        "|---" + "|--:" * 12 + "|",
    ]
    outliving = rehearsal.truth.sessions_outliving(rehearsal.interval_s)
    for name, true in rehearsal.truth.tenants.items():
        row, other = rehearsal.report[name], rehearsal.bbblb[name]
        minutes = true.participant_seconds / 60
        cells = [
            name,
            f"{minutes:,.1f}",
            f"{row['participant_minutes']:,.1f}",
            f"{row['participant_minutes'] / minutes - 1:+.3%}",
            f"{other['participant_minutes'] / minutes - 1:+.3%}",
            f"{outliving[name]:,}",
            f"{row['sessions']:,}",
            f"{other['sessions']:,}",
            f"{true.peak_participants:,.1f}",
            f"{row['peak_participants']:,.1f}",
            f"{row['peak_participants'] / true.peak_participants - 1:+.3%}",
            f"{row['coverage']:.2%}",
            f"{row['filled_share']:.2%}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


# What an answer can have, so that its figures still have a truth.
_FAULTS: tuple[FaultKind, ...] = ("hidden", "unread", "twice", "repeated", "unjoined", "huge")
_RUNS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("No poll failing", {}),
    ("3% of polls failing", {"fail_share": 0.03}),
    ("3% of answers with a fault", {"fault_share": 0.03, "faults": _FAULTS}),
)

_PAGE = """\
# How exact the figures are

`make accuracy` wrote this page, on TimescaleDB {version}. It simulates {days} days of {servers}
servers with {sessions:.0f} concurrent sessions on average. They are polled every {interval_s} s on
a virtual clock. Everything after the bytes of an answer is the real program: parser, attribution,
gap filler, writer, sessions, rollups and report. The truth comes from the simulator's events and is
not sampled. BBBLB's query is the one that its documentation gives for `POLL_STATS`, on the same
ticks.

Why the figures differ from the truth: a poll sees a session every {interval_s} s, so bbbmeter sees
each join and each leave up to {interval_s} s late. Over many sessions this evens out.

Why BBBLB's query differs: it takes the time of a session as its last row minus its first row. So
each session loses one interval, and a session that is seen once counts nothing. The query counts a
session in every period that the session touches. bbbmeter counts it only where it began. So
sessions that were already running when the week began are in BBBLB's column only.

The faults of answers are those of [the simulator](simulator.md) that leave a truth to compare with:
{faults}. An answer has one of them.

{body}
"""


async def measure_week(database: str, days: int, servers: int, sessions: float) -> str:
    """Run the week without failures and with each kind of them; return the page as Markdown.

    Each run creates bbbmeter's schema in `database` and drops it. So `database` must not contain
    that schema.
    """
    start = datetime(2026, 2, 2, tzinfo=UTC)
    body: list[str] = []
    interval_s, version = 0, ""
    for title, faults in _RUNS:
        plan = FleetPlan(
            seed=2026,
            start=start,
            end=start + timedelta(days=days),
            tenants=sim_tenants(6),
            servers=servers,
            concurrent_sessions=sessions,
            rhythm=Rhythm(amplitude=0.6, time_zone="Europe/Berlin", weekend=0.5),
        )
        fleet = Fleet(plan)
        settings = settings_for(fleet)
        interval_s = settings.poll_interval_s
        async with open_pool(database) as pool:
            async with pool.acquire() as connection:
                await migrate(connection, settings)
            # No policy refreshes or drops anything during the run.
            await pool.execute(_STOP_POLICIES)
            version = await pool.fetchval(
                "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"
            )
            done = await rehearse(pool, settings, fleet, **faults)
            await pool.execute("DROP SCHEMA meter CASCADE")
        polls = f"{done.polls:,} polls, {done.failed:,} of them failed"
        if done.faults:
            polls += f", and {done.faults:,} answers with a fault"
        body += [
            f"## {title}",
            "",
            f"{polls}; {done.samples:,} samples.",
            "",
            *as_markdown(done),
            "",
        ]
        print(f"{title}: {done.samples:,} samples in {done.seconds:.0f} s", file=sys.stderr)  # noqa: T201
    return _PAGE.format(
        version=version,
        days=days,
        servers=servers,
        sessions=sessions,
        interval_s=interval_s,
        faults=", ".join(f"`{kind}`" for kind in _FAULTS),
        body="\n".join(body).rstrip(),
    )


_STOP_POLICIES = """
SELECT public.alter_job(job_id, scheduled => FALSE)
FROM timescaledb_information.jobs WHERE job_id >= 1000
"""


def main() -> None:
    """Write the page to the given path."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--database", help="a DSN; by default a temporary embedded engine")
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--servers", type=int, default=40)
    parser.add_argument("--sessions", type=float, default=300)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = options.database or f"embedded:{folder}"
        page = asyncio.run(measure_week(database, options.days, options.servers, options.sessions))
    options.path.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
