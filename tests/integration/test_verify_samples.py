"""`bbbmeter verify`, samples and polls: what is wrong in them, and which of it is mended."""

import pytest

from collector.model import LATER_COUNTS
from collector.settings import Settings
from tests.support.feed import Feed
from tests.support.verify import HOUR, HOURS, TICK, look, mended, run_of, wrong

SIX = ", ".join(f"{count} = 6" for count in ("participants", *LATER_COUNTS))


@pytest.mark.parametrize(
    ("fault", "checks"),
    [
        (f"UPDATE meter.sample SET {SIX} WHERE session_id = $1 AND ts = $2", {}),  # noqa: S608
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
    derived |= {f"rollup {count}_{grain}": 1 for count in LATER_COUNTS for grain in ("1h", "1d")}
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
    """Polls that are missing because of a handover or without a collector are only in the note."""
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
        ("no filled sample, as a poll saw the session", "a filled sample"),
        ("one sample", "2 filled samples"),
    }
    assert all(finding.repairable for finding in found["samples"].findings)
    assert await mended(whole, settings) == {}
    assert await whole.pool.fetchrow(sums) == before


async def test_filled_where_a_poll_showed_nothing(whole: Feed, settings: Settings) -> None:
    """It must be noted that the poll did not show the session; else coverage is too high."""
    await whole.pool.execute("DELETE FROM meter.sample WHERE filled")
    at = HOURS[0] + 30 * TICK
    await whole.pool.execute(
        "INSERT INTO meter.sample SELECT x.* FROM meter.sample AS a, "
        """jsonb_populate_record(a, '{"filled": true, "session_id": 7}') AS x """
        "WHERE a.session_id = $1 AND a.ts = $2",
        run_of(HOURS[0]),
        at,
    )
    (finding,) = (await look(whole, settings))["samples"].findings
    assert finding.expected == "a note that its poll did not show the session"
    assert "samples" not in await mended(whole, settings)
    noted = await whole.pool.fetchval("SELECT session_id FROM meter.unseen WHERE ts = $1", at)
    assert noted == 7
