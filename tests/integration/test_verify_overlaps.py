"""`bbbmeter verify`: seconds that count twice, and people who are lost in breakouts."""

from datetime import timedelta

import pytest

from collector.settings import Settings
from tests.support.feed import Feed
from tests.support.meetings import answer_xml
from tests.support.meter import HOUR, MINUTE, Meter, T, breakout, internal, meeting
from tests.support.settings import make_server, make_settings
from tests.support.verify import HOURS, TICK, look, mended, run_of


async def test_a_poll_and_its_sample_that_overlap_others(whole: Feed, settings: Settings) -> None:
    """A poll of 60 s at a tick of 30 s covers the next tick too; the later one is deleted."""
    at = HOURS[0] + 30 * TICK
    for table in ("poll", "sample"):
        await whole.pool.execute(
            f"UPDATE meter.{table} SET seconds = 60 WHERE server_id = "  # noqa: S608
            "(SELECT id FROM meter.server WHERE name = 'bbb1') AND ts = $1",
            at,
        )
    result = (await look(whole, settings))["overlaps"]
    # The next poll, and the next sample of each of its sessions.
    assert result.total == 4
    assert "bbb1" in result.findings[0].what
    assert all(finding.repairable for finding in result.findings)
    assert "overlaps" not in await mended(whole, settings)
    polls = await whole.pool.fetch(
        "SELECT p.ts FROM meter.poll AS p INNER JOIN meter.server AS v ON p.server_id = v.id "
        "WHERE v.name = 'bbb1' AND ts >= $1 AND ts <= $2 ORDER BY ts",
        at,
        at + 2 * TICK,
    )
    assert [row["ts"] for row in polls] == [at, at + 2 * TICK]


async def test_a_filled_sample_that_overlaps_a_real_one(whole: Feed, settings: Settings) -> None:
    """It is deleted, and the real one stays."""
    await whole.pool.execute(
        "INSERT INTO meter.sample SELECT x.* FROM meter.sample AS a, jsonb_populate_record("
        "a, jsonb_build_object('filled', TRUE, 'seconds', 10, 'ts', a.ts + interval '10 seconds')"
        ") AS x WHERE a.session_id = $1 AND a.ts = $2",
        run_of(HOURS[0]),
        HOURS[0] + 30 * TICK,
    )
    result = (await look(whole, settings))["overlaps"]
    assert (result.total, result.findings[0].found) == (1, "overlaps an earlier sample")
    assert "overlaps" not in await mended(whole, settings)
    assert (await look(whole, settings))["samples"].ok


async def test_two_sessions_of_one_meeting_at_once(whole: Feed, settings: Settings) -> None:
    """An answer has a meeting once; where it counts through another server, it is no finding."""
    await whole.pool.execute(
        "INSERT INTO meter.session SELECT x.* FROM meter.session AS s, "
        """jsonb_populate_record(s, '{"session_id": 7}') AS x WHERE s.session_id = $1""",
        run_of(HOURS[0]),
    )
    result = (await look(whole, settings))["overlaps"]
    assert [finding.expected for finding in result.findings] == [
        "one session of a meeting at a time"
    ]
    await whole.pool.execute(
        "INSERT INTO meter.duplicate_session (session_id, started_at, server_id, tenant_id, "
        "same_as, other_server_id, other_tenant_id, counts, since) "
        "SELECT 7, started_at, server_id, tenant_id, 8, server_id, tenant_id, FALSE, started_at "
        "FROM meter.session WHERE session_id = 7"
    )
    assert (await look(whole, settings))["overlaps"].ok


@pytest.mark.parametrize("people", [4, 12])
async def test_breakouts_with_more_people_than_their_parent(feed: Feed, people: int) -> None:
    """What the pipeline stores is right; a parent that lost people is found."""
    await feed.due(T, bbb1=None)
    rules = [{"type": "metadata", "key": "bbblb-tenant"}, {"type": "parent"}]
    settings = make_settings(server=[make_server("bbb1")], attribution={"rules": rules})
    meter = Meter(feed, settings)
    shown = answer_xml(meeting("a", 10), breakout("group", people, internal("a")))
    await meter.play(T, T + 10 * MINUTE, shown)
    assert (await look(feed, settings, until=T + HOUR))["overlaps"].ok
    await feed.pool.execute(
        "UPDATE meter.sample SET participants = 3 WHERE NOT breakout AND ts = $1",
        T + timedelta(minutes=5),
    )
    result = (await look(feed, settings, until=T + HOUR))["overlaps"]
    (finding,) = result.findings
    assert finding.expected == "at most the 3 people of the parent"
    assert (finding.found, finding.repairable) == (f"{people} people", False)
    await feed.pool.execute(
        "DELETE FROM meter.sample WHERE NOT breakout AND ts = $1", T + timedelta(minutes=5)
    )
    result = (await look(feed, settings, until=T + HOUR))["overlaps"]
    (finding,) = result.findings
    assert finding.expected == "a sample of the parent, which has them too"


async def test_breakouts_of_a_parent_that_could_not_be_read(feed: Feed) -> None:
    """They count by themselves, so nobody is lost."""
    await feed.due(T, bbb1=None)
    rules = [{"type": "metadata", "key": "bbblb-tenant"}, {"type": "parent"}]
    settings = make_settings(server=[make_server("bbb1")], attribution={"rules": rules})
    meter = Meter(feed, settings)
    group = breakout("group", 4, internal("a"))
    await meter.play(T, T + 5 * MINUTE, answer_xml(meeting("a", 10), group))
    await meter.play(
        T + 5 * MINUTE, T + 6 * MINUTE, answer_xml(meeting("a", 0, participantCount="many"), group)
    )
    rows = await feed.pool.fetch("SELECT breakout FROM meter.sample WHERE ts >= $1", T + 5 * MINUTE)
    assert [row["breakout"] for row in rows] == [False, False]
    assert (await look(feed, settings, until=T + HOUR))["overlaps"].ok
