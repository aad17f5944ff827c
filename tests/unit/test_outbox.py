"""Between polling and the database: order, retries, refusals, a full queue."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from collector import outbox
from collector.errors import DatabaseError, RejectedBatchError
from collector.metrics import Metrics
from collector.model import Batch, PollRow
from collector.outbox import Outbox
from collector.writer import Stored, Writer

START = datetime(2026, 2, 2, 8, tzinfo=UTC)


class FakeWriter(Writer):
    """A writer without a database: it fails as a test says, and remembers what it stored."""

    def __init__(self) -> None:
        """Store everything."""
        self.stored: list[PollRow] = []
        self.failures: list[Exception] = []
        self.poison: set[str] = set()
        self.strict = False
        self.statements = 0

    async def write(self, batch: Batch) -> Stored:
        """Store, or fail."""
        self.statements += 1
        if self.failures:
            raise self.failures.pop(0)
        if any((poll.ok or self.strict) and poll.server in self.poison for poll in batch.polls):
            raise RejectedBatchError
        new = [poll for poll in batch.polls if poll not in self.stored]
        self.stored += new
        return Stored(frozenset((poll.server, poll.ts) for poll in new), len(batch.samples))


def batch(server: str, at_s: int = 0) -> Batch:
    """Return a batch with one poll."""
    ts = START + timedelta(seconds=at_s)
    return Batch(polls=[PollRow(ts, server, ok=True, error=None, latency_ms=1, seconds=30)])


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> FakeWriter:
    """A fake writer; pauses are short."""
    monkeypatch.setattr(outbox, "GATHER_S", 0.0)
    monkeypatch.setattr(outbox, "FIRST_RETRY_S", 0.0)
    return FakeWriter()


@asynccontextmanager
async def running(writer: FakeWriter, *batches: Batch) -> AsyncIterator[tuple[Outbox, list[str]]]:
    """Put the batches into an outbox, run it until all are stored, and yield it."""
    again: list[str] = []
    box = Outbox(writer, Metrics(), again.append)
    for one in batches:
        box.put(one)
    task = asyncio.create_task(box.run())
    try:
        async with asyncio.timeout(30):
            await box.drain()
        yield box, again
    finally:
        task.cancel()


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
        assert {(p.server, p.ok, p.error) for p in writer.stored} == {
            ("a", True, None),
            ("bad", False, "rejected"),
            ("b", True, None),
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


async def test_a_full_queue_refuses_the_newest(
    writer: FakeWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When there is no room, what waits longest is kept, and the loss is counted."""
    monkeypatch.setattr(outbox, "MAX_WAITING_POLLS", 2)
    async with running(writer, batch("a"), batch("b"), batch("c")) as (box, again):
        assert [p.server for p in writer.stored] == ["a", "b"]
        assert again == ["c"]
        registry = box._metrics.registry
        dropped = registry.get_sample_value(
            "bbbmeter_dropped_polls_total", {"reason": "queue_full"}
        )
        assert dropped == 1
