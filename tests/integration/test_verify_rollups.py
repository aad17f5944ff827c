"""`bbbmeter verify` and rollups: each row that differs from its source is found, and mended."""

# ruff: noqa: S608 - the names of tables come from the catalog

import json

import pytest

from collector.database.upkeep import update_sessions
from collector.settings import Settings
from collector.verify.recount import RECOUNTS, Recount
from tests.support.feed import Feed, Run
from tests.support.verify import HOUR, HOURS, TICK, look, materialized, mended, wrong


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


async def test_late_data(whole: Feed, settings: Settings) -> None:
    """Late data explain a difference for ten minutes; unsettled after that, they are a finding."""
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
    assert found["rollup usage_1m"].note == "1 not judged: late data will be settled soon"
    assert found["late data"].note == "1 spans will be settled soon"
    await whole.pool.execute("UPDATE meter.late SET added_at = added_at - interval '11 minutes'")
    bad = await wrong(whole, settings)
    assert bad.pop("late data") == 1
    assert bad.keys() == {f"rollup {r.name}" for r in RECOUNTS} - {
        "rollup session_1d",
        "rollup start_1h",
        "rollup unseen_1h",
        "rollup unseen_1d",
    }
    assert bad["rollup usage_1m"] == 1
    assert await mended(whole, settings) == {}
