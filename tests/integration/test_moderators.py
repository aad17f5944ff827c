"""Moderators, from the answer's bytes to the report: known, unknown, and known in part."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from collector.database.upkeep import settle
from collector.metering.pipeline import Pipeline
from collector.model import Meeting, PollResult
from collector.sources.polling.parser import parse_meetings
from collector.storage.registry import sync_fleet
from collector.storage.writer import Writer
from collector.verify import verify
from tests.support.feed import Feed
from tests.support.meetings import CREATED_MS, answer_xml, identity, meeting_xml
from tests.support.reports import by, report, usage
from tests.support.settings import KEEP_ALL, make_server, make_settings
from tests.support.verify import materialized

T = datetime.fromtimestamp(CREATED_MS // 3_600_000 * 3600, UTC) + timedelta(days=2)
TICK, MINUTE, HOUR, DAY = (timedelta(seconds=30), *(timedelta(minutes=n) for n in (1, 60, 1440)))
SETTINGS = make_settings(
    server=[make_server("bbb1", tenant="arts"), make_server("bbb2", tenant="law")],
    retention=KEEP_ALL,
)


def one(body: bytes) -> Meeting:
    """Return the only meeting of an answer."""
    (meeting,) = parse_meetings(body).meetings
    return meeting


@pytest.mark.parametrize(
    ("text", "moderators"),
    [
        ("0", 0),
        ("2", 2),
        ("1,202", 1202),
        ("", None),
        ("-1", None),
        ("many", None),
        ("99999", None),
    ],
)
@pytest.mark.parametrize("add", ["", "<new>element</new>"])
def test_moderators_of_a_meeting(text: str, moderators: int | None, add: str) -> None:
    """The count is read in every layout; what is no count is unknown, and the meeting is read."""
    meeting = one(answer_xml(meeting_xml(moderatorCount=text, add=add)))
    assert (meeting.moderators, meeting.participants) == (moderators, 4)


def test_a_server_that_does_not_send_moderators() -> None:
    """Their number is unknown, not zero, as with b3scale's answers."""
    assert one(answer_xml(meeting_xml(drop="moderatorCount"))).moderators is None


class Fleet:
    """Two servers whose answers go through parser, pipeline and writer."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        """Store in the migrated database of `pool`."""
        self.pipeline = Pipeline(SETTINGS)
        self.writer = Writer(pool)

    async def poll(self, server: str, ts: datetime, *meetings: str) -> None:
        """Store what `server` answers at the tick `ts`."""
        answer = parse_meetings(answer_xml(*meetings))
        assert answer.skipped == 0
        result = PollResult(server, ts, ok=True, latency_ms=5, answer=answer)
        await self.writer.write(self.pipeline.process(result))


def ticks(since: datetime, until: datetime) -> Iterator[datetime]:
    """Yield the ticks of [since, until)."""
    while since < until:
        yield since
        since += TICK


def meeting(number: int, moderators: int | None, **changes: Any) -> str:  # noqa: ANN401
    """Render a meeting with four participants; without their number for None."""
    fields = {"internalMeetingID": identity(number), "meetingID": f"room{number}", **changes}
    if moderators is None:
        return meeting_xml(drop="moderatorCount", **fields)
    return meeting_xml(moderatorCount=moderators, **fields)


@pytest.fixture
async def fed(feed: Feed) -> Feed:
    """An hour and five minutes: arts with 1 and 2 moderators, law with one session unknown.

    arts has a breakout room too, whose moderators count nowhere.
    """
    end = T + HOUR + 5 * MINUTE
    async with feed.pool.acquire() as connection:
        await sync_fleet(connection, SETTINGS.server, (), T)
        await sync_fleet(connection, (), (), end)
    fleet = Fleet(feed.pool)
    for ts in ticks(T, end):
        breakout = meeting(
            3, 4, isBreakout="true", add=f"<parentMeetingID>{identity(1)}</parentMeetingID>"
        )
        await fleet.poll("bbb1", ts, meeting(1, 1), meeting(2, 2), breakout)
        # The server of law sends no number of moderators in the last minutes.
        late = ts >= T + HOUR
        await fleet.poll("bbb2", ts, meeting(4, None if late else 3))
    return feed


@pytest.mark.parametrize("refreshed", [False, True])
async def test_minutes_of_moderators(fed: Feed, *, refreshed: bool) -> None:
    """They add up by minutes, hours and days, in real time and from rollups alike."""
    if refreshed:
        await fed.refresh()
    since, until = T + 3 * MINUTE, T + HOUR + 2 * MINUTE
    whole = await report(fed, since, until)
    assert whole["arts"]["moderator_minutes"] == 3 * 59
    assert whole["arts"]["participant_minutes"] == 8 * 59
    days = await usage(fed, T - DAY, T + DAY, "day")
    assert sum(row["moderator_minutes"] or 0 for row in days if row["tenant"] == "arts") == 3 * 65
    rows = {row["room"]: row["moderator_minutes"] for row in await by(fed, since, until, "room")}
    assert rows == {"room1": 59, "room2": 2 * 59, "room4": None}


@pytest.mark.parametrize("refreshed", [False, True])
async def test_known_in_part_is_not_known(fed: Feed, *, refreshed: bool) -> None:
    """A period with one session whose moderators are unknown for a while has no figure."""
    if refreshed:
        await fed.refresh()
    known = await report(fed, T, T + HOUR)
    assert known["law"]["moderator_minutes"] == 3 * 60
    assert (await report(fed, T, T + HOUR + MINUTE))["law"]["moderator_minutes"] is None
    (law,) = [row for row in await usage(fed, T, T + 2 * HOUR, "total") if row["tenant"] == "law"]
    assert (law["moderator_minutes"], law["participant_minutes"]) == (None, 4 * 65)


async def test_a_gap_is_filled_where_both_sides_are_known(feed: Feed) -> None:
    """Between two polls moderators are interpolated; beside an unknown number they are unknown."""
    fleet = Fleet(feed.pool)
    await fleet.poll("bbb1", T, meeting(1, 1), meeting(2, 2), meeting(3, None))
    await fleet.poll("bbb1", T + 4 * TICK, meeting(1, 5), meeting(2, None), meeting(3, 1))
    rows = await feed.pool.fetch(
        "SELECT s.internal_id, array_agg(a.moderators ORDER BY a.ts) AS moderators "
        "FROM meter.sample AS a INNER JOIN meter.session AS s ON a.session_id = s.session_id "
        "GROUP BY s.internal_id"
    )
    assert {row["internal_id"]: row["moderators"] for row in rows} == {
        identity(1): [1, 2, 3, 4, 5],
        identity(2): [2, None, None, None, None],
        identity(3): [None, None, None, None, 1],
    }


async def test_verification_computes_them_again(fed: Feed) -> None:
    """A rollup that differs is found; one that is right is not."""
    await settle(fed.pool, timedelta(0))
    await fed.refresh()
    results = {r.name: r for r in await verify(fed.pool, SETTINGS, second_look_s=0)}
    for name in ("rollup moderators_1h", "rollup moderators_1d"):
        assert results[name].ok
        assert results[name].examined > 0
    table = await materialized(fed, "moderators_1h")
    await fed.pool.execute(f"UPDATE {table} SET count_seconds = count_seconds + 1")  # noqa: S608
    results = {r.name: r for r in await verify(fed.pool, SETTINGS, second_look_s=0)}
    assert not results["rollup moderators_1h"].ok
