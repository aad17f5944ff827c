"""Answers that gave wrong figures once, from the bytes of an answer to the report.

Each stands for its kind. Time is the present: a poll must not be ahead of the database's clock, and
the oldest ones here are older than samples are kept.
"""

from collections.abc import Iterable

import pytest

from collector.errors import ImplausibleError, RejectedBatchError
from collector.model import PollResult, PollRow
from collector.simulator.plan import epoch_ms
from collector.sources.polling.bounds import MAX_MEETINGS, MAX_TOTAL
from collector.sources.polling.parser import parse_meetings
from tests.support.database import migrate_unscheduled
from tests.support.feed import Feed
from tests.support.meetings import answer_xml
from tests.support.meter import (
    DAY,
    HOUR,
    MINUTE,
    TICK,
    Meter,
    T,
    breakout,
    internal,
    meeting,
)
from tests.support.reports import by
from tests.support.settings import make_server, make_settings
from tests.support.verify import look


@pytest.fixture
async def meter(feed: Feed) -> Meter:
    """A server whose polls are due from T on, and tenants by BBBLB's mark."""
    await feed.due(T, bbb1=None, bbb2=None)
    rules = [{"type": "metadata", "key": "bbblb-tenant"}, {"type": "parent"}]
    settings = make_settings(
        server=[make_server("bbb1"), make_server("bbb2")], attribution={"rules": rules}
    )
    return Meter(feed, settings)


async def sound(meter: Meter, ignored: Iterable[str] = ()) -> None:
    """Verify what is stored: samples, polls and sessions."""
    found = await look(meter.feed, meter.settings, until=T + HOUR)
    for name in {"samples", "sessions"} - set(ignored):
        assert found[name].findings == (), name


async def test_twice_in_an_answer(meter: Meter) -> None:
    """A meeting that is there twice with other counts is counted once, and stays open."""
    once = answer_xml(meeting("a", 10))
    twice = answer_xml(meeting("a", 10), meeting("a", 11))
    await meter.play(T, T + 5 * MINUTE, once)
    await meter.play(T + 5 * MINUTE, T + 15 * MINUTE, twice)
    (session,) = await meter.sessions()
    assert session["ended_at"] is None
    await meter.play(T + 15 * MINUTE, T + 20 * MINUTE, once)
    await meter.play(T + 20 * MINUTE, T + HOUR, answer_xml())
    row = (await meter.report())["acme"]
    assert 200 <= row["participant_minutes"] <= 210
    assert (row["sessions"], row["filled_share"]) == (1, 0)
    # Half of what was seen is in doubt: 20 minutes were seen, and 10 of them told as not.
    assert row["coverage"] < 0.7
    await sound(meter)


async def test_a_meeting_that_cannot_be_read_for_a_while(meter: Meter) -> None:
    """It is filled like missed polls, stays open, and lowers its own tenant's coverage alone."""
    good = answer_xml(meeting("a", 10), meeting("b", 5, tenant="law"))
    bad = answer_xml(meeting("a", 10, participantCount="many"), meeting("b", 5, tenant="law"))
    await meter.play(T, T + 5 * MINUTE, good)
    await meter.play(T + 5 * MINUTE, T + 9 * MINUTE, bad)
    assert [row["ended_at"] for row in await meter.sessions()] == [None, None]
    await meter.play(T + 9 * MINUTE, T + 20 * MINUTE, good)
    await meter.play(T + 20 * MINUTE, T + HOUR, answer_xml())
    rows = await meter.report()
    assert rows["acme"]["participant_minutes"] == 200
    assert rows["acme"]["filled_share"] == 4 / 20
    both = 0.5  # bbb2 was never polled
    assert rows["acme"]["coverage"] == pytest.approx(both * 16 / 20)
    assert rows["law"]["coverage"] == pytest.approx(both)
    await sound(meter)


@pytest.mark.parametrize(
    ("parent", "minutes"), [("room", 40 * 60), ("unknown", 41 * 60), ("itself", 41 * 60)]
)
async def test_a_breakout_is_no_hiding_place(meter: Meter, parent: str, minutes: int) -> None:
    """A room of 1 with a "breakout" of 40: with a parent, one of them counts through it."""
    named = internal("hidden" if parent == "itself" else parent)
    answer = answer_xml(meeting("room", 1), breakout("hidden", 40, named))
    await meter.play(T, T + HOUR, answer)
    row = (await meter.report())["acme"]
    assert row["participant_minutes"] == minutes
    assert row["peak_participants"] == minutes / 60
    await sound(meter)


async def test_a_breakout_of_a_real_parent_counts_as_before(meter: Meter) -> None:
    """Its people are in the parent: one session, and breakout minutes beside it."""
    answer = answer_xml(meeting("room", 20), breakout("group", 18, internal("room")))
    await meter.play(T, T + HOUR, answer)
    row = (await meter.report())["acme"]
    assert (row["participant_minutes"], row["breakout_minutes"]) == (20 * 60, 18 * 60)
    assert (row["sessions"], row["peak_participants"], row["max_session_size"]) == (1, 20, 20)
    await sound(meter)


async def test_a_foreign_parent(meter: Meter) -> None:
    """Law calls acme's meeting the parent of its own: law pays."""
    law = breakout("law", 50, internal("room"), tenant="law")
    await meter.play(T, T + HOUR, answer_xml(meeting("room", 2), law))
    rows = await meter.report()
    assert rows["law"]["participant_minutes"] == 50 * 60
    assert (rows["acme"]["participant_minutes"], rows["acme"]["breakout_minutes"]) == (2 * 60, 0)


async def test_a_stolen_identity(meter: Meter) -> None:
    """Law opens a "breakout" with the internal id of an ended meeting of acme."""
    await meter.play(T, T + 20 * MINUTE, answer_xml(meeting("room", 4)))
    await meter.play(T + 20 * MINUTE, T + 30 * MINUTE, answer_xml())
    before = (await meter.sessions())[0]
    stolen = meeting(
        "x",
        300,
        tenant="law",
        isBreakout="true",
        parentMeetingID="gone",
        internalMeetingID=internal("room"),
        createTime=epoch_ms(T + 30 * MINUTE),
    )
    await meter.play(T + 30 * MINUTE, T + 40 * MINUTE, answer_xml(stolen))
    await meter.play(T + 40 * MINUTE, T + HOUR, answer_xml())
    mine, other = await meter.sessions()
    assert mine == before
    assert (mine["duration_seconds"], mine["max_participants"]) == (19 * 60 + 45, 4)
    assert (other["tenant"], other["max_participants"]) == ("law", 300)
    rows = await meter.report()
    assert rows["acme"]["participant_minutes"] == 80
    assert rows["law"]["participant_minutes"] == 3000
    by_room = await by(meter.feed, T, T + HOUR, "room")
    assert {(r["tenant"], r["room"]): r["participant_minutes"] for r in by_room} == {
        ("acme", "room"): 80,
        ("law", "x"): 3000,
    }
    await sound(meter)


def test_impossible_totals_are_that_servers_trouble() -> None:
    """An answer with 2,400 meetings of 32,767 is refused."""
    with pytest.raises(ImplausibleError):
        parse_meetings(answer_xml(*[meeting(f"r{n}", 32_767) for n in range(2_400)]))


async def test_no_sum_overflows_at_the_bounds(meter: Meter) -> None:
    """A day of the largest polls that are stored: every rollup of polls can be refreshed."""
    pool = meter.feed.pool
    server = await pool.fetchval("SELECT id FROM meter.server WHERE name = 'bbb2'")
    counts = PollRow._fields[PollRow._fields.index("participants") : -1]
    await pool.execute(
        f"INSERT INTO meter.poll (ts, server_id, ok, outcome, latency_ms, seconds, skipped, "  # noqa: S608
        f"sessions, breakouts, {', '.join(counts)}) "
        f"SELECT ts, $1, TRUE, 'ok', 2147483647, 60, $2, $2, $2, {', '.join(['$3'] * len(counts))} "
        "FROM generate_series($4::timestamptz - interval '1 day', $4, '1 minute') AS g (ts)",
        server,
        MAX_MEETINGS,
        MAX_TOTAL,
        T,
    )
    tenant = await pool.fetchval("INSERT INTO meter.tenant (name) VALUES ('big') RETURNING id")
    await pool.execute(
        "INSERT INTO meter.sample (ts, tenant_id, server_id, session_id, participants, voice, "
        "video, listeners, dialins, seconds, breakout, filled, moderators) "
        "SELECT t, $1, $2, n, 32767, 32767, 32767, 32767, 32767, 60, n % 2 = 0, n % 3 = 0, 32767 "
        "FROM generate_series($3::timestamptz - interval '1 hour', $3, '1 minute') AS g (t) "
        "CROSS JOIN generate_series(1, 1000) AS h (n)",
        tenant,
        server,
        T,
    )
    await pool.execute(
        "INSERT INTO meter.unseen (ts, server_id, session_id, sessions, seconds) "
        "SELECT t, $1, NULL, 2147483647, 60 "
        "FROM generate_series($2::timestamptz - interval '1 day', $2, '1 minute') AS g (t)",
        server,
        T,
    )
    await meter.feed.refresh()
    participant_seconds = await pool.fetchval(
        "SELECT participant_seconds FROM meter.server_1h WHERE bucket = $1 AND server_id = $2",
        T - HOUR,
        server,
    )
    assert participant_seconds == 60 * 60 * MAX_TOTAL


async def test_a_clock_that_is_ahead(meter: Meter) -> None:
    """A poll stamped a year ahead is refused, and hurts no other server."""
    await meter.play(T, T + 10 * MINUTE, answer_xml(meeting("room", 1)))
    with pytest.raises(RejectedBatchError, match="ahead of the database's clock"):
        await meter.poll(T + 365 * DAY, answer_xml(meeting("x", 1)), server="bbb2")
    await meter.play(T + 10 * MINUTE, T + 20 * MINUTE, answer_xml())
    assert (await meter.sessions())[0]["ended_at"] == T + 10 * MINUTE - TICK / 2
    assert await meter.feed.pool.fetchval("SELECT max(ts) FROM meter.poll") < T + HOUR


async def test_a_meeting_that_began_long_ago(meter: Meter) -> None:
    """A meeting that began 40 days ago has figures, and ends when it ends."""
    await meter.play(T, T + 20 * MINUTE, answer_xml(meeting("room", 3, T - 40 * DAY)))
    await meter.play(T + 20 * MINUTE, T + 30 * MINUTE, answer_xml())
    (row,) = await meter.sessions()
    assert row["started_at"] == T - 40 * DAY
    assert (row["ended_at"], row["session_seconds"]) == (T + 20 * MINUTE - TICK / 2, 20 * 60)
    assert row["participant_seconds"] == 3 * 20 * 60
    await sound(meter)


async def test_figures_do_not_shrink_when_samples_are_dropped(meter: Meter) -> None:
    """A meeting that runs for 40 days keeps the minutes of samples that are gone, and ends."""
    pool = meter.feed.pool
    async with pool.acquire() as connection:
        await migrate_unscheduled(connection, make_settings(retention={"sample": 30}))
    begin = T - 40 * DAY
    await pool.execute("UPDATE meter.server_due SET since = $1", begin)
    answer = answer_xml(meeting("room", 2, begin))
    for day in (begin, T - 10 * DAY):
        await meter.play(day, day + HOUR, answer)
    await meter.feed.refresh()
    await pool.execute("SELECT public.drop_chunks('meter.sample', now() - interval '30 days')")
    await meter.update()
    await meter.play(T, T + 30 * MINUTE, answer)
    (row,) = await meter.sessions()
    assert (row["session_seconds"], row["participant_seconds"]) == (2.5 * 3600, 2 * 2.5 * 3600)
    assert row["ended_at"] is None
    await meter.play(T + 30 * MINUTE, T + 40 * MINUTE, answer_xml())
    (row,) = await meter.sessions()
    assert row["ended_at"] == T + 30 * MINUTE - TICK / 2
    assert row["session_seconds"] == 2.5 * 3600


async def test_nobody_came(meter: Meter) -> None:
    """Nine of ten rooms have nobody who ever joined: they are counted apart."""
    rooms = [meeting(f"empty{n}", 0, hasUserJoined="false") for n in range(9)]
    await meter.play(T, T + 20 * MINUTE, answer_xml(meeting("busy", 5), *rooms))
    await meter.play(T + 20 * MINUTE, T + HOUR, answer_xml())
    row = (await meter.report())["acme"]
    assert (row["sessions"], row["empty_sessions"], row["peak_sessions"]) == (1, 9, 1)
    assert (row["session_minutes"], row["avg_session_size"]) == (20, 5)
    assert row["avg_session_minutes"] == 19.75
    by_room = await by(meter.feed, T, T + HOUR, "room")
    assert {r["room"]: (r["sessions"], r["empty_sessions"]) for r in by_room} == {
        "busy": (1, 0),
        **{f"empty{n}": (0, 1) for n in range(9)},
    }


async def test_somebody_joined_in_the_same_batch(meter: Meter) -> None:
    """Also if the batch in which somebody joined is stored first, the session is not empty."""
    batches = []
    for number, joined in enumerate(("false", "true")):
        answer = answer_xml(meeting("a", number * 3, hasUserJoined=joined))
        result = PollResult("bbb1", T + number * TICK, True, 5, answer=parse_meetings(answer))  # noqa: FBT003
        batches.append(meter.pipeline.process(result))
    await meter.writer.write(batches[1])
    await meter.writer.write(batches[0])
    assert await meter.feed.pool.fetchval("SELECT count(*) FROM meter.empty_session") == 0


async def test_whether_somebody_came_is_unknown(meter: Meter) -> None:
    """Without hasUserJoined, the number of empty sessions is unknown until somebody is seen."""
    unknown = meeting("late", 0)
    unknown = unknown.replace("<hasUserJoined>true</hasUserJoined>", "")
    await meter.play(T, T + 10 * MINUTE, answer_xml(meeting("busy", 5), unknown))
    row = (await meter.report())["acme"]
    assert (row["sessions"], row["empty_sessions"]) == (2, None)
    await meter.play(T + 10 * MINUTE, T + 20 * MINUTE, answer_xml(meeting("late", 2)))
    assert (await meter.report())["acme"]["empty_sessions"] == 0


async def test_a_session_that_was_left_out(meter: Meter) -> None:
    """Within max_gap_s its time is filled; beyond it, minutes and lengths lack it alike."""
    answer = answer_xml(meeting("room", 4))
    hidden = {*meter.feed.ticks(T + 5 * MINUTE, T + 8 * MINUTE)}
    hidden |= {*meter.feed.ticks(T + 20 * MINUTE, T + 28 * MINUTE)}
    await meter.play(T, T + 40 * MINUTE, lambda ts: answer_xml() if ts in hidden else answer)
    await meter.play(T + 40 * MINUTE, T + HOUR, answer_xml())
    row = (await meter.report())["acme"]
    assert (row["sessions"], row["session_minutes"]) == (1, 32)
    assert row["participant_minutes"] == 4 * 32
    assert row["avg_session_minutes"] == 32 - 0.25
    # 29 of 40 minutes were seen; bbb2 was never polled.
    assert row["coverage"] == pytest.approx(0.5 * 29 / 40)
    await sound(meter)
