"""`bbbmeter verify` and the database: chunks, policies and jobs are as the settings say."""

import asyncio

import pytest

from collector.settings import ColumnstoreSettings, Settings
from tests.support.feed import Feed, MakeFeed
from tests.support.settings import KEEP_ALL, make_settings
from tests.support.verify import look


async def test_chunks(whole: Feed) -> None:
    """Chunks that should be compressed, dropped, or cannot be right are findings."""
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
    # What polls did not show is kept as long as polls.
    assert result.total == 1 + 3 + 3 + 3


async def test_policies(whole: Feed) -> None:
    """A policy that is missing, off, unknown or different from the settings is a finding."""
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
            "start_offset without limit",
            "start_offset",
        ),
        ("policy_retention of sample", "no such policy", "job"),
    ]
    other = make_settings(retention=KEEP_ALL, billing_timezone="Europe/Paris")
    found = {f.what: (f.expected, f.found) for f in (await look(whole, other))["policies"].findings}
    assert found["billing_timezone of the day rollups"] == ("Europe/Paris", "Europe/Berlin")


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
    """With background workers, a job that failed or does not run is a finding."""
    if (await look(whole, settings))["jobs"].status == "skipped":
        pytest.skip("no workers here")
    job = await whole.pool.fetchval(
        "SELECT public.add_retention_policy('meter.sample', interval '5 days')"
    )
    chunk = await whole.pool.fetchval(
        "SELECT c FROM public.show_chunks('meter.sample') AS c LIMIT 1"
    )
    await whole.pool.execute(f"CREATE VIEW meter.dependent AS SELECT ts FROM {chunk}")  # noqa: S608
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
