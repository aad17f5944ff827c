"""Between polling and the database: order, retries, refusals, a full queue."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from collector.database.deadlines import WRITE_DEADLINE_S
from collector.errors import DatabaseError, RejectedBatchError, SpoolError
from collector.metrics import Metrics
from collector.model import Batch, PollRow
from collector.storage import outbox
from collector.storage.outbox import Outbox
from collector.storage.spool import Entry, Spool
from collector.storage.spool.quarantine import retry
from collector.storage.writer import Stored, Writer

START = datetime(2026, 2, 2, 8, tzinfo=UTC)


class FakeWriter(Writer):
    """A writer without a database: it fails as a test says, and remembers what it stored."""

    def __init__(self) -> None:
        """Store everything."""
        self.stored: list[PollRow] = []
        self.failures: list[Exception] = []
        self.poison: set[str] = set()
        self.strict = False
        self.hangs = False
        self.away = False
        self.statements = 0
        self.late: list[bool] = []

    async def write(
        self, batch: Batch, *, late: bool = False, deadline_s: float = WRITE_DEADLINE_S
    ) -> Stored:
        """Store, or fail; each tick at most once in a statement, as the database wants it."""
        self.statements += 1
        self.late += [late] * len(batch.polls)
        assert len({(poll.server, poll.ts) for poll in batch.polls}) == len(batch.polls)
        if self.hangs:
            await asyncio.sleep(min(deadline_s, 0.05))
            raise DatabaseError
        if self.away:
            raise DatabaseError
        if self.failures:
            raise self.failures.pop(0)
        if any((poll.ok or self.strict) and poll.server in self.poison for poll in batch.polls):
            raise RejectedBatchError
        there = {(poll.server, poll.ts) for poll in self.stored}
        new = [poll for poll in batch.polls if (poll.server, poll.ts) not in there]
        self.stored += new
        return Stored(frozenset((poll.server, poll.ts) for poll in new), len(batch.samples))


def batch(server: str, at_s: int = 0) -> Batch:
    """Return a batch with one poll."""
    ts = START + timedelta(seconds=at_s)
    return Batch(polls=[PollRow(ts, server, ok=True, outcome="ok", latency_ms=1, seconds=30)])


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> FakeWriter:
    """A fake writer; pauses are short."""
    monkeypatch.setattr(outbox, "GATHER_S", 0.0)
    monkeypatch.setattr(outbox, "FIRST_RETRY_S", 0.0)
    return FakeWriter()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    """A spool on disk."""
    spool = Spool.open(tmp_path, 1024**2)
    yield spool
    spool.close()


def make_outbox(writer: FakeWriter, spool: Spool | None, again: list[str]) -> Outbox:
    """Return an outbox that appends to `again` the servers of polls that were not stored."""
    return Outbox(writer, spool, Metrics(), not_stored=again.append, late_days=None)


@asynccontextmanager
async def running(
    writer: FakeWriter, *batches: Batch, spool: Spool | None = None
) -> AsyncIterator[tuple[Outbox, list[str]]]:
    """Put the batches into an outbox, run it until none is in memory, and yield it."""
    again: list[str] = []
    box = make_outbox(writer, spool, again)
    for one in batches:
        box.put(one)
    task = asyncio.create_task(box.run())
    try:
        async with asyncio.timeout(30):
            await box.drain()
        yield box, again
    finally:
        task.cancel()
        await asyncio.wait({task})
        await box.close()


async def until(true: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 - no event says so
            await asyncio.sleep(0.01)


def metric(box: Outbox, name: str, **labels: str) -> float | None:
    """Return the value of one of the outbox's metrics."""
    return box._metrics.registry.get_sample_value(f"bbbmeter_{name}", labels)


async def test_batches_are_stored_in_order_in_few_statements(writer: FakeWriter) -> None:
    """What waits together is stored together, oldest first."""
    async with running(writer, batch("a"), batch("b"), batch("a", 30)) as (box, again):
        assert [(p.server, p.ts) for p in writer.stored] == [
            ("a", START),
            ("b", START),
            ("a", START + timedelta(seconds=30)),
        ]
        assert writer.statements == 1
        assert box.newest_stored == START + timedelta(seconds=30)
        assert again == []


async def test_a_failure_is_retried_until_it_is_stored(writer: FakeWriter) -> None:
    """A database that is away for a while costs nothing."""
    writer.failures = [DatabaseError("away"), DatabaseError("away")]
    async with running(writer, batch("a"), batch("b")) as (box, _):
        assert len(writer.stored) == 2
        assert not box.failing


async def test_a_refused_batch_hurts_no_other_server(writer: FakeWriter) -> None:
    """The poll that the database refuses becomes a failed one; the others are stored."""
    writer.poison = {"bad"}
    async with running(writer, batch("a"), batch("bad"), batch("b")) as (_, again):
        assert {(p.server, p.ok, p.outcome) for p in writer.stored} == {
            ("a", True, "ok"),
            ("bad", False, "rejected"),
            ("b", True, "ok"),
        }
        assert again == ["bad"]


async def test_no_batch_is_tried_for_ever(writer: FakeWriter) -> None:
    """Where even the failed poll is refused, the poll is given up, and the next ones are stored."""
    writer.poison, writer.strict = {"bad"}, True
    async with running(writer, batch("bad"), batch("a")):
        assert [p.server for p in writer.stored] == ["a"]


async def test_polls_that_were_there_already_are_reported(writer: FakeWriter) -> None:
    """A poll that another collector stored is not new: its sessions will be announced again."""
    writer.stored = batch("a").polls
    async with running(writer, batch("a"), batch("b")) as (_, again):
        assert again == ["a"]


async def test_a_tick_twice_goes_into_two_statements(writer: FakeWriter) -> None:
    """As after a step of the clock: the samples of both would count with the one poll."""
    async with running(writer, batch("a"), batch("b"), batch("a")) as (_, again):
        assert [p.server for p in writer.stored] == ["a", "b"]
        assert writer.statements == 2
        assert again == ["a"]


async def test_while_the_database_is_away_batches_go_to_disk(
    writer: FakeWriter, spool: Spool
) -> None:
    """In memory nothing stays; once it is back the backlog is replayed in order, as late."""
    writer.away = True
    batches = [batch("a", n * 30) for n in range(5)]
    async with running(writer, *batches, spool=spool) as (box, again):
        assert (spool.polls, writer.stored, box.failing) == (5, [], True)
        assert again == ["a"] * 5
        assert metric(box, "queue_polls") == 0
        writer.away, writer.late = False, []
        await until(lambda: not spool.polls)
        assert [p.ts for p in writer.stored] == [b.polls[0].ts for b in batches]
        assert writer.late == [True] * 5
        await until(lambda: not box.failing)


async def test_a_backlog_does_not_keep_live_polls_waiting(
    writer: FakeWriter, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is new is stored before the rest of the backlog, and not marked as late."""
    monkeypatch.setattr(outbox, "MAX_STATEMENT_POLLS", 2)
    spool.append([batch("a", n * 30) for n in range(20)])
    async with running(writer, batch("live", 900), spool=spool):
        assert [p.server for p in writer.stored].index("live") <= 2
        await until(lambda: not spool.polls)
        assert [p.ts for p in writer.stored if p.server == "a"] == [
            START + timedelta(seconds=n * 30) for n in range(20)
        ]
        assert writer.late.count(False) == 1


async def test_a_database_that_hangs_is_one_that_is_away(writer: FakeWriter, spool: Spool) -> None:
    """A batch that takes too long waits on disk, not in memory."""
    writer.hangs = True
    async with running(writer, batch("a"), spool=spool):
        assert spool.polls == 1
        writer.hangs = False
        await until(lambda: not spool.polls)
        assert len(writer.stored) == 1


async def test_what_waits_is_brought_to_disk_at_the_end(writer: FakeWriter, spool: Spool) -> None:
    """Also what came in while the last statement was under way."""
    box = make_outbox(writer, spool, [])
    box.put(batch("a"))
    await box.close()
    assert spool.polls == 1
    assert [entry.batch for entry in spool.oldest(10)] == [batch("a")]


async def test_a_refused_batch_is_kept_in_quarantine(writer: FakeWriter, spool: Spool) -> None:
    """Live or replayed, with the reason, and a failed poll stands in its place; none is retried."""
    writer.poison = {"bad", "worse"}
    spool.append([batch("worse"), batch("c")])
    async with running(writer, batch("a"), batch("bad"), spool=spool) as (box, _):
        await until(lambda: not spool.polls)
        assert {(p.server, p.ok, p.outcome) for p in writer.stored} == {
            ("a", True, "ok"),
            ("bad", False, "rejected"),
            ("worse", False, "rejected"),
            ("c", True, "ok"),
        }
        await until(lambda: metric(box, "quarantined_batches") == 2)
        assert metric(box, "dropped_polls_total", outcome="rejected") == 2


async def test_a_refused_entry_is_moved_where_there_is_no_room_for_another(
    writer: FakeWriter, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the spool holds already needs no more room in its quarantine."""
    quarantine, kinds = spool.quarantine, []

    def noted(what: Entry | Batch, reason: str) -> None:
        kinds.append(type(what))
        quarantine(what, reason)

    monkeypatch.setattr(spool, "quarantine", noted)
    writer.poison = {"bad", "live"}
    spool.append([batch("bad"), batch("a")])
    async with running(writer, batch("live"), spool=spool):
        await until(lambda: not spool.polls)
        assert (sorted(k.__name__ for k in kinds), spool.quarantined) == (["Batch", "Entry"], 2)


async def test_what_is_too_old_is_refused_with_the_reason(writer: FakeWriter, spool: Spool) -> None:
    """It is not stored half, where a part of what it belongs to is dropped already."""
    now = datetime.now(UTC)
    fresh = Batch(polls=[batch("b").polls[0]._replace(ts=now - timedelta(days=28))])
    spool.append([Batch(polls=[batch("a").polls[0]._replace(ts=now - timedelta(days=30))]), fresh])
    box = Outbox(writer, spool, Metrics(), not_stored=lambda _: None, late_days=29)
    task = asyncio.create_task(box.run())
    await until(lambda: not spool.polls)
    task.cancel()
    await asyncio.wait({task})
    await box.close()
    assert [p.server for p in writer.stored] == ["b"]
    assert spool.quarantined == 1
    assert metric(box, "dropped_polls_total", outcome="too_old") == 1


async def test_when_disk_and_memory_are_full_the_newest_are_refused(
    writer: FakeWriter, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits longest is kept; the loss is counted, and stored as failed polls afterwards."""
    monkeypatch.setattr(outbox, "MAX_WAITING_POLLS", 2)

    def full(_batches: object) -> None:
        raise SpoolError

    with monkeypatch.context() as disk:
        disk.setattr(spool, "append", full)
        writer.away = True
        again: list[str] = []
        box = make_outbox(writer, spool, again)
        task = asyncio.create_task(box.run())
        for at_s in range(0, 150, 30):
            box.put(batch("a", at_s))
        await until(lambda: bool(metric(box, "spool_failures_total")))
        assert metric(box, "dropped_polls_total", outcome="spool_full") == 3
        assert again == ["a"] * 3
    writer.away = False
    await until(lambda: len(writer.stored) == 5)
    task.cancel()
    await asyncio.wait({task})
    await box.close()
    assert [(p.ts, p.ok, p.outcome) for p in writer.stored] == [
        (START, True, "ok"),
        (START + timedelta(seconds=30), True, "ok"),
        *((START + timedelta(seconds=s), False, "spool_full") for s in (60, 90, 120)),
    ]


async def test_nothing_is_written_before_the_database_is_known(
    writer: FakeWriter, spool: Spool
) -> None:
    """Until then everything goes to disk."""
    box = make_outbox(writer, spool, [])
    box.open = False
    box.put(batch("a"))
    task = asyncio.create_task(box.run())
    await until(lambda: spool.polls == 1)
    assert writer.statements == 0
    box.open = True
    await until(lambda: not spool.polls)
    task.cancel()
    await asyncio.wait({task})
    await box.close()
    assert len(writer.stored) == 1


async def test_a_poisonous_batch_on_a_full_disk_blocks_nobody(
    writer: FakeWriter, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where even the quarantine has no room, the batch is lost, and the others are stored."""

    def full(_batch: object, _reason: str) -> None:
        raise SpoolError

    monkeypatch.setattr(spool, "quarantine", full)
    writer.poison = {"bad"}
    async with running(writer, batch("bad"), batch("a"), spool=spool):
        assert {(p.server, p.ok) for p in writer.stored} == {("bad", False), ("a", True)}


async def test_what_is_in_memory_alone_is_told(writer: FakeWriter, spool: Spool) -> None:
    """The oldest tick that a kill would take; none once it is on disk or stored."""
    box = make_outbox(writer, spool, [])
    assert box.unsafe_since is None
    box.put(batch("a", 30))
    box.put(batch("b", 60))
    assert box.unsafe_since == START + timedelta(seconds=30)
    box._refused.add(batch("c").polls[0])
    assert box.unsafe_since == START
    box._refused.remove(box._refused.oldest(1))
    await box.close()
    assert box.unsafe_since is None


async def test_it_looks_into_the_spool_though_polls_keep_coming(
    writer: FakeWriter, spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With short ticks there is never a long pause; what `spool retry` put back is stored."""
    monkeypatch.setattr(outbox, "LOOK_S", 0.05)
    spool.append([batch("lost")])
    spool.quarantine(spool.oldest(10)[0], "refused once")
    retry(tmp_path, "all")
    box = make_outbox(writer, spool, [])
    task = asyncio.create_task(box.run())
    try:
        async with asyncio.timeout(30):
            for number in itertools.count():
                box.put(batch("busy", 30 * number))
                await asyncio.sleep(0.005)
                if "lost" in {poll.server for poll in writer.stored}:
                    break
    finally:
        task.cancel()
        await asyncio.wait({task})
        await box.close()
