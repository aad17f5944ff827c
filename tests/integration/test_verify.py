"""`bbbmeter verify`: what is whole is found whole; each fault is found where it is, and mended."""

# ruff: noqa: S608 - the names of tables come from the catalog

import asyncio
import json
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from collector.database.upkeep import settle, update_sessions
from collector.settings import ColumnstoreSettings, Settings
from collector.verify import Result, repair, verify
from collector.verify.recount import RECOUNTS, Recount
from tests.support.feed import Feed, MakeFeed, Run
from tests.support.settings import KEEP_ALL, make_settings

# The clocks go forward in Berlin on the second of these days; polls for an hour on each of them.
HOURS = [
    datetime(2026, 3, 28, 9, tzinfo=UTC),
    datetime(2026, 3, 29, 21, 30, tzinfo=UTC),  # across midnight
    datetime(2026, 3, 30, 9, tzinfo=UTC),
]
TICK, HOUR, DAY = timedelta(seconds=30), timedelta(hours=1), timedelta(days=1)
NAMES = [
    *(f"rollup {rollup.name}" for rollup in RECOUNTS),
    *("sessions", "samples", "polls", "late data", "chunks", "policies", "jobs"),
]


@pytest.fixture
def settings() -> Settings:
    """Settings that keep everything for ever."""
    return make_settings(retention=KEEP_ALL)


@pytest.fixture
async def whole(feed: Feed) -> Feed:
    """Three days of two servers, with failures and filled gaps, all of it seen to."""
    for begin in HOURS:
        end = begin + HOUR
        await feed.due(begin, bbb1=None, bbb2=None)
        runs = [
            Run("bbb1", "arts", "a", begin, end, 5, voice=2, video=1),
            Run("bbb1", "arts", "b", begin + 10 * TICK, begin + 40 * TICK, 3, listeners=1),
            Run("bbb1", "arts", "b", begin + TICK, end - TICK, 2, breakout=True),
            Run("bbb2", "law", "c", begin + 20 * TICK, end, 7, dialins=2),
        ]
        failed = {("bbb1", begin + 50 * TICK), ("bbb2", begin)}
        batch = feed.batch(["bbb1", "bbb2"], feed.ticks(begin, end), runs, failed=failed)
        batch.samples.append(feed.sample(runs[0], begin + 50 * TICK, poll_ts=begin + 51 * TICK))
        await feed.writer.write(batch)
        await feed.due(end)
        await feed.pool.execute(
            "INSERT INTO meter.collector (id, host, since, until, safe_until) "
            "VALUES ('one', 'h', $1, $2, $2)",
            begin - HOUR,
            end + HOUR,
        )
    await finish(feed)
    await feed.columnize()
    await feed.pool.execute(
        "SELECT public.alter_job(job_id, scheduled => TRUE, next_start => 'infinity') "
        "FROM timescaledb_information.jobs WHERE job_id >= 1000"
    )
    return feed


async def finish(feed: Feed) -> None:
    """See to late data, sessions and rollups."""
    await settle(feed.pool, timedelta(0))
    await update_sessions(feed.pool, close_after_s=120)
    await feed.refresh()


async def look(feed: Feed, settings: Settings, **period: datetime) -> dict[str, Result]:
    """Verify these days; return the results by name."""
    period = {"until": HOURS[-1] + 2 * DAY} | period
    results = await verify(feed.pool, settings, second_look_s=0, **period)
    assert [result.name for result in results] == NAMES
    return {result.name: result for result in results}


async def wrong(feed: Feed, settings: Settings) -> dict[str, int]:
    """Verify; return the number of findings of the checks that have any, none having failed."""
    found = await look(feed, settings)
    assert [result.note for result in found.values() if result.status == "failed"] == []
    return {name: result.total for name, result in found.items() if not result.ok}


async def mended(feed: Feed, settings: Settings) -> dict[str, int]:
    """Verify and repair; return what is wrong after."""
    await repair(feed.pool, settings, list((await look(feed, settings)).values()))
    return await wrong(feed, settings)


async def materialized(feed: Feed, rollup: str) -> str:
    """Return the name of the table in which a rollup's rows stand."""
    name: str = await feed.pool.fetchval(
        "SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)"
        " FROM timescaledb_information.continuous_aggregates"
        " WHERE view_schema = 'meter' AND view_name = $1",
        rollup,
    )
    return name


def run_of(at: datetime, room: str = "a") -> int:
    """Return the id of the session of a room at a time."""
    return Run("bbb1", "arts", room, at, at).session_id


async def test_what_is_whole(whole: Feed, settings: Settings) -> None:
    """Every check of a sound database is ok, and examines something."""
    found = await look(whole, settings)
    assert {name: (r.note, r.findings) for name, r in found.items() if not r.ok} == {}
    nothing = {name for name, r in found.items() if r.status != "ok"}
    # No late data are left; the embedded engine runs no jobs by itself.
    assert nothing in ({"late data"}, {"late data", "jobs"})
    assert all(result.examined for name, result in found.items() if name not in nothing)
    counts = {name: found[name].examined for name in NAMES[:11]}
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
    }
    assert found["sessions"].examined == 12
    assert found["polls"].examined == 720
    assert found["polls"].note == "failed: timeout 6"


async def test_a_database_without_data(pool: asyncpg.Pool) -> None:
    """What examined nothing says so; only policies are there, and they do not run."""
    results = {r.name: r for r in await verify(pool, make_settings(), second_look_s=0)}
    assert {name for name, r in results.items() if r.status == "nothing"} >= set(NAMES[:15])
    assert results["policies"].total == 29


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


@pytest.mark.parametrize("rollup", RECOUNTS, ids=lambda rollup: rollup.name)
async def test_a_rollup_that_differs(whole: Feed, settings: Settings, rollup: Recount) -> None:
    """Each figure that is changed, each row that is gone or too many is found there, and mended."""
    table = await materialized(whole, rollup.name)
    # The fleet has no other key than the bucket.
    key = rollup.keys[0] if rollup.keys else None
    first = f"(SELECT min(bucket) FROM {table})"
    same = f"bucket = {first}"
    if key:
        same += f" AND {key} = (SELECT min({key}) FROM {table} WHERE {same})"
    if rollup.name == "session_1h":
        same += f" AND session_id = (SELECT min(session_id) FROM {table} WHERE {same})"
    if rollup.name == "poll_1h":
        same += " AND ok"
    changes = ", ".join(
        f"{figure} = "
        + (f"ARRAY[{figure}[1] + 1, {figure}[2]]" if "peak" in figure else f"{figure} + 1")
        for figure in rollup.figures
    )
    await whole.pool.execute(f"UPDATE {table} SET {changes} WHERE {same}")
    found = (await look(whole, settings))[f"rollup {rollup.name}"]
    (finding,) = found.findings
    # One line, in which each figure stands as it is and as it should be.
    assert {figure for figure in rollup.figures if figure in finding.found} == set(rollup.figures)
    assert {figure for figure in rollup.figures if figure in finding.expected} == (
        set(rollup.figures)
    )
    assert finding.repairable
    assert (found.total, len(found.repairs)) == (1, 1)
    assert await mended(whole, settings) == {}
    await whole.pool.execute(f"DELETE FROM {table} WHERE {same}")
    found = (await look(whole, settings))[f"rollup {rollup.name}"]
    assert (found.total, found.findings[0].found) == (1, "no row")
    await whole.pool.execute(
        f"INSERT INTO {table} SELECT (jsonb_populate_record(r, $1::jsonb)).* FROM {table} AS r "
        "ORDER BY bucket DESC LIMIT 1",
        json.dumps({key: 99} if key else {"bucket": (HOURS[0] + 5 * HOUR).isoformat()}),
    )
    found = (await look(whole, settings))[f"rollup {rollup.name}"]
    assert found.total == 2
    assert found.findings[-1].expected == "no row"
    named = "from 99" if key == "origin" else "no. 99"
    assert (named if key else f"{HOURS[0]:%F}") in found.findings[-1].what
    assert await wrong(whole, settings) == {f"rollup {rollup.name}": 2}
    assert await mended(whole, settings) == {}


async def test_a_fault_in_between(whole: Feed, settings: Settings) -> None:
    """Days and hours made from a wrong minute are wrong, though each is as its source has it."""
    table = await materialized(whole, "usage_1m")
    await whole.pool.execute(
        f"UPDATE {table} SET voice_seconds = 0 WHERE bucket = $1",
        HOURS[0],
    )
    await whole.refresh()
    found = await look(whole, settings)
    assert {name for name, result in found.items() if not result.ok} == {
        f"rollup {name}" for name in ("usage_1m", "usage_1h", "usage_1d", "fleet_1m", "fleet_1h")
    }
    (finding,) = found["rollup usage_1m"].findings
    assert finding.what == "tenant arts, 2026-03-28 10:00"
    assert (finding.found, finding.expected) == ("voice_seconds 0", "voice_seconds 120")
    assert await mended(whole, settings) == {}


async def test_where_samples_are_dropped(whole: Feed, settings: Settings) -> None:
    """There, hours are compared with minutes and days with hours; and no bucket is in excess."""
    await whole.pool.execute(
        "SELECT public.drop_chunks('meter.sample', older_than => $1::timestamptz)", HOURS[1]
    )
    await whole.pool.execute(
        "SELECT public.drop_chunks('meter.poll', older_than => $1::timestamptz)", HOURS[1]
    )
    found = await look(whole, settings)
    assert {name: (r.note, r.findings) for name, r in found.items() if not r.ok} == {}
    assert found["rollup usage_1m"].examined == 2 * 110
    # The day that begins in the chunk which was dropped has only hours to be compared with.
    assert found["rollup usage_1h"].examined == 8
    assert found["rollup usage_1d"].examined == 6
    assert found["sessions"].examined == 8
    table = await materialized(whole, "usage_1h")
    await whole.pool.execute(
        f"UPDATE {table} SET max_session_size = 99 WHERE bucket = $1", HOURS[0]
    )
    # The day was made from this hour.
    assert await wrong(whole, settings) == {"rollup usage_1h": 2, "rollup usage_1d": 2}
    assert await mended(whole, settings) == {}


@pytest.mark.parametrize(
    ("fault", "checks"),
    [
        ("UPDATE meter.sample SET participants = 6 WHERE session_id = $1 AND ts = $2", {}),
        ("DELETE FROM meter.sample WHERE session_id = $1 AND ts = $2", {}),
        (
            "INSERT INTO meter.sample SELECT * FROM meter.sample WHERE session_id = $1 AND ts = $2",
            {"samples": 2},
        ),
    ],
    ids=["changed", "gone", "twice"],
)
async def test_a_real_sample_that_is_wrong(
    whole: Feed, settings: Settings, fault: str, checks: dict[str, int]
) -> None:
    """Its poll says so. Rollups and sessions are made to follow it, but it stays as it is."""
    at = HOURS[0] + 30 * TICK
    await whole.pool.execute(fault, run_of(HOURS[0]), at)
    derived = {f"rollup usage_{grain}": 1 for grain in ("1m", "1h", "1d")}
    derived |= {"rollup fleet_1m": 1, "rollup fleet_1h": 1}
    derived |= {"rollup session_1h": 1, "sessions": 1}
    rest = {"samples": 1} | checks
    assert await wrong(whole, settings) == derived | rest
    samples = await whole.pool.fetchval("SELECT count(*) FROM meter.sample")
    left = await mended(whole, settings)
    # The day of sessions follows at its policy's next turn.
    assert left == rest
    await whole.refresh()
    assert await wrong(whole, settings) == rest
    assert await whole.pool.fetchval("SELECT count(*) FROM meter.sample") == samples


async def test_a_poll_that_is_gone(whole: Feed, settings: Settings) -> None:
    """Its samples are without a poll, and it was due."""
    await whole.pool.execute(
        "DELETE FROM meter.poll WHERE ts = $1 AND server_id = "
        "(SELECT id FROM meter.server WHERE name = 'bbb1')",
        HOURS[0] + 30 * TICK,
    )
    found = await wrong(whole, settings)
    assert found == {
        "rollup server_1h": 1,
        "rollup server_1d": 1,
        "rollup poll_1h": 1,
        "samples": 1,
        "polls": 1,
    }
    results = await look(whole, settings)
    assert results["samples"].findings[0].found == "no poll, 3 samples"
    what = results["polls"].findings[0].what
    assert what == "polls of server bbb1, 2026-03-28 10:15 to 2026-03-28 10:15:30"
    assert results["polls"].note == "missing: unexplained 1; failed: timeout 6"
    assert await mended(whole, settings) == {"samples": 1, "polls": 1}


async def test_polls_that_nobody_could_bring(whole: Feed, settings: Settings) -> None:
    """What a hand-over or the lack of a collector explains is told, and is no finding."""
    begin = HOURS[1] - 3 * HOUR
    await whole.pool.execute(
        "INSERT INTO meter.server_due (server_id, since, until) "
        "SELECT id, $1, $2 FROM meter.server WHERE name = 'bbb1'",
        begin,
        begin + HOUR,
    )
    found = await look(whole, settings)
    assert found["polls"].ok
    # Where no poll tells the interval, it is taken for a minute.
    assert found["polls"].note == "missing: no collector 60; failed: timeout 6"
    period = {"since": HOURS[2] - HOUR, "until": HOURS[2] + HOUR / 2}
    found = await look(whole, settings, **period)
    assert (found["polls"].examined, found["polls"].note) == (120, "failed: timeout 2")
    assert found["rollup usage_1m"].examined == 30 + 20
    assert found["rollup usage_1h"].examined == 0


async def test_filled_beside_real(whole: Feed, settings: Settings) -> None:
    """A filled sample where a poll succeeded, or two of them, are found, and one stays at most."""
    session = run_of(HOURS[0])
    copy = (
        "INSERT INTO meter.sample SELECT ts, tenant_id, server_id, session_id, participants, "
        "voice, video, listeners, dialins, seconds, breakout, TRUE FROM meter.sample "
        "WHERE session_id = $1 AND ts = $2"
    )
    sums = "SELECT sum(participants * seconds), count(*) FROM meter.sample"
    before = await whole.pool.fetchrow(sums)
    for tick in (30, 50):
        await whole.pool.execute(copy, session, HOURS[0] + tick * TICK)
    found = await look(whole, settings)
    assert found["samples"].total == 2
    assert {(f.expected, f.found) for f in found["samples"].findings} == {
        ("what the poll saw", "a filled sample"),
        ("one sample", "2 filled samples"),
    }
    assert all(finding.repairable for finding in found["samples"].findings)
    assert await mended(whole, settings) == {}
    assert await whole.pool.fetchrow(sums) == before


async def test_sessions_that_are_wrong(whole: Feed, settings: Settings) -> None:
    """Figures that are not those of the samples, and what should have ended, are computed anew."""
    one, other = [run_of(HOURS[n]) for n in (0, 1)]
    table = "SELECT * FROM meter.session ORDER BY started_at, session_id"
    before = await whole.pool.fetch(table)
    await whole.pool.execute(
        "UPDATE meter.session SET participant_seconds = 1 WHERE session_id = $1", one
    )
    await whole.pool.execute(
        "UPDATE meter.session SET ended_at = NULL WHERE session_id = $1", other
    )
    found = await look(whole, settings)
    assert {name for name, result in found.items() if not result.ok} == {"sessions"}
    first, then = found["sessions"].findings
    assert first.found == "participant_seconds 1"
    assert first.what == f"session {one} of tenant arts on server bbb1, began 2026-03-28 10:00"
    assert then.found == "open"
    assert found["sessions"].note == "1 are open"
    assert await mended(whole, settings) == {}
    assert await whole.pool.fetch(table) == before


async def test_sessions_that_are_lost_or_doubled(whole: Feed, settings: Settings) -> None:
    """Nothing tells which row is right, or what stood in one that is gone: no repair."""
    one, other = [run_of(HOURS[n]) for n in (0, 2)]
    await whole.pool.execute("DELETE FROM meter.session WHERE session_id = $1", one)
    await whole.pool.execute(
        "INSERT INTO meter.session SELECT (jsonb_populate_record(s, jsonb_build_object("
        "'started_at', started_at - interval '1 minute'))).* FROM meter.session AS s "
        "WHERE session_id = $1",
        other,
    )
    found = await look(whole, settings)
    assert {f.found for f in found["sessions"].findings} >= {"only its 120 samples", "2 rows"}
    # The twin's length begins a minute earlier.
    assert found["sessions"].total == 3
    await mended(whole, settings)
    await whole.refresh()
    assert await wrong(whole, settings) == {"sessions": 2}


async def test_a_session_without_samples(whole: Feed, settings: Settings) -> None:
    """It is found, and left as it is: it would never end again."""
    one = run_of(HOURS[0])
    await whole.pool.execute("DELETE FROM meter.sample WHERE session_id = $1", one)
    result = (await look(whole, settings))["sessions"]
    assert [(f.found, f.repairable) for f in result.findings] == [("none", False)]
    await mended(whole, settings)
    assert (
        await whole.pool.fetchval("SELECT count(*) FROM meter.session WHERE ended_at IS NULL") == 0
    )


async def test_late_data(whole: Feed, settings: Settings) -> None:
    """What is late explains a difference for ten minutes; then that nobody saw to it is a fault."""
    run = Run("bbb1", "arts", "late", HOURS[0] - 2 * TICK, HOURS[0], 4)
    await whole.pool.execute(
        "UPDATE meter.server_due SET since = $1 WHERE since = $2 AND server_id = "
        "(SELECT id FROM meter.server WHERE name = 'bbb1')",
        run.begin,
        run.end,
    )
    await whole.play(["bbb1"], whole.ticks(run.begin, run.end), [run])
    await update_sessions(whole.pool, 120)
    found = await look(whole, settings)
    assert [name for name, result in found.items() if not result.ok] == []
    assert found["rollup usage_1m"].note == "1 not judged: late data are about to be seen to"
    assert found["late data"].note == "1 are about to be seen to"
    await whole.pool.execute("UPDATE meter.late SET added_at = added_at - interval '11 minutes'")
    bad = await wrong(whole, settings)
    assert bad.pop("late data") == 1
    assert bad.keys() == {f"rollup {r.name}" for r in RECOUNTS} - {
        "rollup session_1d",
        "rollup start_1h",
    }
    assert bad["rollup usage_1m"] == 1
    assert await mended(whole, settings) == {}


async def test_chunks(whole: Feed) -> None:
    """Chunks that should be columns, that should be gone, and that can not be are told."""
    days = ColumnstoreSettings(session=0)
    settings = make_settings(retention=KEEP_ALL, columnstore=days)
    chunk = await whole.pool.fetchval(
        "SELECT c FROM public.show_chunks('meter.sample') AS c ORDER BY c LIMIT 1"
    )
    await whole.pool.execute("SELECT public.decompress_chunk($1::text::regclass)", str(chunk))
    result = (await look(whole, settings))["chunks"]
    assert [(f.expected, f.found) for f in result.findings] == [("columns after 1 days", "rows")]
    await whole.pool.execute("SELECT public.compress_chunk($1::text::regclass)", str(chunk))
    await whole.pool.execute(
        "INSERT INTO meter.session (session_id, server_id, internal_id, started_at, tenant_id, "
        "breakout, recording, first_seen_at) SELECT 1, id, 'x', '1970-01-02', 1, FALSE, FALSE, "
        "'1970-01-02' FROM meter.server LIMIT 1"
    )
    result = (await look(whole, settings))["chunks"]
    assert [(f.expected, f.found) for f in result.findings] == [("no chunk there", "the year 1970")]
    short = make_settings(retention=KEEP_ALL | {"sample": 10, "poll": 11}, columnstore=days)
    result = (await look(whole, short))["chunks"]
    assert result.total == 1 + 3 + 3


async def test_policies(whole: Feed) -> None:
    """A policy that is gone, off, other than the settings say or not theirs is told."""
    settings = make_settings(retention=KEEP_ALL)
    execute = whole.pool.execute
    await execute("SELECT public.remove_continuous_aggregate_policy('meter.usage_1d')")
    await execute("CALL public.remove_columnstore_policy('meter.poll')")
    await execute(
        "SELECT public.alter_job(job_id, scheduled => FALSE) FROM timescaledb_information.jobs "
        "WHERE proc_name = 'policy_compression' AND hypertable_name = 'sample'"
    )
    await execute(
        'SELECT public.alter_job(job_id, config => config || \'{"start_offset": "3 days"}\') '
        "FROM timescaledb_information.jobs AS j "
        "JOIN timescaledb_information.continuous_aggregates AS c "
        "ON j.hypertable_name IN (c.view_name, c.materialization_hypertable_name) "
        "WHERE c.view_name = 'usage_1m' AND proc_name LIKE 'policy_refresh%'"
    )
    await execute("SELECT public.add_retention_policy('meter.sample', interval '5 days')")
    result = (await look(whole, settings))["policies"]
    assert sorted((f.what, f.expected, f.found.partition(" ")[0]) for f in result.findings) == [
        ("policy_compression of poll", "a policy", "none"),
        ("policy_compression of sample", "scheduled", "switched"),
        ("policy_refresh_continuous_aggregate of usage_1d", "a policy", "none"),
        (
            "policy_refresh_continuous_aggregate of usage_1m",
            "start_offset for ever",
            "start_offset",
        ),
        ("policy_retention of sample", "no such policy", "job"),
    ]
    other = make_settings(retention=KEEP_ALL, billing_timezone="Europe/Paris")
    found = {f.what: (f.expected, f.found) for f in (await look(whole, other))["policies"].findings}
    assert found["days by billing_timezone"] == ("Europe/Paris", "Europe/Berlin")


async def test_policies_of_other_settings(make_feed: MakeFeed) -> None:
    """What migrate sets from any settings is what the check wants of them."""
    settings = make_settings(
        retention={"sample": 12, "poll": 0, "session_1d": 900},
        columnstore={"sample": 2, "session": 0},
    )
    feed = await make_feed(settings)
    found = (await look(feed, settings))["policies"]
    # The tests' policies are switched off.
    assert {finding.found for finding in found.findings} == {"switched off"}


async def test_jobs(whole: Feed, settings: Settings) -> None:
    """Where workers run them, one whose last run failed or that keeps still is told."""
    if (await look(whole, settings))["jobs"].status == "skipped":
        pytest.skip("no workers here")
    job = await whole.pool.fetchval(
        "SELECT public.add_retention_policy('meter.sample', interval '5 days')"
    )
    chunk = await whole.pool.fetchval(
        "SELECT c FROM public.show_chunks('meter.sample') AS c LIMIT 1"
    )
    await whole.pool.execute(f"CREATE VIEW meter.dependent AS SELECT ts FROM {chunk}")
    await whole.pool.execute("SELECT public.alter_job($1, next_start => now())", job)
    status = "SELECT last_run_status FROM timescaledb_information.job_stats WHERE job_id = $1"
    for _ in range(300):
        if await whole.pool.fetchval(status, job) == "Failed":
            break
        await asyncio.sleep(0.1)
    result = (await look(whole, settings))["jobs"]
    assert [f.what for f in result.findings] == ["policy_retention of sample"]
    assert "cannot drop" in result.findings[0].found
    await whole.pool.execute(
        "UPDATE _timescaledb_internal.bgw_job_stat SET last_start = now() - interval '4 days', "
        "last_run_success = TRUE WHERE job_id = $1",
        job,
    )
    result = (await look(whole, settings))["jobs"]
    assert [f.expected for f in result.findings] == ["a run every 1 day, 0:00:00"]


async def test_a_check_that_fails_stops_no_other(whole: Feed, settings: Settings) -> None:
    """It is told with its reason."""
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
