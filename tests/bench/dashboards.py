"""Measures how long each query of the dashboards takes with Grafana's role: `make bench`.

It prints medians on an invented month of a large fleet, for each usual time range.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg

from grafana import generate
from grafana.replay import arrival
from grafana.replay.arrival import RANGES
from grafana.replay.board import Screen, Statement
from grafana.replay.macros import TimeRange
from tests.bench.database import past, rows
from tests.support.history import History

# Days, servers, concurrent sessions: for a database server, and less for the embedded engine.
LARGE = (30, 50, 250.0)
SMALL = (15, 6, 6.0)
# The tenant whose dashboards are measured: the one with the most sessions.
_TENANT = "law"


async def statements(
    connection: asyncpg.Connection, name: str, span: timedelta, session: Mapping[str, str]
) -> list[Statement]:
    """Return the queries of a dashboard for its last `span`."""
    made = json.loads((generate.DASHBOARDS / f"{name}.json").read_text())
    until = datetime.now(UTC).replace(microsecond=0)
    screen = Screen(made, TimeRange(until - span, until))
    await screen.choose(connection, **arrival.given(name, session))
    return screen.all_statements()


async def measure(
    dsn: str, boards: Sequence[str], ranges: Sequence[str], repeats: int
) -> list[dict[str, Any]]:
    """Return, for each query, the median of its times in milliseconds."""
    connection = await asyncpg.connect(dsn)
    # Each statement contains its time range, so no prepared statement can be reused.
    await connection.execute("SET ROLE bbbmeter_reader")
    session = await arrival.a_session(connection, _TENANT)
    found: list[dict[str, Any]] = []
    for span in ranges:
        for name in boards:
            for statement in await statements(connection, name, RANGES[span], session):
                took = []
                for _ in range(repeats):
                    begun = time.perf_counter()
                    await connection.fetch(statement.sql)
                    took.append((time.perf_counter() - begun) * 1000)
                found.append(
                    {
                        "query": statement.of,
                        "range": span,
                        "median_ms": round(statistics.median(took), 1),
                        "max_ms": round(max(took), 1),
                    }
                )
    await connection.close()
    return found


async def main(arguments: argparse.Namespace) -> int:
    """Measure, print the slowest queries, and write all figures as JSON."""
    end = datetime.now(UTC).replace(second=0, microsecond=0)
    days, servers, sessions = LARGE if "BBBMETER_TEST_DSN" in os.environ else SMALL
    made = History(
        end,
        arguments.days or days,
        arguments.servers or servers,
        arguments.sessions or sessions,
    )
    async with past(made, arguments.keep) as (dsn, engine):
        found = await measure(dsn, arguments.boards, arguments.ranges, arguments.repeats)
        counts = dict(await rows(dsn))
    found.sort(key=lambda one: -one["median_ms"])
    for one in found[: arguments.show]:
        print(f"{one['median_ms']:9.1f} ms  {one['range']:>4}  {one['query']}")
    slow = [one for one in found if one["median_ms"] > arguments.most_ms]
    print(f"{len(found)} queries, {len(slow)} above {arguments.most_ms} ms, {engine}: {counts}")
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(
            json.dumps({"engine": engine, "rows": counts, "queries": found}, indent=1) + "\n"
        )
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int)
    parser.add_argument("--servers", type=int)
    parser.add_argument("--sessions", type=float, help="mean concurrent number")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--ranges", nargs="+", choices=RANGES, default=list(RANGES))
    names = sorted(path.stem for path in generate.DASHBOARDS.glob("*.json"))
    parser.add_argument("--boards", nargs="+", choices=names, default=names)
    parser.add_argument("--keep", help="keep the database under this name, and reuse it")
    parser.add_argument("--show", type=int, default=20, help="print this many of the slowest")
    parser.add_argument("--most-ms", type=float, default=100)
    parser.add_argument("--out", type=Path, help="write all figures to this file, as JSON")
    sys.exit(asyncio.run(main(parser.parse_args())))
