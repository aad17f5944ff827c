"""Data that come late or twice: what hangs on them is seen to, on the database's side."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from collector.jobs import settle, update_sessions

if TYPE_CHECKING:
    from tests.integration.conftest import Feed

TICK = timedelta(seconds=30)
T = datetime(2026, 3, 2, 10, tzinfo=UTC)
AT_ONCE = timedelta(0)


async def minutes(feed: "Feed") -> dict[str, float]:
    """Return the participant minutes of the samples and of each rollup."""
    found = {
        "sample": await feed.pool.fetchval(
            "SELECT sum(participants * seconds) / 60.0 FROM meter.sample"
        )
    }
    for rollup in ("usage_1m", "usage_1h", "usage_1d", "session_1h", "server_1h", "server_1d"):
        found[rollup] = await feed.pool.fetchval(
            f"SELECT sum(participant_seconds) / 60.0 FROM meter.{rollup}"  # noqa: S608
        )
    return {name: float(value or 0) for name, value in found.items()}


async def test_a_real_sample_takes_the_place_of_a_filled_one(feed: "Feed") -> None:
    """Another collector filled ticks which this one had polled and brings only now."""
    run = feed.run("bbb1", "arts", "r", T, T + 10 * TICK, participants=4)
    await feed.play(["bbb1"], [T], [run])
    batch = feed.batch(["bbb1"], [T + 4 * TICK], [run])
    batch.samples += [feed.sample(run, T + n * TICK, poll_ts=T + 4 * TICK) for n in (1, 2, 3)]
    await feed.writer.write(batch)
    late = feed.batch(["bbb1"], [T + 2 * TICK], [replace(run, participants=9)])
    await feed.writer.write(late, late=True)
    assert await feed.pool.fetchval("SELECT count(*) FROM meter.sample") == 6
    for columns in (False, True):
        if columns:
            await feed.columnize()
            again = feed.batch(["bbb1"], [T + 3 * TICK], [replace(run, participants=9)])
            await feed.writer.write(again, late=True)
        await settle(feed.pool, AT_ONCE)
        rows = await feed.pool.fetch("SELECT ts, participants, filled FROM meter.sample ORDER BY ts")
        nine = (2, 3) if columns else (2,)
        assert [tuple(row) for row in rows] == [
            (T + n * TICK, 9 if n in nine else 4, n in {1, 3} - set(nine)) for n in range(5)
        ]
