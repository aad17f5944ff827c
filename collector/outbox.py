"""Between polling and the database: a bounded queue of batches, and the loop that stores them."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime

import structlog

from collector.errors import DatabaseError, RejectedBatchError
from collector.metrics import Metrics
from collector.model import Batch, PollRow
from collector.writer import Writer

log = structlog.get_logger(__name__)

MAX_WAITING_SAMPLES = 500_000
MAX_WAITING_POLLS = 100_000
MAX_STATEMENT_SAMPLES = 20_000
# How long answers are gathered into one statement; an idle daemon stores the first one at once.
GATHER_S = 0.5
FIRST_RETRY_S = 0.5
LAST_RETRY_S = 30.0
REJECTED = "rejected"


class Outbox:
    """Holds what is to be stored, in order, until the database has it.

    When it is full the newest polls are refused: counted, logged, and missing from coverage.
    """

    def __init__(self, writer: Writer, metrics: Metrics, not_stored: Callable[[str], None]) -> None:
        """Store with `writer`; call `not_stored` with the server of each poll that was not new."""
        self._writer = writer
        self._metrics = metrics
        self._not_stored = not_stored
        self._waiting: deque[Batch] = deque()
        self._samples = 0
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.newest_stored: datetime | None = None
        self.failing = False

    def put(self, batch: Batch) -> None:
        """Take one server's batch; refuse it when there is no room."""
        full = len(self._waiting) >= MAX_WAITING_POLLS or self._samples >= MAX_WAITING_SAMPLES
        if full:
            for poll in batch.polls:
                self._metrics.dropped_polls.labels("queue_full").inc()
                self._not_stored(poll.server)
            log.error("queue full: poll dropped", servers=[poll.server for poll in batch.polls])
            return
        self._waiting.append(batch)
        self._samples += len(batch.samples)
        self._idle.clear()
        self._arrived.set()
        self._gauge()

    async def drain(self) -> None:
        """Wait until all that was put is stored or given up."""
        await self._idle.wait()

    async def run(self) -> None:
        """Store batches, in order, for ever; a failure is retried with growing pauses."""
        pause_s = FIRST_RETRY_S
        while True:
            await self._arrived.wait()
            parts = self._next()
            try:
                await self._store(parts)
            except DatabaseError as error:
                self.failing = True
                self._metrics.write_failures.inc()
                log.error("cannot store, will try again", error=str(error), pause_s=pause_s)  # noqa: TRY400
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, LAST_RETRY_S)
                continue
            self.failing = False
            pause_s = FIRST_RETRY_S
            for part in parts:
                self._waiting.popleft()
                self._samples -= len(part.samples)
            self._gauge()
            if not self._waiting:
                self._arrived.clear()
                self._idle.set()
            await asyncio.sleep(GATHER_S if not self._waiting else 0)

    def _next(self) -> list[Batch]:
        """Return the oldest batches that fit one statement; they stay in the queue."""
        parts: list[Batch] = []
        samples = 0
        for part in self._waiting:
            if parts and samples + len(part.samples) > MAX_STATEMENT_SAMPLES:
                break
            parts.append(part)
            samples += len(part.samples)
        return parts

    async def _store(self, parts: list[Batch]) -> None:
        """Store `parts` together, or one by one when the database refuses them together."""
        whole = Batch()
        for part in parts:
            whole.extend(part)
        try:
            await self._write(whole)
        except RejectedBatchError:
            for part in parts:
                try:
                    await self._write(part)
                except RejectedBatchError as error:
                    await self._reject(part, error)

    async def _reject(self, part: Batch, error: RejectedBatchError) -> None:
        """Store a failed poll in place of one whose content the database refuses."""
        for poll in part.polls:
            log.error("poll refused by the database", server=poll.server, error=str(error))
            self._metrics.dropped_polls.labels(REJECTED).inc()
            self._not_stored(poll.server)
        failed = [
            PollRow(
                poll.ts,
                poll.server,
                ok=False,
                error=REJECTED,
                latency_ms=poll.latency_ms,
                seconds=poll.seconds,
            )
            for poll in part.polls
        ]
        try:
            await self._write(Batch(polls=failed))
        except RejectedBatchError as again:
            log.error("even the failure was refused", error=str(again))  # noqa: TRY400

    async def _write(self, batch: Batch) -> None:
        started = time.monotonic()
        stored = await self._writer.write(batch)
        self._metrics.write_seconds.observe(time.monotonic() - started)
        self._metrics.rows.labels("poll").inc(len(stored.polls))
        self._metrics.rows.labels("sample").inc(stored.samples)
        for poll in batch.polls:
            if (poll.server, poll.ts) not in stored.polls:
                self._metrics.repeated_polls.inc()
                self._not_stored(poll.server)
        newest = max(poll.ts for poll in batch.polls)
        self.newest_stored = max(self.newest_stored or newest, newest)

    def _gauge(self) -> None:
        self._metrics.queue_polls.set(len(self._waiting))
        self._metrics.queue_samples.set(self._samples)
