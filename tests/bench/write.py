"""Measures samples per second: the writer's statement, a plain COPY, and inserts row by row.

They write the same samples in turn, row by row only a part of them, into tables of the same kind.
The writer also checks that no poll is stored twice, and stores polls and sessions with the samples.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg

from collector.database.migrate import migrate
from collector.model import Batch, PollRow, Sample, SessionRow
from collector.storage.writer import Writer
from tests.bench.database import empty
from tests.support.settings import make_settings

_INTERVAL_S = 30
_COLUMNS = (
    *("ts", "tenant_id", "server_id", "session_id", "participants", "voice", "video"),
    *("listeners", "dialins", "seconds", "breakout", "filled"),
)
_TABLE = """
CREATE TABLE public.bare (LIKE meter.sample);
SELECT public.create_hypertable(
    'public.bare', public.by_range('ts', interval '1 day'), create_default_indexes => FALSE
);
CREATE INDEX ON public.bare (ts);
CREATE INDEX ON public.bare (session_id, ts)
"""
_INSERT = f"""
INSERT INTO public.bare ({", ".join(_COLUMNS)})
VALUES ({", ".join(f"${n}" for n in range(1, len(_COLUMNS) + 1))})
"""  # noqa: S608 - columns are named above


def batch(tick: datetime, servers: int, meetings: int, *, first: bool) -> Batch:
    """Return the batch of a tick; the `first` one announces the sessions."""
    made = Batch()
    for server in range(servers):
        name = f"bench{server:04}"
        made.polls.append(PollRow(*(tick, name, True, "ok", 40, _INTERVAL_S, 0), *([meetings] * 7)))
        for meeting in range(meetings):
            identity = server * 1_000_000 + meeting
            tenant = f"tenant{meeting % 20:02}"
            if first:
                made.sessions.append(
                    SessionRow(
                        *(tick, name, identity, f"{identity}", tick, tenant, f"room{meeting}"),
                        *(None, None, False, False),
                    )
                )
            made.samples.append(
                Sample(
                    *(tick, name, tick, tenant, identity, 10, 8, 3, 2, 0, _INTERVAL_S),
                    *(False, False),
                )
            )
    return made


def records(made: Batch) -> list[tuple[Any, ...]]:
    """Return the samples as rows of the plain table."""
    return [
        (s.ts, int(s.tenant[-2:]), int(s.server[-4:]), s.session_id, *s[5:]) for s in made.samples
    ]


async def measure(servers: int, meetings: int, ticks: int, per_row: int) -> dict[str, Any]:
    """Return samples per second for each way of writing, as medians over ticks."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    took: dict[str, list[float]] = {"bbbmeter": [], "copy": [], "row by row": []}

    async def timed(way: str, count: int, work: Awaitable[Any]) -> None:
        begun = time.perf_counter()
        await work
        took[way].append(count / (time.perf_counter() - begun))

    async def one_by_one(to: Any, rows: list[tuple[Any, ...]]) -> None:  # noqa: ANN401
        for row in rows:
            await to.execute(_INSERT, *row)

    async with empty() as (dsn, engine), asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
        writer = Writer(pool)
        async with pool.acquire() as connection:
            await migrate(connection, make_settings())
            for statement in _TABLE.split(";"):
                await connection.execute(statement)
        for number in range(ticks + 1):
            tick = now + timedelta(seconds=number * _INTERVAL_S)
            made = batch(tick, servers, meetings, first=number == 0)
            rows = records(made)
            await timed("bbbmeter", len(rows), writer.write(made))
            async with pool.acquire() as connection:
                if engine == "native":  # COPY of over 1,000 rows is too much for the other
                    copied = connection.copy_records_to_table(
                        "bare", schema_name="public", columns=_COLUMNS, records=rows
                    )
                    await timed("copy", len(rows), copied)
                some = rows[:per_row]
                await timed("row by row", len(some), one_by_one(connection, some))
    # The first tick is not measured: it also announces the sessions.
    rates = {way: round(statistics.median(all_[1:])) for way, all_ in took.items() if all_}
    return {"engine": engine, "samples_a_tick": servers * meetings, "samples_a_second": rates}


async def main(arguments: argparse.Namespace) -> int:
    """Measure, print, and write the figures as JSON."""
    found = await measure(
        arguments.servers, arguments.meetings, arguments.ticks, arguments.row_by_row
    )
    for way, rate in found["samples_a_second"].items():
        print(f"{rate:10,} samples/s  {way} ({found['engine']})")
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", type=int, default=100)
    parser.add_argument("--meetings", type=int, default=100)
    parser.add_argument("--ticks", type=int, default=15)
    parser.add_argument("--row-by-row", type=int, default=1000, help="rows of each tick, singly")
    parser.add_argument("--out", type=Path, help="write all figures to this file, as JSON")
    sys.exit(asyncio.run(main(parser.parse_args())))
