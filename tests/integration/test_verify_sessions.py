"""`bbbmeter verify` and sessions: figures are mended, rows that are lost or doubled are not."""

from collector.settings import Settings
from tests.support.feed import Feed
from tests.support.verify import HOURS, look, mended, run_of, wrong


async def test_sessions_that_are_wrong(whole: Feed, settings: Settings) -> None:
    """Wrong figures, open sessions that should have ended, and forgotten ones are mended."""
    one, other, forgotten = [run_of(HOURS[n]) for n in (0, 1, 2)]
    table = "SELECT * FROM meter.session ORDER BY started_at, session_id"
    before = await whole.pool.fetch(table)
    await whole.pool.execute(
        "UPDATE meter.session SET participant_seconds = 1 WHERE session_id = $1", one
    )
    await whole.pool.execute(
        "SELECT meter.reopen_sessions(array_agg(session_id), array_agg(started_at)) "
        "FROM meter.session WHERE session_id = $1",
        other,
    )
    await whole.pool.execute(
        "UPDATE meter.session SET ended_at = NULL WHERE session_id = $1", forgotten
    )
    found = await look(whole, settings)
    assert {name for name, result in found.items() if not result.ok} == {"sessions"}
    first, then, last = found["sessions"].findings
    assert first.found == "participant_seconds 1"
    assert first.what == f"session {one} of tenant arts on server bbb1, began 2026-03-28 10:00"
    assert then.found == "open"
    assert last.expected == "a row in meter.open_session"
    assert found["sessions"].note == "1 are open"
    assert await mended(whole, settings) == {}
    assert await whole.pool.fetch(table) == before


async def test_sessions_that_are_lost_or_doubled(whole: Feed, settings: Settings) -> None:
    """The right row, or the content of a lost row, cannot be known: there is no repair."""
    one, other = [run_of(HOURS[n]) for n in (0, 2)]
    await whole.pool.execute("DELETE FROM meter.session WHERE session_id = $1", one)
    await whole.pool.execute(
        "INSERT INTO meter.session SELECT (jsonb_populate_record(s, jsonb_build_object("
        "'started_at', started_at - interval '1 minute'))).* FROM meter.session AS s "
        "WHERE session_id = $1",
        other,
    )
    found = await look(whole, settings)
    assert {f.found for f in found["sessions"].findings} >= {"no row, only 120 samples", "2 rows"}
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
    assert [(f.found, f.repairable) for f in result.findings] == [("no samples", False)]
    await mended(whole, settings)
    assert (
        await whole.pool.fetchval("SELECT count(*) FROM meter.session WHERE ended_at IS NULL") == 0
    )
