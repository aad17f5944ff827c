"""What is in the schema: comments, policies, and rollups that follow their data."""

import json
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import asyncpg

from collector.database.migrate import migrate
from collector.reports.figures import FIGURES
from collector.rollups import ROLLUPS
from collector.settings import Settings
from tests.support.catalog import catalog
from tests.support.feed import MakeFeed, Run
from tests.support.settings import KEEP_ALL, make_settings

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


async def test_everything_has_a_comment(pool: asyncpg.Pool) -> None:
    """The schema and each table, view, column and function says what it means."""
    dumb = await pool.fetch(
        """
        SELECT 'schema meter' AS thing
        WHERE obj_description('meter'::regnamespace, 'pg_namespace') IS NULL
        UNION ALL
        SELECT c.relname FROM pg_class AS c
        WHERE c.relnamespace = 'meter'::regnamespace AND c.relkind IN ('r', 'v', 'm', 'p')
            AND obj_description(c.oid, 'pg_class') IS NULL
        UNION ALL
        SELECT c.relname FROM pg_class AS c
        WHERE c.relnamespace = 'meter'::regnamespace AND c.relkind = 'c'
            AND obj_description(c.reltype, 'pg_type') IS NULL
        UNION ALL
        SELECT c.relname || '.' || a.attname FROM pg_class AS c
        INNER JOIN pg_attribute AS a ON c.oid = a.attrelid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relnamespace = 'meter'::regnamespace AND c.relkind IN ('r', 'v', 'm', 'p', 'c')
            AND col_description(c.oid, a.attnum) IS NULL
        UNION ALL
        SELECT p.oid::regprocedure::text FROM pg_proc AS p
        WHERE p.pronamespace = 'meter'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL
        """
    )
    assert [row["thing"] for row in dumb] == []


async def test_every_report_has_the_same_columns(pool: asyncpg.Pool) -> None:
    """All report functions return one type: what a row is about, then the figures in order."""
    columns = await pool.fetchval(
        "SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute "
        "WHERE attrelid = 'meter.report_row'::regclass AND attnum > 0 AND NOT attisdropped"
    )
    assert columns == ["period", "tenant", "server", "room", *(f.name for f in FIGURES)]
    functions = await pool.fetch(
        "SELECT proname, proretset FROM pg_proc WHERE prorettype = 'meter.report_row'::regtype"
    )
    reports = {"tenant_report", "tenant_usage", "usage_by", "my_usage"}
    assert {row["proname"] for row in functions if row["proretset"]} == reports


def policies_of(settings: Settings) -> dict[tuple[str, str], int]:
    """Return {(relation, kind): days} as the settings have it; a refresh of all there is is -1."""
    kept = {
        (relation, "policy_retention"): days
        for relation, days in settings.kept_days.items()
        if days
    }
    columns = {(r, "policy_compression"): days for r, days in settings.columnstore_days.items()}
    refreshed = {
        (rollup, "policy_refresh_continuous_aggregate"): settings.kept_days[source] - 1
        for rollup, source in ((r.name, r.source) for r in ROLLUPS.values())
    }
    return {key: days for key, days in (kept | columns).items() if days} | refreshed


async def test_policies_are_those_of_the_settings(connection: asyncpg.Connection) -> None:
    """Each retention and columnstore setting is a policy, 0 is none; all rollups refresh."""
    defaults = make_settings()
    for settings in (
        defaults,
        make_settings(
            retention=KEEP_ALL | {"sample": 9, "server_1d": 700},
            columnstore=dict.fromkeys(defaults.columnstore.model_dump(), 0) | {"poll": 3},
        ),
        make_settings(retention=KEEP_ALL),
        defaults,
    ):
        await migrate(connection, settings)
        found = {}
        for relation, kind, _, text in (await catalog(connection))["policies"]:
            config = json.loads(text)
            (days,) = (
                config[key]
                for key in ("drop_after", "compress_after", "start_offset")
                if key in config
            )
            # Refreshed from the beginning, where all of the source is kept.
            found[relation, kind] = int(days.split()[0]) if days else -1
        assert found == policies_of(settings)


async def test_data_that_come_late_reach_every_rollup(make_feed: MakeFeed) -> None:
    """Whatever is stored while samples are kept is computed, also behind a later refresh.

    So after everything stood still for days, and when a collector stores days late.
    """
    feed = await make_feed(make_settings())
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    await feed.due(now - 20 * DAY, bbb1=None)

    async def hour(begin: datetime) -> None:
        run = Run("bbb1", "arts", "r", begin, begin + HOUR, 2)
        await feed.play(["bbb1"], feed.ticks(begin, begin + HOUR), [run])

    async def run_policies() -> None:
        for job in await feed.pool.fetch(
            "SELECT job_id FROM timescaledb_information.jobs "
            "WHERE proc_name = 'policy_refresh_continuous_aggregate' ORDER BY job_id"
        ):
            await feed.pool.execute(f"CALL public.run_job({job['job_id']})")

    await hour(now - 20 * DAY)
    await hour(now - 2 * HOUR)
    await run_policies()
    await hour(now - 10 * DAY)
    await run_policies()
    for rollup in ("usage_1m", "usage_1h", "usage_1d", "session_1h", "server_1h", "server_1d"):
        query = f"SELECT sum(participant_seconds) FROM meter.{rollup}"  # noqa: S608
        assert await feed.pool.fetchval(query) == 3 * 2 * 3600, rollup
    assert await feed.pool.fetchval("SELECT sum(sessions) FROM meter.session_1d") == 3


async def test_hours_are_cut_so_that_days_in_kolkata_are_whole(make_feed: MakeFeed) -> None:
    """A zone half an hour off has rollups by the half hour, and its own midnight."""
    feed = await make_feed(make_settings(billing_timezone="Asia/Kolkata", retention=KEEP_ALL))
    midnight = datetime(2026, 3, 2, tzinfo=ZoneInfo("Asia/Kolkata"))
    run = Run("bbb1", "arts", "r", midnight - 10 * MINUTE, midnight + 5 * MINUTE, 2)
    await feed.due(run.begin, bbb1=None)
    await feed.play(["bbb1"], feed.ticks(run.begin, run.end), [run])
    await feed.refresh()
    query = "SELECT bucket, participant_seconds FROM meter.usage_1d ORDER BY bucket"
    assert [tuple(row) for row in await feed.pool.fetch(query)] == [
        (midnight - DAY, 1200),
        (midnight, 600),
    ]
    hours = [r["bucket"] for r in await feed.pool.fetch(query.replace("1d", "1h"))]
    assert hours == [midnight - HOUR / 2, midnight]
