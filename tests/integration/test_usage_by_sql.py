"""What was used, by tenant, server and room."""

from datetime import date, timedelta
from typing import Any

import asyncpg
import pytest

from tests.support.feed import Feed, Run
from tests.support.reports import ADDITIVE, HOUR, MINUTE, at, by, local, report


async def test_usage_by_room_and_server(feed: Feed) -> None:
    """Groups are the tenant's rooms or servers, and add up; `on_server` leaves the others out."""
    t = at("2026-03-02 10:00")
    await feed.due(t, bbb1=None, bbb2=None)
    runs = [
        Run("bbb1", "arts", "studio", t, t + 10 * MINUTE, 4),
        Run("bbb2", "arts", "studio", t + 20 * MINUTE, t + 30 * MINUTE, 6),
        Run("bbb2", "arts", "stage", t, t + 10 * MINUTE, 5),
        Run("bbb2", "law", "studio", t, t + 10 * MINUTE, 9),
    ]
    await feed.play(
        ("bbb1", "bbb2"), feed.ticks(t, t + HOUR), runs, failed={("bbb1", t + 40 * MINUTE)}
    )
    await feed.pool.execute("SELECT meter.update_sessions(120)")
    await feed.due(t + HOUR)

    async def groups(group: str, server: str | None = None) -> dict[tuple[Any, ...], float]:
        rows = await by(feed, t, t + HOUR, group, server)
        return {(r["tenant"], r["server"], r["room"]): r["participant_minutes"] for r in rows}

    assert await groups("room") == {
        ("arts", None, "studio"): 100,
        ("arts", None, "stage"): 50,
        ("law", None, "studio"): 90,
    }
    assert await groups("server") == {
        ("arts", "bbb1", None): 40,
        ("arts", "bbb2", None): 110,
        ("law", "bbb2", None): 90,
    }
    assert await groups("tenant") == {("arts", None, None): 150, ("law", None, None): 90}
    assert await groups("room", "bbb1") == {("arts", None, "studio"): 40}
    assert await groups("tenant", "bbb2") == {("arts", None, None): 110, ("law", None, None): 90}
    assert await groups("tenant", "bbb9") == {}
    coverage = {
        (r["tenant"], r["server"]): r["coverage"] for r in await by(feed, t, t + HOUR, "server")
    }
    assert coverage == {
        ("arts", "bbb1"): pytest.approx(119 / 120),
        ("arts", "bbb2"): 1,
        ("law", "bbb2"): 1,
    }
    (studio,) = await by(feed, t, t + HOUR, "room", "bbb1")
    assert studio["coverage"] == pytest.approx(119 / 120)
    (_, studio, _) = await by(feed, t, t + HOUR, "room")
    assert studio["coverage"] == pytest.approx(239 / 240)
    with pytest.raises(asyncpg.InvalidParameterValueError, match="not by planet"):
        await by(feed, t, t + HOUR, "planet")


async def test_usage_by_adds_up_to_the_report(feed: Feed) -> None:
    """Groups have the report's sum, also where sessions lie on the edges of the period.

    That is one that began before midnight and was first seen after it, one whose tenant changed
    while it ran, and one without a room.
    """
    midnight = local(date(2026, 3, 3))
    begin, end = midnight - 2 * HOUR, midnight + 2 * HOUR
    await feed.due(begin, bbb1=None)
    late = Run(
        "bbb1",
        "arts",
        "late",
        midnight,
        midnight + 9 * MINUTE,
        3,
        created_at=midnight - timedelta(seconds=10),
    )
    moved = Run("bbb1", "arts", "moved", midnight - HOUR, midnight + HOUR, 10)
    lost = Run("bbb1", "arts", None, midnight - HOUR, midnight - HOUR / 2, 4)
    await feed.play(["bbb1"], feed.ticks(begin, midnight), [late, moved, lost])
    # Settings were changed meanwhile, and the collector was away for too long to remember.
    moved_on = Run("bbb1", "law", "moved", moved.begin, moved.end, 10)
    await feed.play(["bbb1"], feed.ticks(midnight, end), [late, moved_on])
    await feed.pool.execute("SELECT meter.update_sessions(120)")
    await feed.due(end)
    for since, until in ((begin, midnight), (midnight, end), (begin, end)):
        expected = {
            tenant: [row[figure] for figure in ADDITIVE]
            for tenant, row in (await report(feed, since, until)).items()
        }
        for group in ("tenant", "server", "room"):
            said = {tenant: [0.0] * len(ADDITIVE) for tenant in expected}
            for row in await by(feed, since, until, group):
                own = said[row["tenant"]]
                said[row["tenant"]] = [
                    old + row[figure] for old, figure in zip(own, ADDITIVE, strict=True)
                ]
            assert said == expected, (group, since, until)
    (first, *_) = await by(feed, begin, midnight, "room")
    assert (first["room"], first["sessions"], first["participant_minutes"]) == ("late", 1, 0)
