"""The schema: comments, grants, policies, and every way in which `bbbmeter migrate` ends."""

import asyncio
import json
import shutil
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from collector import migrate as migration
from collector.errors import DatabaseError, MigrationError
from collector.jobs import update_sessions
from collector.migrate import check_edition, migrate, require_current
from collector.report import Request, fetch_report
from collector.settings import ROLLUP_SOURCE, RetentionSettings, Settings

if TYPE_CHECKING:
    from tests.integration.conftest import Feed

MakeFeed = Callable[[Settings], Awaitable["Feed"]]
MakeSettings = Callable[..., Settings]

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
T = datetime(2026, 3, 2, 10, tzinfo=UTC)
KEPT = dict.fromkeys(RetentionSettings.model_fields, 0)
FILES = ["0001_tables.sql", "0002_rollups.sql", "0003_days.sql"]


@pytest.fixture
async def connection(empty_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database without our schema."""
    connection = await asyncpg.connect(empty_dsn)
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
def schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the schema's folder that migrations are taken from, to be changed by the test."""
    copy = tmp_path / "schema"
    shutil.copytree(migration.schema_dir(), copy)
    monkeypatch.setattr(migration, "schema_dir", lambda: copy)
    return copy


_CATALOG = {
    "columns": """
        SELECT c.relname, c.relkind::text, a.attnum, a.attname, a.attnotnull, a.attidentity::text,
            format_type(a.atttypid, a.atttypmod) AS type, pg_get_expr(d.adbin, d.adrelid) AS def
        FROM pg_class AS c
        INNER JOIN pg_attribute AS a ON c.oid = a.attrelid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_attrdef AS d ON c.oid = d.adrelid AND a.attnum = d.adnum
        WHERE c.relnamespace = 'meter'::regnamespace ORDER BY c.relname, a.attnum
    """,
    "grants": """
        SELECT c.relname, c.relacl::text FROM pg_class AS c
        WHERE c.relnamespace = 'meter'::regnamespace ORDER BY c.relname
    """,
    "indexes": "SELECT * FROM pg_indexes WHERE schemaname = 'meter' ORDER BY indexname",
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) AS def
        FROM pg_constraint WHERE connamespace = 'meter'::regnamespace ORDER BY 1, 2
    """,
    "views": "SELECT * FROM pg_views WHERE schemaname = 'meter' ORDER BY viewname",
    "functions": """
        SELECT pg_get_functiondef(oid) AS def, proacl::text
        FROM pg_proc WHERE pronamespace = 'meter'::regnamespace ORDER BY proname
    """,
    "comments": """
        SELECT x.classoid::regclass::text, x.objsubid, x.description FROM pg_description AS x
        LEFT JOIN pg_class AS c ON x.objoid = c.oid AND x.classoid = 'pg_class'::regclass
        LEFT JOIN pg_proc AS p ON x.objoid = p.oid AND x.classoid = 'pg_proc'::regclass
        WHERE coalesce(c.relnamespace, p.pronamespace) = 'meter'::regnamespace ORDER BY 3, 1, 2
    """,
    "rollups": """
        SELECT view_name, materialized_only, compression_enabled, view_definition
        FROM timescaledb_information.continuous_aggregates ORDER BY 1
    """,
    "hypertables": """
        SELECT hypertable_name, num_dimensions, compression_enabled
        FROM timescaledb_information.hypertables WHERE hypertable_schema = 'meter' ORDER BY 1
    """,
    "policies": """
        SELECT coalesce(v.view_name, j.hypertable_name) AS relation, j.proc_name,
            j.schedule_interval, (j.config - 'mat_hypertable_id' - 'hypertable_id')::text AS config
        FROM timescaledb_information.jobs AS j
        LEFT JOIN timescaledb_information.continuous_aggregates AS v
            ON j.hypertable_name = v.materialization_hypertable_name
        WHERE j.job_id >= 1000 AND j.hypertable_name IS NOT NULL ORDER BY 1, 2
    """,
    "ledger": "SELECT name, sha256 FROM meter.migration ORDER BY name",
    "settings": "SELECT * FROM meter.setting ORDER BY key",
}


async def catalog(connection: asyncpg.Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Return all that makes up the schema."""
    return {k: [tuple(r) for r in await connection.fetch(q)] for k, q in _CATALOG.items()}


async def tables(connection: asyncpg.Connection) -> int:
    """Return how many relations our schema has."""
    found: int = await connection.fetchval(
        "SELECT count(*) FROM pg_class AS c INNER JOIN pg_namespace AS n "
        "ON c.relnamespace = n.oid WHERE n.nspname = 'meter'"
    )
    return found


# -- what is in it ---------------------------------------------------------------------------------


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
        SELECT c.relname || '.' || a.attname FROM pg_class AS c
        INNER JOIN pg_attribute AS a ON c.oid = a.attrelid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relnamespace = 'meter'::regnamespace AND c.relkind IN ('r', 'v', 'm', 'p')
            AND col_description(c.oid, a.attnum) IS NULL
        UNION ALL
        SELECT p.oid::regprocedure::text FROM pg_proc AS p
        WHERE p.pronamespace = 'meter'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL
        """
    )
    assert [row["thing"] for row in dumb] == []


async def test_reports_have_the_same_figures_in_the_same_order(pool: asyncpg.Pool) -> None:
    """After their keys, all reports have the same columns: the list stands in each of them."""
    keys = {
        "tenant_report": ["tenant"],
        "tenant_usage": ["period", "tenant"],
        "usage_by": ["tenant", "server", "room"],
        "my_usage": ["period", "tenant"],
    }
    rows = await pool.fetch(
        """
        SELECT p.proname, c.name, format_type(c.type, NULL) AS type
        FROM pg_proc AS p
        CROSS JOIN LATERAL unnest(p.proargnames, p.proargmodes, p.proallargtypes)
            WITH ORDINALITY AS c (name, mode, type, n)
        WHERE p.pronamespace = 'meter'::regnamespace AND p.proname = ANY($1) AND c.mode = 't'
        ORDER BY c.n
        """,
        list(keys),
    )
    figures = []
    for name, key in keys.items():
        columns = [(row["name"], row["type"]) for row in rows if row["proname"] == name]
        assert [column for column, _ in columns[: len(key)]] == key
        figures.append(columns[len(key) :])
    assert len(figures[0]) == 17
    assert all(each == figures[0] for each in figures)


def policies_of(settings: Settings) -> dict[tuple[str, str], str | int]:
    """Return {(relation, kind): days} as the settings have it; a refresh of all there is is -1."""
    kept = {(relation, "policy_retention"): days for relation, days in settings.retention if days}
    columns = {(r, "policy_compression"): days for r, days in settings.columnstore if days}
    refreshed = {
        (rollup, "policy_refresh_continuous_aggregate"): getattr(settings.retention, source) - 1
        for rollup, source in ROLLUP_SOURCE.items()
    }
    return kept | columns | refreshed


async def test_policies_are_those_of_the_settings(
    connection: asyncpg.Connection, make_settings: MakeSettings
) -> None:
    """Each retention and columnstore setting is a policy, 0 is none; all rollups refresh."""
    defaults = make_settings()
    for settings in (
        defaults,
        make_settings(
            retention=KEPT | {"sample": 9, "server_1d": 700},
            columnstore=dict.fromkeys(defaults.columnstore.model_dump(), 0) | {"poll": 3},
        ),
        make_settings(retention=KEPT),
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
            # Refreshed from the beginning, where the source is kept for ever.
            found[relation, kind] = int(days.split()[0]) if days else -1
        assert found == policies_of(settings)


async def test_data_that_come_late_reach_every_rollup(
    make_feed: MakeFeed, make_settings: MakeSettings
) -> None:
    """Whatever is stored while samples are kept is computed, also behind a later refresh.

    So after everything stood still for days, and when a collector stores days late.
    """
    feed = await make_feed(make_settings())
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    await feed.due(now - 20 * DAY, bbb1=None)

    async def hour(begin: datetime) -> None:
        run = feed.run("bbb1", "arts", "r", begin, begin + HOUR, 2)
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


async def test_hours_are_cut_so_that_days_in_kolkata_are_whole(
    make_feed: MakeFeed, make_settings: MakeSettings
) -> None:
    """A zone half an hour off has rollups by the half hour, and its own midnight."""
    feed = await make_feed(make_settings(billing_timezone="Asia/Kolkata", retention=KEPT))
    midnight = datetime(2026, 3, 2, tzinfo=ZoneInfo("Asia/Kolkata"))
    run = feed.run("bbb1", "arts", "r", midnight - 10 * MINUTE, midnight + 5 * MINUTE, 2)
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


# -- migrating -------------------------------------------------------------------------------------


async def test_migrating_again_changes_nothing(
    connection: asyncpg.Connection, make_settings: MakeSettings
) -> None:
    """A second run applies no file and leaves the same catalog, policies and grants."""
    assert await migrate(connection, make_settings()) == FILES
    once = await catalog(connection)
    assert all(once.values())
    assert await migrate(connection, make_settings()) == []
    assert await catalog(connection) == once
    await require_current(connection)


async def test_migrating_again_with_data_in_columns(
    feed: "Feed", make_settings: MakeSettings
) -> None:
    """An upgrade goes through, and changes no figure, when chunks are columns already."""
    await feed.due(T, bbb1=None)
    run = feed.run("bbb1", "arts", "r", T, T + HOUR, 3)
    await feed.play(["bbb1"], feed.ticks(T, T + HOUR), [run])
    await update_sessions(feed.pool, 120)
    await feed.refresh()
    assert await feed.columnize() >= 6
    async with feed.pool.acquire() as connection:
        before = await fetch_report(connection, Request(T - DAY, T + DAY))
        await migrate(connection, make_settings(retention=KEPT))
        assert await fetch_report(connection, Request(T - DAY, T + DAY)) == before
    assert before[0]["participant_minutes"] == 180


async def test_a_dry_run_changes_nothing(
    connection: asyncpg.Connection, make_settings: MakeSettings
) -> None:
    """It says what would be applied, to an empty database and to one with other settings."""
    assert await migrate(connection, make_settings(), dry_run=True) == FILES
    assert await tables(connection) == 0
    await migrate(connection, make_settings())
    before = await catalog(connection)
    assert await migrate(connection, make_settings(retention=KEPT), dry_run=True) == []
    other = make_settings(billing_timezone="UTC")
    assert await migrate(connection, other, dry_run=True, rebuild_days=True) == []
    assert await catalog(connection) == before


async def test_two_that_migrate_at_once_end_well(
    empty_dsn: str, make_settings: MakeSettings
) -> None:
    """One applies the files, the other one waits for it and finds them applied."""

    async def one() -> list[str]:
        connection = await asyncpg.connect(empty_dsn)
        try:
            return await migrate(connection, make_settings())
        finally:
            await connection.close()

    assert sorted(await asyncio.gather(one(), one(), one())) == [[], [], FILES]


async def test_what_policies_cross_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadlock or a lock that is taken is no end, unless it stays; other errors are one."""
    monkeypatch.setattr(migration, "_TRY_PAUSE_S", 0)
    monkeypatch.setattr(migration, "_TRIES", 3)
    crossed = [asyncpg.DeadlockDetectedError("x"), asyncpg.LockNotAvailableError("x")]

    def failing(*errors: Exception) -> Callable[[], Awaitable[str]]:
        left = list(errors)

        async def attempt() -> str:
            if left:
                raise left.pop(0)
            return "done"

        return attempt

    assert await migration._in_peace(failing(*crossed)) == "done"
    with pytest.raises(asyncpg.DeadlockDetectedError):
        await migration._in_peace(failing(*crossed, crossed[0]))
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migration._in_peace(failing(asyncpg.DivisionByZeroError("x")))


async def test_a_changed_file_is_refused(
    connection: asyncpg.Connection, make_settings: MakeSettings, schema: Path
) -> None:
    """A run-once file with another content than the one applied is named, and nothing is done."""
    await migrate(connection, make_settings())
    before = await catalog(connection)
    with (schema / "migrations" / FILES[1]).open("a") as file:
        file.write("\n-- changed\n")
    with pytest.raises(MigrationError, match=r"^0002_rollups\.sql was applied with another"):
        await migrate(connection, make_settings())
    with pytest.raises(MigrationError, match=r"0002_rollups\.sql"):
        await require_current(connection)
    assert await catalog(connection) == before


async def test_a_newer_database_is_refused(
    connection: asyncpg.Connection, make_settings: MakeSettings, schema: Path
) -> None:
    """A ledger with files that this version does not have belongs to a newer one: upgrade."""
    (schema / "migrations" / "0004_later.sql").write_text("CREATE TABLE meter.later (a int);")
    await migrate(connection, make_settings())
    (schema / "migrations" / "0004_later.sql").unlink()
    with pytest.raises(MigrationError, match=r"newer than this bbbmeter: it has 0004_later\.sql"):
        await migrate(connection, make_settings())
    with pytest.raises(MigrationError, match="newer"):
        await require_current(connection)


async def test_an_older_database_is_told_and_brought_up_to_date(
    connection: asyncpg.Connection, make_settings: MakeSettings, schema: Path
) -> None:
    """A missing run-once file is named; migrating applies it, and only it."""
    with pytest.raises(MigrationError, match=r"lacks 0001_tables\.sql, .*run `bbbmeter migrate`"):
        await require_current(connection)
    await migrate(connection, make_settings())
    (schema / "migrations" / "0004_later.sql").write_text("CREATE TABLE meter.later (a int);")
    with pytest.raises(MigrationError, match=r"lacks 0004_later\.sql: run `bbbmeter migrate`"):
        await require_current(connection)
    assert await migrate(connection, make_settings()) == ["0004_later.sql"]
    await require_current(connection)


@pytest.mark.parametrize("broken", ["migrations/0099_bad.sql", "current/96_bad.sql"])
async def test_a_file_that_fails_leaves_nothing_behind(
    connection: asyncpg.Connection, make_settings: MakeSettings, schema: Path, broken: str
) -> None:
    """An upgrade is whole or absent: the error names the file, and nothing has changed."""
    (schema / broken).write_text("CREATE TABLE meter.half (a int); SELECT 1 / 0;")
    with pytest.raises(MigrationError, match=r"^\d+_bad\.sql: division by zero"):
        await migrate(connection, make_settings())
    assert await tables(connection) == 0
    (schema / broken).unlink()
    assert await migrate(connection, make_settings()) == FILES


async def test_the_apache_edition_is_refused(
    connection: asyncpg.Connection, make_settings: MakeSettings
) -> None:
    """It lacks continuous aggregates; what is read here from the database is what decides."""
    await migrate(connection, make_settings())
    edition = await connection.fetchval("SELECT current_setting('timescaledb.license', true)")
    assert edition == "timescale"
    check_edition(edition)
    with pytest.raises(MigrationError, match=r"Apache edition.*Community edition"):
        check_edition("apache")


# -- days cut anew ---------------------------------------------------------------------------------


async def days(feed: "Feed", table: str = "usage_1d") -> dict[datetime, int]:
    """Return the sums of a day rollup, by the beginning of the day in UTC."""
    column = {"usage_1d": "participant_seconds", "server_1d": "polls", "session_1d": "sessions"}
    query = f"SELECT bucket, sum({column[table]}) AS s FROM meter.{table} GROUP BY 1"  # noqa: S608
    return {row["bucket"]: int(row["s"]) for row in await feed.pool.fetch(query)}


async def test_another_billing_time_zone_cuts_days_anew(
    feed: "Feed", make_settings: MakeSettings
) -> None:
    """It is refused without --rebuild-days; with it totals stay and days begin elsewhere."""
    await feed.due(T, bbb1=None)
    runs = [
        feed.run("bbb1", "arts", f"r{n}", T + n * 5 * HOUR, T + n * 5 * HOUR + HOUR, n + 1)
        for n in range(12)
    ]
    await feed.play(["bbb1"], list(feed.ticks(T, T + 60 * HOUR))[::10], runs)
    await update_sessions(feed.pool, 120)
    await feed.refresh()
    rollups = ("usage_1d", "server_1d", "session_1d")
    before = {table: await days(feed, table) for table in rollups}
    request = Request(T - 30 * DAY, T + 30 * DAY)
    tokyo = make_settings(retention=KEPT, billing_timezone="Asia/Tokyo")
    async with feed.pool.acquire() as connection:
        whole = await fetch_report(connection, request)
        with pytest.raises(MigrationError, match=r"Europe/Berlin → Asia/Tokyo.*--rebuild-days"):
            await migrate(connection, tokyo)
        assert await days(feed) == before["usage_1d"]
        await migrate(connection, tokyo, rebuild_days=True)
        assert await fetch_report(connection, request) == whole
        assert await connection.fetchval("SELECT meter.billing_timezone()") == "Asia/Tokyo"
        await migrate(connection, tokyo)
    for table in rollups:
        after = await days(feed, table)
        assert sum(after.values()) == sum(before[table].values()) > 0
        assert {day.hour for day in before[table]} == {23}
        assert {day.hour for day in after} == {15}
    assert await materialized_days(feed) == len(await days(feed))


async def test_a_rebuild_that_was_cut_off_is_finished_by_the_next_run(
    feed: "Feed", make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Days are made anew in one step and computed in another: a crash between loses nothing."""
    await feed.due(T, bbb1=None)
    run = feed.run("bbb1", "arts", "r", T, T + 60 * HOUR, 3)
    await feed.play(["bbb1"], list(feed.ticks(T, T + 60 * HOUR))[::10], [run])
    await update_sessions(feed.pool, 120)
    await feed.refresh()
    tokyo = make_settings(retention=KEPT, billing_timezone="Asia/Tokyo")
    request = Request(T - 30 * DAY, T + 30 * DAY)
    async with feed.pool.acquire() as connection:
        whole = await fetch_report(connection, request)

        async def crash(*_: object) -> None:
            raise ConnectionError

        with monkeypatch.context() as patch:
            patch.setattr(migration, "_refresh", crash)
            with pytest.raises(DatabaseError):
                await migrate(connection, tokyo, rebuild_days=True)
        assert len(await connection.fetch("SELECT * FROM meter.setting")) == 3
        await migrate(connection, tokyo)
        assert await materialized_days(feed) == len(await days(feed)) == 4
        assert await fetch_report(connection, request) == whole
        assert len(await connection.fetch("SELECT * FROM meter.setting")) == 2


async def materialized_days(feed: "Feed") -> int:
    """Return how many rows of usage_1d are stored, not computed on reading."""
    table = await feed.pool.fetchval(
        "SELECT format('%I.%I', materialization_hypertable_schema, "
        "materialization_hypertable_name) FROM timescaledb_information.continuous_aggregates "
        "WHERE view_name = 'usage_1d'"
    )
    stored: int = await feed.pool.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608
    return stored


async def test_rebuilding_days_is_refused_where_history_would_be_lost(
    feed: "Feed", make_settings: MakeSettings
) -> None:
    """Days of which the source no longer holds all cannot be cut anew: also when it is empty."""
    await feed.due(T, bbb1=None)
    runs = [feed.run("bbb1", "arts", f"r{n}", T + n * DAY, T + n * DAY + HOUR) for n in range(24)]
    await feed.play(["bbb1"], [T + n * DAY + m * HOUR for n in range(24) for m in (0, 3)], runs)
    await update_sessions(feed.pool, 120)
    await feed.refresh()
    before = await days(feed)
    utc = make_settings(retention=KEPT, billing_timezone="UTC")
    for until, said in ((T + 15 * DAY, r"\d+ days"), (T + 99 * DAY, "24 days")):
        # From below, for an empty rollup shows what the one below it still has.
        for relation in ("sample", "usage_1m", "usage_1h"):
            dropped = await feed.pool.fetch(
                "SELECT public.drop_chunks($1::regclass, older_than => $2::timestamptz)",
                f"meter.{relation}",
                until,
            )
            assert dropped
        async with feed.pool.acquire() as connection:
            with pytest.raises(MigrationError, match=f"{said} of usage_1d .* would be lost"):
                await migrate(connection, utc, rebuild_days=True)
        assert await days(feed) == before


async def test_days_that_are_cut_by_a_chunks_edge_are_history_too(
    feed: "Feed", make_settings: MakeSettings
) -> None:
    """A day of which the source holds the second half only is not made anew from that."""
    await feed.due(T, bbb1=None)
    (edge,) = [
        row["range_end"]
        for row in await feed.pool.fetch(
            "SELECT to_timestamp(ceil(extract(EPOCH FROM $1::timestamptz) / 864000) * 864000) "
            "AS range_end",
            T,
        )
    ]
    ticks = [edge + n * HOUR for n in range(-1, 4)]
    runs = [feed.run("bbb1", "arts", "r", ticks[0], ticks[-1] + HOUR)]
    await feed.play(["bbb1"], ticks, runs)
    await feed.refresh()
    await feed.pool.execute(
        "SELECT public.drop_chunks('meter.usage_1h', older_than => $1::timestamptz)", edge
    )
    left = await feed.pool.fetchval("SELECT sum(session_seconds) FROM meter.usage_1h")
    whole = await feed.pool.fetchval("SELECT sum(session_seconds) FROM meter.usage_1d")
    assert 0 < left < whole
    async with feed.pool.acquire() as connection:
        with pytest.raises(MigrationError, match="1 days of usage_1d"):
            await migrate(
                connection,
                make_settings(retention=KEPT, billing_timezone="UTC"),
                rebuild_days=True,
            )


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "Asia/Kathmandu"])
async def test_days_that_need_other_hours_are_refused(
    connection: asyncpg.Connection, make_settings: MakeSettings, zone: str
) -> None:
    """Rollups by the hour cannot be cut anew: the error says so, and nothing is changed."""
    await migrate(connection, make_settings())
    before = await catalog(connection)
    with pytest.raises(MigrationError, match="hours would have to be cut anew"):
        await migrate(connection, make_settings(billing_timezone=zone), rebuild_days=True)
    assert await catalog(connection) == before


async def test_another_size_of_large_sessions_counts_anew(
    feed: "Feed", make_settings: MakeSettings
) -> None:
    """The count of large sessions is in the day rollups: it needs --rebuild-days as well."""
    await feed.due(T, bbb1=None)
    runs = [feed.run("bbb1", "arts", f"r{n}", T, T + HOUR, n * 10) for n in range(5)]
    await feed.play(["bbb1"], feed.ticks(T, T + HOUR), runs)
    await update_sessions(feed.pool, 120)
    await feed.refresh()
    smaller = make_settings(retention=KEPT, large_session_participants=20)
    query = "SELECT sum(large_sessions) FROM meter.session_1d"
    assert await feed.pool.fetchval(query) == 0
    async with feed.pool.acquire() as connection:
        with pytest.raises(MigrationError, match=r"large_session_participants \(100 → 20\)"):
            await migrate(connection, smaller)
        await migrate(connection, smaller, rebuild_days=True)
    assert await feed.pool.fetchval(query) == 2


# -- who may do what -------------------------------------------------------------------------------


_READABLE = {
    "setting", "tenant", "server", "server_due", "room", "session", "poll", "sample", "usage_1m",
    "usage_1h", "usage_1d", "session_1h", "session_1d", "server_1h", "server_1d", "late",
    "collector", "contract", "poll_1h", "fleet_1m", "fleet_1h", "start_1h", "session_figures",
    "server_now", "collector_now",
}  # fmt: skip
# The last ones are for tenants' roles.
_NOT_READABLE = {
    "migration", "tenant_role",
    "my_tenant", "my_room", "my_session", "my_sample", "my_usage_1m", "my_usage_1h", "my_contract",
}  # fmt: skip


async def test_every_table_is_granted_or_kept_from_readers_on_purpose(pool: asyncpg.Pool) -> None:
    """A new table has to be put on one of the two lists: one with personal data must not slip."""
    rows = await pool.fetch(
        "SELECT relname, has_table_privilege('bbbmeter_reader', oid, 'SELECT') AS readable, "
        "has_table_privilege('bbbmeter_reader', oid, 'INSERT, UPDATE, DELETE') AS writable "
        "FROM pg_class WHERE relnamespace = 'meter'::regnamespace AND relkind IN ('r', 'v')"
    )
    assert {row["relname"] for row in rows if row["readable"]} == _READABLE
    assert {row["relname"] for row in rows if not row["readable"]} == _NOT_READABLE
    assert not any(row["writable"] for row in rows)


async def test_a_reader_reads_every_report_and_writes_nothing(feed: "Feed") -> None:
    """bbbmeter_reader gets the owner's figures, also from columns, and changes nothing."""
    await feed.due(T, bbb1=None)
    run = feed.run("bbb1", "arts", "r", T, T + HOUR, 3)
    await feed.play(["bbb1"], feed.ticks(T, T + HOUR), [run])
    await update_sessions(feed.pool, 120)
    queries = [
        "SELECT * FROM meter.tenant_report($1, $2)",
        "SELECT * FROM meter.tenant_usage($1, $2, 'day')",
        "SELECT * FROM meter.usage_by($1, $2, 'room')",
        "SELECT * FROM meter.usage_by($1, $2, 'server', 'bbb1')",
        "SELECT * FROM meter.server_coverage($1, $2, 'month')",
        *(
            f"SELECT * FROM meter.{table} WHERE $1::timestamptz < $2::timestamptz ORDER BY 1, 2"  # noqa: S608
            for table in sorted(_READABLE)
        ),
    ]
    periods = [(T + MINUTE, T + HOUR / 2), (T - DAY, T + DAY)]
    async with feed.pool.acquire() as connection:
        for state in ("fresh", "refreshed", "columns"):
            if state == "refreshed":
                await feed.refresh()
            if state == "columns":
                await feed.columnize()
            for period in periods:
                answers = [await connection.fetch(query, *period) for query in queries]
                await connection.execute("SET ROLE bbbmeter_reader")
                assert [await connection.fetch(query, *period) for query in queries] == answers
                await connection.execute("RESET ROLE")
        await connection.execute("SET ROLE bbbmeter_reader")
        for forbidden in (
            "INSERT INTO meter.tenant (name) VALUES ('mallory')",
            "UPDATE meter.session SET participant_seconds = 0",
            "DELETE FROM meter.sample",
            "TRUNCATE meter.poll",
            "SELECT * FROM meter.migration",
            "SELECT meter.update_sessions(0)",
            "SELECT meter.set_retention('meter.sample', 1)",
            "CREATE TABLE meter.mine (a int)",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(forbidden)


async def test_nobody_else_may_call_functions(feed: "Feed") -> None:
    """PUBLIC has neither the schema nor the right to call its functions."""
    open_to_all = await feed.pool.fetch(
        "SELECT p.proname FROM pg_proc AS p CROSS JOIN LATERAL aclexplode("
        "coalesce(p.proacl, acldefault('f', p.proowner))) AS a "
        "WHERE p.pronamespace = 'meter'::regnamespace AND a.grantee = 0"
    )
    assert open_to_all == []


async def test_a_writer_collects_and_reports(
    feed: "Feed", empty_dsn: str, make_settings: MakeSettings
) -> None:
    """bbbmeter_writer can do all that a collector does, also in columns; but not delete or own."""
    begin = T
    async with asyncpg.create_pool(
        empty_dsn,
        min_size=1,
        max_size=1,
        reset=_keep_role,
        init=lambda connection: connection.execute("SET ROLE bbbmeter_writer"),
    ) as pool:
        collector = type(feed)(pool, feed._make_server)
        for step in range(2):
            await collector.due(begin, bbb1="arts", bbb2=None)
            run = feed.run("bbb1", "arts", "r", T, begin + HOUR, 3)
            ticks = list(feed.ticks(begin, begin + HOUR))
            await collector.play(["bbb1"], ticks, [run])
            await update_sessions(pool, 120)
            async with pool.acquire() as connection:
                assert await connection.fetchval("SELECT current_user") == "bbbmeter_writer"
                await require_current(connection)
                (row,) = await fetch_report(connection, Request(T, begin + HOUR))
                assert row["participant_minutes"] == 180 * (step + 1)
            # The same day again, when its chunks have become columns.
            await feed.refresh()
            await feed.columnize()
            begin += HOUR
        for forbidden in ("DELETE FROM meter.sample", "UPDATE meter.poll SET ok = TRUE"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await pool.execute(forbidden)
        with pytest.raises(DatabaseError, match="permission denied"):
            async with pool.acquire() as connection:
                await migrate(connection, make_settings(retention=KEPT))


async def _keep_role(_: asyncpg.Connection) -> None:
    """Leave the connection as it is, where a pool would put settings back."""


async def test_an_owner_who_may_make_no_roles_migrates_all_the_same(
    connection: asyncpg.Connection, make_settings: MakeSettings, schema: Path
) -> None:
    """As with hosted databases: a notice says which roles are missing, and all else is there."""
    owner = f"owner_{uuid.uuid4().hex}"
    grants = schema / "current" / "95_grants.sql"
    grants.write_text(grants.read_text().replace("bbbmeter_", f"{owner}_"))
    said: list[str] = []
    connection.add_log_listener(lambda _, message: said.append(message.message))
    await connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    database = await connection.fetchval("SELECT quote_ident(current_database())")
    await connection.execute(f"CREATE ROLE {owner} LOGIN")
    await connection.execute(f"GRANT CREATE ON DATABASE {database} TO {owner}")
    try:
        await connection.execute(f"SET ROLE {owner}")
        for _ in range(2):
            # In one transaction, so that no policy runs when the schema goes.
            async with connection.transaction():
                await migrate(connection, make_settings())
                await connection.execute(
                    "SELECT public.alter_job(job_id, scheduled => FALSE) "
                    "FROM timescaledb_information.jobs WHERE job_id >= 1000"
                )
        assert (
            await connection.fetch("SELECT * FROM meter.tenant_report($1, $2)", T, T + HOUR) == []
        )
    finally:
        await connection.execute("RESET ROLE")
        await connection.execute("DROP SCHEMA IF EXISTS meter CASCADE")
        await connection.execute(f"REVOKE CREATE ON DATABASE {database} FROM {owner}")
        await connection.execute(f"DROP ROLE {owner}")
    for role in ("reader", "writer"):
        assert f"role {owner}_{role} is missing, and this user cannot create it" in said
