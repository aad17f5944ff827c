"""One meeting on two servers of the settings: counted once, or named where it counts twice."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from collector.storage.duplicates import Duplicates
from collector.verify import repair
from tests.support.feed import Feed
from tests.support.meetings import answer_xml
from tests.support.meter import (
    HOUR,
    MINUTE,
    TICK,
    Meter,
    T,
    breakout,
    find,
    internal,
    make_meter,
    meeting,
    play,
)
from tests.support.verify import look


async def figures(meter: Meter, tenant: str, *names: str) -> list[Any]:
    """Return figures of the report of the hour from T on."""
    row = (await meter.report())[tenant]
    return [row[name] for name in names]


async def sound(meter: Meter) -> None:
    """Verify what is stored."""
    found = await look(meter.feed, meter.settings, until=T + HOUR)
    for name in ("samples", "sessions", "duplicates", "rollup usage_1m", "rollup server_1h"):
        assert found[name].findings == (), name


FIGURES = ("participant_minutes", "sessions", "peak_participants", "peak_sessions")


async def test_one_server_with_two_names(feed: Feed) -> None:
    """100 minutes, 1 session, peak 10: the ticks before it was found are changed too."""
    await feed.due(T, bbb1=None, bbb2=None)
    meter = make_meter(feed, bbb1=None, bbb2=None)
    answers = {"bbb1": [meeting("a", 10)], "bbb2": [meeting("a", 10)]}
    pairs = await play(meter, T, T + 10 * MINUTE, answers)
    assert pairs == [Duplicates("bbb2", "bbb1", "acme", "acme", counts=False, sessions=1)]
    await play(meter, T + 10 * MINUTE, T + 20 * MINUTE, {"bbb1": [], "bbb2": []})
    assert await figures(meter, "acme", *FIGURES) == [100, 1, 10, 1]
    assert await find(meter) == []
    await sound(meter)


async def test_it_is_found_at_its_first_tick(feed: Feed) -> None:
    """The second tick stores nothing that counts twice."""
    await feed.due(T, bbb1=None, bbb2=None)
    meter = make_meter(feed, bbb1=None, bbb2=None)
    answers = {"bbb1": [meeting("a", 10)], "bbb2": [meeting("a", 10)]}
    assert await play(meter, T, T + TICK, answers)
    await play(meter, T + TICK, T + 2 * TICK, answers, found=False)
    counted = await feed.pool.fetchval(
        "SELECT sum(participants) FROM meter.sample WHERE NOT breakout AND ts = $1", T + TICK
    )
    assert counted == 10


async def test_a_balancer_and_its_servers(feed: Feed) -> None:
    """The servers' own sessions count if tenants agree; the balancer knows the others' tenants."""
    await feed.due(T, lb="acme", s1=None, s2=None)
    meter = make_meter(feed, lb="acme", s1=None, s2=None)
    marked = [meeting(name, 5) for name in ("a", "b")]
    no_mark = [meeting(name, 3, tenant="") for name in ("c", "d")]
    answers = {
        "lb": [*marked, *no_mark],
        "s1": [marked[0], no_mark[0]],
        "s2": [marked[1], no_mark[1]],
    }
    pairs = await play(meter, T, T + 10 * MINUTE, answers)
    assert sum(pair.sessions for pair in pairs) == 4
    assert not any(pair.counts for pair in pairs)
    ways = {(pair.server, pair.other_server, pair.tenant) for pair in pairs}
    assert ways == {
        ("lb", "s1", "acme"),
        ("lb", "s2", "acme"),
        ("s1", "lb", "unassigned"),
        ("s2", "lb", "unassigned"),
    }
    await play(meter, T + 10 * MINUTE, T + 20 * MINUTE, {server: [] for server in answers})
    assert await figures(meter, "acme", *FIGURES) == [160, 4, 16, 4]
    rows = await feed.pool.fetch("SELECT * FROM meter.tenant_report($1, $2)", T, T + HOUR)
    unassigned = next(row for row in rows if row["tenant"] == "unassigned")
    assert (unassigned["participant_minutes"], unassigned["sessions"]) == (0, 0)
    await sound(meter)


async def test_two_tenants_count_both_and_are_named(feed: Feed) -> None:
    """Nobody knows whose meeting it is: both count, and the report says so."""
    await feed.due(T, bbb1="acme", bbb2="law")
    meter = make_meter(feed, [{"type": "server"}], bbb1="acme", bbb2="law")
    answers = {"bbb1": [meeting("a", 10)], "bbb2": [meeting("a", 10)]}
    pairs = await play(meter, T, T + 10 * MINUTE, answers)
    assert pairs == [Duplicates("bbb2", "bbb1", "law", "acme", counts=True, sessions=1)]
    await play(meter, T + 10 * MINUTE, T + 20 * MINUTE, {"bbb1": [], "bbb2": []})
    assert await figures(meter, "acme", "participant_minutes") == [100]
    assert await figures(meter, "law", "participant_minutes") == [100]
    (row,) = await feed.pool.fetch("SELECT * FROM meter.duplicates($1, $2)", T, T + HOUR)
    assert tuple(row) == ("bbb2", "bbb1", "law", "acme", True, 1, 100)
    after = T + 20 * MINUTE, T + 2 * HOUR
    assert not await feed.pool.fetch("SELECT FROM meter.duplicates($1, $2)", *after)


async def test_breakouts_of_a_meeting_on_two_servers(feed: Feed) -> None:
    """They count through their parent, and people beyond its number count once."""
    await feed.due(T, bbb1=None, bbb2=None)
    meter = make_meter(feed, bbb1=None, bbb2=None)
    shown = [meeting("a", 10), breakout("group", 30, internal("a"))]
    await play(meter, T, T + 10 * MINUTE, {"bbb1": shown, "bbb2": shown})
    await play(meter, T + 10 * MINUTE, T + 20 * MINUTE, {"bbb1": [], "bbb2": []})
    assert await figures(meter, "acme", *FIGURES) == [300, 1, 30, 1]
    await sound(meter)


async def test_breakouts_that_only_the_other_server_shows(feed: Feed) -> None:
    """A balancer can leave them out: they count through their parent all the same."""
    await feed.due(T, bbb1=None, bbb2=None)
    meter = make_meter(feed, bbb1=None, bbb2=None)
    shown = [meeting("a", 10), breakout("group", 8, internal("a"))]
    await play(meter, T, T + 10 * MINUTE, {"bbb1": shown[:1], "bbb2": shown})
    assert await figures(meter, "acme", *FIGURES) == [100, 1, 10, 1]
    await sound(meter)


@pytest.mark.parametrize("parent", [{}, {"parentMeetingID": "other-1"}])
async def test_clients_cannot_make_duplicates(feed: Feed, parent: dict[str, Any]) -> None:
    """A client chooses the internal id of a breakout: it is another meeting all the same."""
    await feed.due(T, bbb1=None, bbb2=None)
    meter = make_meter(feed, bbb1=None, bbb2=None)
    stolen = meeting("a", 300, isBreakout="true", **parent)
    answers = {"bbb1": [meeting("a", 10)], "bbb2": [stolen]}
    assert await play(meter, T, T + 10 * MINUTE, answers) == []
    assert await figures(meter, "acme", "participant_minutes", "sessions") == [3100, 2]
    await sound(meter)


async def test_a_server_with_a_new_name_is_no_duplicate(feed: Feed) -> None:
    """Its sessions follow each other; until the old ones are closed, both are open."""
    await feed.due(T, old=None)
    meter = make_meter(feed, old=None, new=None)
    await play(meter, T, T + 5 * MINUTE, {"old": [meeting("a", 10)]})
    await feed.due(T + 5 * MINUTE, new=None)
    found = await play(meter, T + 5 * MINUTE, T + 10 * MINUTE, {"new": [meeting("a", 10)]})
    assert found == []
    assert await figures(meter, "acme", "participant_minutes") == [100]


async def test_what_was_seen_before_counts(feed: Feed) -> None:
    """A balancer is added later: what only the server had shown stays where it was."""
    await feed.due(T, s1=None)
    meter = make_meter(feed, lb="acme", s1=None)
    quiet = [meeting("a", 10, tenant="")]
    await play(meter, T, T + 10 * MINUTE, {"s1": quiet})
    await feed.due(T + 10 * MINUTE, s1=None, lb="acme")
    await play(meter, T + 10 * MINUTE, T + 20 * MINUTE, {"s1": quiet, "lb": quiet})
    await play(meter, T + 20 * MINUTE, T + 30 * MINUTE, {"s1": [], "lb": []})
    rows = await feed.pool.fetch("SELECT * FROM meter.tenant_report($1, $2)", T, T + HOUR)
    minutes = {row["tenant"]: row["participant_minutes"] for row in rows}
    assert minutes == {"acme": 100, "unassigned": 100}
    await sound(meter)


async def test_the_entry_that_counted_is_removed(feed: Feed) -> None:
    """The other one counts again from the next tick on, and no second counts twice."""
    await feed.due(T, bbb1=None, bbb2=None)
    meter = make_meter(feed, bbb1=None, bbb2=None)
    both = {"bbb1": [meeting("a", 10)], "bbb2": [meeting("a", 10)]}
    await play(meter, T, T + 10 * MINUTE, both)
    await feed.due(T + 10 * MINUTE, bbb2=None)
    meter.pipeline.forget("bbb1")
    await meter.update()
    assert await find(meter) == []
    alone = {"bbb2": [meeting("a", 10)]}
    await play(meter, T + 10 * MINUTE, T + 20 * MINUTE, alone)
    assert await figures(meter, "acme", "participant_minutes", "sessions") == [200, 1]
    # The first entry is back.
    await feed.due(T + 20 * MINUTE, bbb1=None, bbb2=None)
    await play(meter, T + 20 * MINUTE, T + 30 * MINUTE, both)
    assert await figures(meter, "acme", "participant_minutes", "sessions") == [300, 1]


async def test_a_collector_that_has_not_read_the_list(feed: Feed) -> None:
    """What it stores is changed when late data are settled."""
    await feed.due(T, bbb1=None, bbb2=None)
    meter = make_meter(feed, bbb1=None, bbb2=None)
    answers = {"bbb1": [meeting("a", 10)], "bbb2": [meeting("a", 10)]}
    await play(meter, T, T + 2 * MINUTE, answers)
    meter.pipeline.elsewhere = {}
    await play(meter, T + 2 * MINUTE, T + 4 * MINUTE, answers, found=False)
    await note_late(meter, T + 2 * MINUTE, T + 4 * MINUTE)
    assert await figures(meter, "acme", "participant_minutes", "sessions") == [40, 1]
    await sound(meter)


async def note_late(meter: Meter, since: datetime, until: datetime) -> None:
    """Settle a span of time, as after a replay of a spool."""
    await meter.feed.pool.execute(
        "INSERT INTO meter.late (since, until) VALUES ($1, $2)", since, until + timedelta(seconds=1)
    )
    await meter.update()


async def test_sessions_that_ended_before_they_were_compared(feed: Feed) -> None:
    """After an outage of the database, both are stored from the spool, and ended at once."""
    await feed.due(T, bbb1=None, bbb2=None)
    meter = make_meter(feed, bbb1=None, bbb2=None)
    answers = {"bbb1": [meeting("a", 10)], "bbb2": [meeting("a", 10)]}
    await play(meter, T, T + 10 * MINUTE, answers, found=False)
    await play(meter, T + 10 * MINUTE, T + 20 * MINUTE, {"bbb1": [], "bbb2": []}, found=False)
    await meter.update()
    assert await figures(meter, "acme", *FIGURES) == [100, 1, 10, 1]
    await sound(meter)


async def test_the_server_that_counts_ceases_to_show_it(feed: Feed) -> None:
    """The other one counts from the next tick on, although that is known minutes later."""
    await feed.due(T, bbb1=None, bbb2=None)
    meter = make_meter(feed, bbb1=None, bbb2=None)
    both = {"bbb1": [meeting("a", 10)], "bbb2": [meeting("a", 10)]}
    await play(meter, T, T + 10 * MINUTE, both)
    for minute in range(10, 30):
        since = T + minute * MINUTE
        await play(meter, since, since + MINUTE, both | {"bbb1": []})
    for minute in range(30, 35):
        since = T + minute * MINUTE
        await play(meter, since, since + MINUTE, {"bbb1": [], "bbb2": []})
    assert await figures(meter, "acme", *FIGURES) == [300, 1, 10, 1]
    await sound(meter)


async def test_verify_finds_and_repairs_what_was_not_noted(feed: Feed) -> None:
    """As what an earlier version of bbbmeter stored."""
    await feed.due(T, bbb1=None, bbb2=None)
    meter = make_meter(feed, bbb1=None, bbb2=None)
    for ts in feed.ticks(T, T + 20 * MINUTE):
        for server in ("bbb1", "bbb2"):
            shown = answer_xml(*[meeting("a", 10)] * (ts < T + 10 * MINUTE))
            await meter.poll(ts, shown, server)
    await feed.pool.execute("DELETE FROM meter.late")
    await meter.update()
    assert await figures(meter, "acme", *FIGURES) == [200, 2, 20, 2]
    results = await look(feed, meter.settings, until=T + HOUR)
    result = results["duplicates"]
    assert result.total == 2
    assert "server bbb1 (tenant acme) and on server bbb2 (tenant acme)" in result.findings[0].what
    assert all(finding.repairable for finding in result.findings)
    done = await repair(feed.pool, meter.settings, [result])
    assert done[0] == "noted 1 meetings that two servers show"
    assert await figures(meter, "acme", *FIGURES) == [100, 1, 10, 1]
    await sound(meter)


async def test_verify_names_what_counts_twice(feed: Feed) -> None:
    """A person must decide whose meeting it is."""
    await feed.due(T, bbb1="acme", bbb2="law")
    meter = make_meter(feed, [{"type": "server"}], bbb1="acme", bbb2="law")
    answers = {"bbb1": [meeting("a", 10)], "bbb2": [meeting("a", 10)]}
    await play(meter, T, T + 10 * MINUTE, answers)
    result = (await look(feed, meter.settings, until=T + HOUR))["duplicates"]
    (finding,) = result.findings
    assert finding.found == "two tenants, so it counts twice"
    assert not finding.repairable


async def test_verify_finds_a_server_that_hides_people(feed: Feed) -> None:
    """The session that counts says 1, and the one that does not says 40."""
    await feed.due(T, bbb1=None, bbb2=None)
    meter = make_meter(feed, bbb1=None, bbb2=None)
    answers = {"bbb1": [meeting("a", 1)], "bbb2": [meeting("a", 40)]}
    await play(meter, T, T + 10 * MINUTE, answers)
    result = (await look(feed, meter.settings, until=T + HOUR))["duplicates"]
    (finding,) = result.findings
    assert finding.expected == "at most 10.0 participant minutes, which are counted"
    assert finding.found == "400.0 on the server where it does not count"
