"""Attempts to hide use, or to count it twice: by clients, and by what answers leave out.

Under the default rules each gives the right figure, or its coverage says that it is not known.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from collector.metering.pipeline import Pipeline
from collector.model import session_id
from collector.settings import Settings
from collector.simulator.plan import epoch_ms
from collector.storage.registry import last_polls
from tests.support.feed import Feed
from tests.support.meetings import answer_xml
from tests.support.meter import (
    DAY,
    HOUR,
    MINUTE,
    Meter,
    T,
    breakout,
    internal,
    make_meter,
    meeting,
    play,
)
from tests.support.reports import report
from tests.support.settings import make_server, make_settings

DEFAULT = [{"type": "server"}, {"type": "parent"}]
BY_MARK = [{"type": "metadata", "key": "bbblb-tenant"}, {"type": "parent"}]
NOBODY = answer_xml()


def settings_of(rules: list[dict[str, Any]], tenant: str | None) -> Settings:
    """Return settings with one server."""
    return make_settings(server=[make_server("bbb1", tenant=tenant)], attribution={"rules": rules})


@pytest.fixture
async def meter(feed: Feed) -> Meter:
    """A server of acme, with the default rules."""
    await feed.due(T, bbb1="acme")
    return Meter(feed, settings_of(DEFAULT, "acme"))


@pytest.fixture
async def shared(feed: Feed) -> Meter:
    """A load balancer that marks the meetings of several tenants."""
    await feed.due(T, bbb1=None)
    return Meter(feed, settings_of(BY_MARK, None))


async def restart(meter: Meter, ts: datetime) -> None:
    """Go on with a collector that knows only what is stored."""
    meter.pipeline = Pipeline(meter.settings)
    async with meter.feed.pool.acquire() as connection:
        last = await last_polls(connection, ["bbb1"], ts, meter.settings.max_gap_s)
    for name, poll in last.items():
        meter.pipeline.restore(name, poll)


async def acme(meter: Meter) -> dict[str, Any]:
    """Return the figures of the hour."""
    row: dict[str, Any] = (await meter.report())["acme"]
    return row


def seldom(shown: bytes, else_shown: bytes, every_s: int) -> Callable[[datetime], bytes]:
    """Return answers with `shown` for a minute, then the other one for the rest of `every_s`."""
    return lambda ts: shown if (ts - T).total_seconds() % every_s < 60 else else_shown


# -- ids that clients choose -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a\x85b", "a\x7fb", "a\tb", "  ", "x" * 600, "a\u202eb"])
async def test_an_odd_id(meter: Meter, name: str) -> None:
    """Of the meeting, of a breakout, and of its parent."""
    odd = [
        meeting("a", 100, meetingID=name),
        breakout("b", 100, "gone", internalMeetingID=f"{name}-{epoch_ms(T)}"),
        breakout("c", 100, name),
    ]
    await meter.play(T, T + 10 * MINUTE, answer_xml(*odd, meeting("d", 4)))
    await meter.play(T + 10 * MINUTE, T + HOUR, NOBODY)
    row = await acme(meter)
    assert row["participant_minutes"] == 10 * 304
    assert [s["ended_at"] for s in await meter.sessions() if s["ended_at"] is None] == []


async def test_the_internal_id_of_another_meeting_of_the_answer(shared: Meter) -> None:
    """Neither takes the people of the other, whoever has more."""
    for people in (5, 300):
        at = T + (30 * MINUTE if people > 5 else 0 * MINUTE)
        stolen = meeting("x", people, at, tenant="law", isBreakout="true", parentMeetingID="gone")
        stolen = stolen.replace(f"x-{epoch_ms(at)}", f"a-{epoch_ms(at)}")
        stolen = stolen.replace(f"<createTime>{epoch_ms(at)}", f"<createTime>{epoch_ms(at) + 500}")
        await shared.play(at, at + 10 * MINUTE, answer_xml(meeting("a", 40, at), stolen))
        await shared.play(at + 10 * MINUTE, at + 20 * MINUTE, NOBODY)
    rows = await shared.report()
    assert rows["acme"]["participant_minutes"] == 2 * 400
    assert rows["law"]["participant_minutes"] == 50 + 3000


async def test_many_meetings_with_one_internal_id(meter: Meter) -> None:
    """As on the nodes behind a load balancer: each counts."""
    same = [
        breakout(f"x{n}", 100, "gone", internalMeetingID="same", createTime=epoch_ms(T) + n)
        for n in range(9)
    ]
    await meter.play(T, T + HOUR, answer_xml(*same))
    assert (await acme(meter))["participant_minutes"] == 60 * 900


# -- parents ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [False, True])
async def test_a_parent_that_cannot_be_read(meter: Meter, known: bool) -> None:  # noqa: FBT001
    """Its breakouts count by themselves, whether it was known or not."""
    group = breakout("b", 500, internal("a"))
    unread = answer_xml(meeting("a", 1, participantCount="many"), group)
    shown = answer_xml(meeting("a", 1), group) if known else unread
    await meter.play(T, T + 48 * MINUTE, seldom(shown, unread, 480))
    await meter.play(T + 48 * MINUTE, T + HOUR, NOBODY)
    assert (await acme(meter))["participant_minutes"] >= 48 * 500


@pytest.mark.parametrize("how", ["left out", "unread"])
async def test_a_breakout_with_more_people_that_is_not_shown(meter: Meter, how: str) -> None:
    """What it adds to its parent is missing, and coverage says so."""
    room = meeting("a", 1)
    lacks = [room] if how == "left out" else [room, breakout("b", 0, "", participantCount="many")]
    shown = answer_xml(room, breakout("b", 40, internal("a")))
    await meter.play(T, T + 41 * MINUTE, seldom(shown, answer_xml(*lacks), 300))
    await meter.play(T + 41 * MINUTE, T + HOUR, NOBODY)
    row = await acme(meter)
    assert row["participant_minutes"] < 41 * 40
    assert row["coverage"] < 0.8


async def test_alone_then_left_out_then_with_its_parent(meter: Meter) -> None:
    """The time between is not filled, as it was another session: coverage says so."""
    group = breakout("b", 40, internal("a"))
    await meter.play(T, T + 10 * MINUTE, answer_xml(group))
    await meter.play(T + 10 * MINUTE, T + 14 * MINUTE, NOBODY)
    await meter.play(T + 14 * MINUTE, T + 30 * MINUTE, answer_xml(meeting("a", 1), group))
    await meter.play(T + 30 * MINUTE, T + HOUR, NOBODY)
    row = await acme(meter)
    assert row["participant_minutes"] == 26 * 40
    assert row["coverage"] < 1


async def test_the_other_server_shows_breakouts_without_their_parent(feed: Feed) -> None:
    """They count through it all the same, where it counts."""
    await feed.due(T, bbb1="acme", bbb2="acme")
    meter = make_meter(feed, DEFAULT, bbb1="acme", bbb2="acme")
    room, group = meeting("a", 40), breakout("b", 40, internal("a"))
    full = {"bbb1": [room, group], "bbb2": [room, group]}
    await play(meter, T, T + 10 * MINUTE, full)
    await play(meter, T + 10 * MINUTE, T + 14 * MINUTE, full | {"bbb2": [group]})
    await play(meter, T + 14 * MINUTE, T + 20 * MINUTE, full)
    await play(meter, T + 20 * MINUTE, T + 25 * MINUTE, {"bbb1": [], "bbb2": []})
    row = await acme(meter)
    assert (row["participant_minutes"], row["peak_participants"]) == (800, 40)


# -- restarts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_parent_that_comes_back(meter: Meter, restarts: bool) -> None:  # noqa: FBT001
    """The people of its breakouts, who counted by themselves, are not filled again."""
    room, group = meeting("a", 40), breakout("b", 40, internal("a"))
    await meter.play(T, T + 5 * MINUTE, answer_xml(room, group))
    await meter.play(T + 5 * MINUTE, T + 9 * MINUTE, answer_xml(group))
    if restarts:
        await restart(meter, T + 9 * MINUTE)
    await meter.play(T + 9 * MINUTE, T + 20 * MINUTE, answer_xml(room, group))
    await meter.play(T + 20 * MINUTE, T + HOUR, NOBODY)
    assert (await acme(meter))["participant_minutes"] == 800


@pytest.mark.parametrize("restarts", [False, True])
async def test_an_empty_room_that_is_joined(meter: Meter, restarts: bool) -> None:  # noqa: FBT001
    """The session begins when somebody was seen."""
    await meter.play(T, T + 40 * MINUTE, answer_xml(meeting("a", 0, hasUserJoined="false")))
    if restarts:
        await restart(meter, T + 40 * MINUTE)
    await meter.play(T + 40 * MINUTE, T + 45 * MINUTE, answer_xml(meeting("a", 5)))
    await meter.play(T + 45 * MINUTE, T + HOUR, NOBODY)
    row = await acme(meter)
    assert (row["avg_session_minutes"], row["empty_sessions"]) == (4.75, 0)
    assert (await meter.report(since=T + 40 * MINUTE))["acme"]["sessions"] == 1


async def test_two_sessions_of_a_breakout_are_gone_at_a_restart(meter: Meter) -> None:
    """The one that was seen last goes on."""
    ms = epoch_ms(T)
    # The other order of their numbers would hide the fault.
    name = next(
        f"b{n}"
        for n in range(99)
        if session_id("bbb1", "acme", f"b{n}-{ms}", ms, nested=True)
        > session_id("bbb1", "acme", f"b{n}-{ms}", ms)
    )
    group = breakout(name, 10, internal("a"))
    await meter.play(T, T + 2 * MINUTE, answer_xml(meeting("a", 1), group))
    await meter.play(T + 2 * MINUTE, T + 5 * MINUTE, answer_xml(group))
    await meter.play(T + 5 * MINUTE, T + 9 * MINUTE, NOBODY)
    await restart(meter, T + 9 * MINUTE)
    await meter.play(T + 9 * MINUTE, T + 12 * MINUTE, answer_xml(group))
    await meter.play(T + 12 * MINUTE, T + HOUR, NOBODY)
    assert (await acme(meter))["participant_minutes"] == 120


async def test_a_start_that_cannot_be(meter: Meter) -> None:
    """It is replaced by the first poll, also if a collector looks again only days later."""
    await meter.feed.pool.execute("UPDATE meter.server_due SET since = $1", T - 3 * DAY)
    old = answer_xml(meeting("a", 3, T - 400 * DAY))
    await meter.play(T - 3 * DAY, T - 3 * DAY + HOUR, old)
    await restart(meter, T)
    await meter.play(T, T + 30 * MINUTE, old)
    await meter.play(T + 30 * MINUTE, T + HOUR, NOBODY)
    row = (await report(meter.feed, T - 4 * DAY, T + HOUR))["acme"]
    assert (row["sessions"], row["participant_minutes"]) == (1, 3 * 90)
