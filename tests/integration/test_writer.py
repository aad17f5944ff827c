"""The writer's one statement: all of a batch or nothing of it, and nothing twice."""

import asyncio
import time
from datetime import datetime, timedelta

from collector.model import COUNTS, LATER_COUNTS, Batch, PollRow
from collector.storage.writer import Writer
from tests.support.batches import SERVERS, TICK, T, counts, some_runs, ticks
from tests.support.feed import Feed, Run


async def test_a_batch_is_stored_whole_and_told(feed: Feed) -> None:
    """Every row arrives as it was, and the answer names the polls and counts the samples."""
    runs = [
        Run("bbb1", "arts", "r", T, T + TICK, 9, voice=8, video=7, listeners=6, dialins=5),
        Run("bbb1", "arts", None, T, T + TICK, 3, breakout=True),
    ]
    batch = feed.batch(["bbb1"], ticks(0, 2), runs, failed={("bbb1", T + TICK)})
    batch.sessions[0] = batch.sessions[0]._replace(
        room_name="Art history", recording=True, origin="moodle"
    )
    stored = await feed.writer.write(batch)
    assert stored.polls == {("bbb1", T), ("bbb1", T + TICK)}
    assert stored.samples == 2
    polls = await feed.pool.fetch(
        "SELECT p.ts, s.name AS server, p.ok, p.outcome, p.latency_ms, p.seconds, p.skipped, "
        "p.sessions, p.participants, p.voice, p.video, p.listeners, p.dialins, p.breakouts "
        "FROM meter.poll AS p INNER JOIN meter.server AS s ON p.server_id = s.id ORDER BY p.ts"
    )
    assert [tuple(row) for row in polls] == [tuple(row) for row in batch.polls]
    columns = ", ".join(f"a.{count}" for count in COUNTS)
    later = "".join(f", a.{count}" for count in LATER_COUNTS)
    samples = await feed.pool.fetch(
        f"""
        SELECT
            a.ts AS poll_ts, s.name AS server, a.ts, t.name AS tenant, a.session_id,
            {columns}, a.seconds, a.breakout, a.filled{later}
        FROM meter.sample AS a
        INNER JOIN meter.server AS s ON a.server_id = s.id
        INNER JOIN meter.tenant AS t ON a.tenant_id = t.id
        ORDER BY a.breakout
        """  # noqa: S608
    )
    assert [tuple(row) for row in samples] == [tuple(row) for row in batch.samples]
    sessions = await feed.pool.fetch(
        "SELECT x.first_seen_at, s.name AS server, x.session_id, x.internal_id, x.started_at, "
        "t.name AS tenant, r.external_id, r.name, x.parent_internal_id, x.breakout, x.recording, "
        "x.origin "
        "FROM meter.session AS x INNER JOIN meter.server AS s ON x.server_id = s.id "
        "INNER JOIN meter.tenant AS t ON x.tenant_id = t.id "
        "LEFT JOIN meter.room AS r ON x.room_id = r.id ORDER BY x.breakout"
    )
    assert [tuple(row) for row in sessions] == [tuple(row) for row in batch.sessions]


async def test_an_empty_batch_stores_nothing(feed: Feed) -> None:
    """There is nothing to store, and that is no error."""
    stored = await feed.writer.write(Batch())
    assert (stored.polls, stored.samples) == (frozenset(), 0)
    assert set((await counts(feed)).values()) == {0}


async def test_the_same_batch_is_stored_once(feed: Feed) -> None:
    """A replay, by this writer or a new one, finds its polls there and leaves all as it is."""
    batch = feed.batch(SERVERS, ticks(0, 10), some_runs())
    first = await feed.writer.write(batch)
    once = await counts(feed)
    assert len(first.polls) == once["poll"] == 20
    assert first.samples == once["sample"] == 40
    assert (once["session"], once["room"], once["tenant"], once["server"]) == (4, 2, 2, 2)
    for writer in (feed.writer, Writer(feed.pool)):
        again = await writer.write(batch)
        assert (again.polls, again.samples) == (frozenset(), 0)
    assert await counts(feed) == once


async def test_overlapping_batches_store_each_poll_once(feed: Feed) -> None:
    """Of two batches with some polls in common, the later one adds only what is new."""
    runs = some_runs()
    await feed.writer.write(feed.batch(SERVERS, ticks(0, 6), runs))
    stored = await feed.writer.write(feed.batch(SERVERS, ticks(4, 10), runs))
    assert {ts for _, ts in stored.polls} == set(ticks(6, 10))
    assert stored.samples == 16
    rows = await counts(feed)
    assert (rows["poll"], rows["sample"], rows["session"]) == (20, 40, 4)


async def test_a_successful_poll_takes_the_place_of_a_failed_one(feed: Feed) -> None:
    """Another collector had an answer, or the batch could not be stored then; never back again."""
    runs = some_runs()
    failed = feed.batch(["bbb1"], [T], failed={("bbb1", T)})
    await feed.writer.write(failed)
    stored = await feed.writer.write(feed.batch(SERVERS, [T], runs))
    assert stored.polls == {(server, T) for server in SERVERS}
    assert stored.samples == 4
    assert (await feed.writer.write(failed)).polls == frozenset()
    rows = await counts(feed)
    assert (rows["poll"], rows["sample"], rows["session"]) == (2, 4, 4)
    assert await feed.pool.fetchval("SELECT bool_and(ok) FROM meter.poll")


async def test_two_writers_at_once_store_everything_once(feed: Feed) -> None:
    """Collectors that overlap at a hand-over: each poll is one's, with that one's samples."""
    everything = ticks(0, 10)

    def batches(people: int) -> list[Batch]:
        runs = [Run("bbb1", "arts", f"r{n}", T, T + 10 * TICK, people) for n in range(5)]
        return [feed.batch(["bbb1"], [ts], runs) for ts in everything]

    async def collect(people: int) -> list[tuple[str, datetime]]:
        writer = Writer(feed.pool)
        won: list[tuple[str, datetime]] = []
        for batch in batches(people):
            won += (await writer.write(batch)).polls
        return won

    won = await asyncio.gather(collect(1), collect(2), collect(3))
    assert sorted(ts for polls in won for _, ts in polls) == everything
    samples = await feed.pool.fetch(
        "SELECT ts, count(*) AS samples, min(participants) AS low, max(participants) AS high "
        "FROM meter.sample GROUP BY ts"
    )
    assert {row["ts"]: row["samples"] for row in samples} == dict.fromkeys(everything, 5)
    winner = {ts: n for n, polls in enumerate(won, 1) for _, ts in polls}
    assert all(row["low"] == row["high"] == winner[row["ts"]] for row in samples)
    rows = await counts(feed)
    assert (rows["session"], rows["room"], rows["tenant"], rows["server"]) == (5, 5, 1, 1)


async def test_new_names_get_one_row_each_from_many_writers(feed: Feed) -> None:
    """Tenants, servers and rooms that several writers meet at once are made once."""

    def batch(offset: int) -> Batch:
        runs = [Run(f"bbb{n % 4}", f"tenant{n % 7}", f"room{n}", T, T + TICK) for n in range(20)]
        return feed.batch(
            [f"bbb{n}" for n in range(4)],
            [T + offset * TICK],
            [
                Run(r.server, r.tenant, r.room, T + offset * TICK, T + (offset + 1) * TICK)
                for r in (runs if offset % 2 else runs[::-1])
            ],
        )

    await asyncio.gather(*(Writer(feed.pool).write(batch(n)) for n in range(6)))
    rows = await counts(feed)
    assert (rows["server"], rows["tenant"], rows["room"]) == (4, 7, 20)
    assert (rows["session"], rows["sample"], rows["poll"]) == (120, 120, 24)


async def test_a_rooms_name_is_kept_and_changed_only_by_another(feed: Feed) -> None:
    """The last name given stays; a session without one does not take it away."""
    run = Run("bbb1", "arts", "r", T, T + 10 * TICK)
    for n, name in enumerate(("Old", "New", None)):
        batch = feed.batch(["bbb1"], ticks(n, n + 1), [run])
        batch.sessions[0] = batch.sessions[0]._replace(room_name=name)
        await feed.writer.write(batch)
    assert await feed.pool.fetchval("SELECT name FROM meter.room") == "New"


async def test_a_session_keeps_its_first_sight(feed: Feed) -> None:
    """Announced again, also by an older poll, it stays one row: the earliest sight counts."""
    run = Run("bbb1", "arts", "r", T, T + 10 * TICK)
    for tick in (5, 3, 7):
        await feed.writer.write(feed.batch(["bbb1"], ticks(tick, tick + 1), [run]))
    row = await feed.session(run)
    assert row["first_seen_at"] == T + 3 * TICK


async def test_another_tenants_session_is_another_one(feed: Feed) -> None:
    """Clients can choose internal ids: the same id of another tenant is no sight of the session."""
    run = Run("bbb1", "arts", "r", T, T + 10 * TICK)
    other = Run("bbb1", "law", "r", T, T + 10 * TICK)
    assert (run.internal_id, run.begin) == (other.internal_id, other.begin)
    await feed.writer.write(feed.batch(["bbb1"], ticks(5, 6), [run]))
    await feed.writer.write(feed.batch(["bbb1"], ticks(3, 4), [other]))
    tenants = [
        await feed.pool.fetchval(
            "SELECT t.name FROM meter.tenant AS t WHERE t.id = $1",
            (await feed.session(one))["tenant_id"],
        )
        for one in (run, other)
    ]
    assert tenants == ["arts", "law"]
    assert (await feed.session(run))["first_seen_at"] == T + 5 * TICK


async def test_a_sessions_first_start_stays(feed: Feed) -> None:
    """One that was corrected by a server's clock comes out a second later the next time."""
    run = Run("bbb1", "arts", "r", T, T + 10 * TICK)
    await feed.play(["bbb1"], ticks(0, 1), [run])
    for off_s in (1, -2, 30):
        batch = feed.batch(["bbb1"], ticks(4 + abs(off_s), 5 + abs(off_s)))
        announced = feed.announce(run, T + (4 + abs(off_s)) * TICK)
        batch.sessions.append(announced._replace(started_at=T + timedelta(seconds=off_s)))
        await feed.writer.write(batch)
    assert (await feed.session(run))["started_at"] == T


async def test_a_session_twice_in_a_batch_is_one_row(feed: Feed) -> None:
    """A session that came, went and came again within one batch is announced twice."""
    first = Run("bbb1", "arts", "r", T, T + TICK)
    again = Run("bbb1", "arts", "r", T, T + 5 * TICK)
    batch = feed.batch(["bbb1"], ticks(0, 3), [first])
    batch.extend(feed.batch(["bbb1"], ticks(3, 5), [again]))
    assert len(batch.sessions) == 2
    await feed.writer.write(batch)
    assert (await feed.session(first))["first_seen_at"] == T


async def test_filled_samples_give_way_to_real_polls(feed: Feed) -> None:
    """What was interpolated is left out where another collector did poll with success."""
    run = Run("bbb1", "arts", "r", T, T + 10 * TICK, 4)
    await feed.writer.write(feed.batch(["bbb1"], [T, T + 2 * TICK], [run]))
    await feed.writer.write(feed.batch(["bbb1"], ticks(3, 4), failed={("bbb1", T + 3 * TICK)}))
    batch = feed.batch(["bbb1"], ticks(5, 6), [run])
    batch.samples += [feed.sample(run, ts, poll_ts=T + 5 * TICK) for ts in ticks(1, 5)]
    stored = await feed.writer.write(batch)
    # The poll at 2 succeeded; 1 and 4 were missed, and 3 failed.
    assert stored.samples == 4
    rows = await feed.pool.fetch("SELECT ts, filled FROM meter.sample ORDER BY ts")
    assert [tuple(row) for row in rows] == list(
        zip(ticks(0, 6), (False, True, False, True, True, False), strict=True)
    )


async def test_samples_without_a_poll_are_not_stored(feed: Feed) -> None:
    """A poll is the commit record: samples and sessions that name none are nowhere."""
    batch = feed.batch(SERVERS, ticks(0, 1), some_runs())
    batch.polls = [row for row in batch.polls if row.server == "bbb2"]
    batch.polls.append(PollRow(T - TICK, "bbb1", True, "ok", 5, 30))  # noqa: FBT003
    stored = await feed.writer.write(batch)
    assert stored.samples == 2
    rows = await counts(feed)
    assert (rows["poll"], rows["sample"], rows["session"]) == (2, 2, 2)


async def test_twenty_thousand_samples_are_one_batch(feed: Feed) -> None:
    """The largest batch that the collector makes is stored, whole, well within the deadline."""
    runs = [
        Run(f"bbb{n % 100}", f"tenant{n % 30}", f"room{n}", T, T + TICK, n % 50)
        for n in range(20_000)
    ]
    batch = Batch(
        polls=[PollRow(T, f"bbb{n}", True, "ok", 5, 30) for n in range(100)],  # noqa: FBT003
        sessions=[feed.announce(run, T) for run in runs],
        samples=[feed.sample(run, T) for run in runs],
    )
    began = time.monotonic()
    stored = await feed.writer.write(batch)
    print(f"stored in {time.monotonic() - began:.2f} s")  # noqa: T201 - a measurement for -s
    assert (len(stored.polls), stored.samples) == (100, 20_000)
    assert (await counts(feed))["session"] == 20_000
