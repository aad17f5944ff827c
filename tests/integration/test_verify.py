"""`bbbmeter verify`: a sound database has no findings, and a check that fails stops no other."""

import asyncpg
import pytest

from collector.model import LATER_COUNTS
from collector.settings import Settings
from collector.verify import verify
from collector.verify.recount import RECOUNTS
from collector.verify.storage import policies_of
from tests.support.feed import Feed
from tests.support.settings import make_settings
from tests.support.verify import DAY, HOURS, NAMES, look


async def test_what_is_whole(whole: Feed, settings: Settings) -> None:
    """Every check of a sound database is ok, and examines something."""
    found = await look(whole, settings)
    assert {name: (r.note, r.findings) for name, r in found.items() if not r.ok} == {}
    nothing = {name for name, r in found.items() if r.status != "ok"}
    # No late data are left; the embedded engine runs no jobs by itself.
    assert nothing in ({"late data"}, {"late data", "jobs"})
    assert all(result.examined for name, result in found.items() if name not in nothing)
    counts = {name: found[name].examined for name in NAMES if name.startswith("rollup ")}
    assert counts == {
        "rollup usage_1m": 3 * (60 + 50),
        "rollup usage_1h": 2 * (1 + 2 + 1),
        "rollup usage_1d": 2 * 3,
        "rollup session_1h": 4 * (1 + 2 + 1) - 1,
        "rollup session_1d": 2 * 3,
        # In the second hour, some end in the same one and some in the next.
        "rollup start_1h": 1 + 2 + 1,
        "rollup server_1h": 2 * (1 + 2 + 1),
        "rollup server_1d": 2 * 3,
        # Of each server: those that were good, and one that failed.
        "rollup poll_1h": 2 * (1 + 2 + 1) + 2 * 3,
        "rollup fleet_1m": 3 * 60,
        "rollup fleet_1h": 1 + 2 + 1,
        **{f"rollup {count}_1h": 2 * (1 + 2 + 1) for count in LATER_COUNTS},
        **{f"rollup {count}_1d": 2 * 3 for count in LATER_COUNTS},
        "rollup unseen_1h": 2 * 3,
        "rollup unseen_1d": 2 * 3,
    }
    assert found["sessions"].examined == 12
    assert found["polls"].examined == 720
    assert found["polls"].note == "failed: timeout 6"


async def test_a_database_without_data(pool: asyncpg.Pool) -> None:
    """What examined nothing says so; only policies are there, and they do not run."""
    results = {r.name: r for r in await verify(pool, make_settings(), second_look_s=0)}
    assert {name for name, r in results.items() if r.status == "nothing"} >= set(NAMES[:15])
    assert results["policies"].total == len(policies_of(make_settings()))


async def test_every_column_is_compared(feed: Feed) -> None:
    """What a rollup has, the check knows."""
    rows = await feed.pool.fetch(
        "SELECT table_name, column_name FROM information_schema.columns "
        "WHERE table_schema = 'meter' AND table_name = ANY($1::text[])",
        [rollup.name for rollup in RECOUNTS],
    )
    assert {(row[0], row[1]) for row in rows} == {
        (rollup.name, column)
        for rollup in RECOUNTS
        for column in ("bucket", *rollup.keys, *rollup.figures)
    }


async def test_a_check_that_fails_stops_no_other(whole: Feed, settings: Settings) -> None:
    """It is reported with its reason."""
    await whole.pool.execute("DROP FUNCTION meter.missing_polls")
    await whole.pool.execute("ALTER TABLE meter.session RENAME COLUMN video_seconds TO video")
    found = await look(whole, settings)
    assert {name for name, result in found.items() if not result.ok} == {"sessions", "polls"}
    assert found["polls"].status == "failed"
    assert "missing_polls" in found["polls"].note


@pytest.mark.usefixtures("whole")
async def test_as_a_reader(empty_dsn: str, settings: Settings) -> None:
    """Who may only read can verify all of it."""

    async def become(connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]") -> None:
        await connection.execute("SET ROLE bbbmeter_reader")

    async with asyncpg.create_pool(empty_dsn, min_size=1, max_size=1, setup=become) as pool:
        until = HOURS[-1] + 2 * DAY
        results = await verify(pool, settings, until=until, second_look_s=0)
        assert await pool.fetchval("SELECT current_user") == "bbbmeter_reader"
    assert {r.name: (r.note, r.findings) for r in results if not r.ok} == {}
    assert sum(result.examined for result in results) > 1000
