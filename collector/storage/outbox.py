"""Between polling and the database: new batches are stored at once, or else wait on disk.

Two lanes lead into the database. Live batches go first, so that dashboards do not wait for the
backlog. Between live batches, the spool is replayed in order and in parts. The two lanes can store
ticks out of order; `meter.late` makes that harmless.

A batch is in memory for some seconds, until the database or the disk has it. A `kill -9` loses the
batches in memory, and their polls are then missing from the coverage.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import structlog

from collector.database.deadlines import LIVE_WRITE_DEADLINE_S, WRITE_DEADLINE_S
from collector.errors import DatabaseError, RejectedBatchError, SpoolError
from collector.metrics import Metrics
from collector.model import Batch
from collector.outcomes import Outcome
from collector.storage.refused import Refused
from collector.storage.spool import Entry, Spool
from collector.storage.writer import Writer

log = structlog.get_logger(__name__)
T = TypeVar("T")

# Bounds the memory. It is reached only if both the database and the disk fail.
MAX_WAITING_SAMPLES = 500_000
MAX_WAITING_POLLS = 100_000
# Bounds one statement, so that it ends well before its deadline.
MAX_STATEMENT_SAMPLES = 20_000
MAX_STATEMENT_POLLS = 20_000
# Seconds in which answers are gathered into one statement. An idle outbox stores the first answer
# at once.
GATHER_S = 0.5
# Pauses after a failed write: from the first, doubled each time, to the last.
FIRST_RETRY_S = 0.5
LAST_RETRY_S = 30.0
# While nothing waits, an outbox looks at the spool this often: `bbbmeter spool retry` may have
# filled it, and a collector that ended may have left a backlog.
LOOK_S = 10.0


class Outbox:
    """Holds batches until the database has them, first in memory, then on disk.

    When both are full, the newest polls are dropped. They are counted, logged, and stored later as
    failed polls.
    """

    def __init__(
        self,
        writer: Writer,
        spool: Spool | None,
        metrics: Metrics,
        *,
        not_stored: Callable[[str], None],
        late_days: int | None = None,
    ) -> None:
        """Store with `writer`; keep in `spool` what cannot be stored yet (None: only in memory).

        `not_stored` is called with the server of each poll that is not in the database, or not
        yet. Batches older than `late_days` days go into quarantine; None sets no limit.
        """
        self._writer = writer
        self._spool = spool
        self._metrics = metrics
        self._not_stored = not_stored
        self.late_days = late_days
        self._waiting: deque[Batch] = deque()
        self._samples = 0
        self._refused = Refused()
        # Disk access must not block the event loop. A single thread keeps the order.
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.newest_stored: datetime | None = None
        self.failing = False
        # False until the daemon knows that the database is bbbmeter's and up to date. Until then
        # batches go to the disk.
        self.open = True
        self._in_a_hurry = False
        self._disk_takes = True
        self._looked_at_s = time.monotonic()
        self._show_what_waits()

    def put(self, batch: Batch) -> None:
        """Accept one server's batch, or drop it if there is no room."""
        full = len(self._waiting) >= MAX_WAITING_POLLS or self._samples >= MAX_WAITING_SAMPLES
        if full:
            for poll in batch.polls:
                self._refused.add(poll)
                self._metrics.dropped_polls.labels(Outcome.SPOOL_FULL).inc()
                self._not_stored(poll.server)
            log.error("poll_dropped", servers=[poll.server for poll in batch.polls])
            return
        self._waiting.append(batch)
        self._samples += len(batch.samples)
        self._idle.clear()
        self._arrived.set()

    async def resize_spool(self, max_bytes: int) -> None:
        """Set the maximum size of the spool to `max_bytes`. Raises SpoolError."""
        if self._spool is not None:
            await self._on_disk(partial(self._spool.resize, max_bytes))

    async def drain(self) -> None:
        """Wait until every accepted batch is stored, on disk, or given up."""
        await self._idle.wait()

    def hurry(self) -> None:
        """End the pause and try again now, as when the database is back."""
        self._in_a_hurry = True

    async def close(self) -> None:
        """Write the batches in memory to the disk; `run` must have ended."""
        await self._spill()
        self._disk.shutdown()

    async def run(self) -> None:
        """Store batches until cancelled; a failure is retried after growing pauses."""
        pause_s = FIRST_RETRY_S
        while True:
            await self._work_to_do()
            try:
                await self._store_some()
            except (DatabaseError, SpoolError) as error:
                self.failing = True
                self._metrics.write_failures.inc()
                log.error("write_failed", error=str(error), pause_s=pause_s)
                await self._pause(pause_s)
                pause_s = min(pause_s * 2, LAST_RETRY_S)
                continue
            self.failing = False
            pause_s = FIRST_RETRY_S
            await asyncio.sleep(0 if self._behind else GATHER_S)

    @property
    def storing(self) -> bool:
        """Whether the database is known and the last write succeeded."""
        return self.open and not self.failing

    @property
    def unsafe_since(self) -> datetime | None:
        """The oldest tick that is only in memory; None if there is none."""
        polls = [*self._refused.oldest(1), *(self._waiting[0].polls if self._waiting else ())]
        return min((poll.ts for poll in polls), default=None)

    @property
    def _behind(self) -> bool:
        """Whether there is something to store."""
        backlog = self._spool is not None and self._spool.polls > 0
        return backlog or len(self._waiting) > 0 or self._refused.count > 0

    def _show_what_waits(self) -> None:
        metrics, spool = self._metrics, self._spool
        metrics.queue_polls.set_function(lambda: len(self._waiting))
        metrics.queue_samples.set_function(lambda: self._samples)
        if spool is not None:
            metrics.spool_polls.set_function(lambda: spool.polls)
            metrics.spool_bytes.set_function(lambda: spool.bytes)
            metrics.spool_max_bytes.set_function(lambda: spool.max_bytes)
            metrics.quarantined_batches.set_function(lambda: spool.quarantined)

    async def _work_to_do(self) -> None:
        """Wait until there is something to store, and look into the spool now and then."""
        while not self._behind:
            # By the clock, not by a pause without arrivals: with short ticks there is none.
            if time.monotonic() - self._looked_at_s >= LOOK_S:
                self._looked_at_s = time.monotonic()
                await self._look_for_more()
                continue
            self._arrived.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), LOOK_S)

    async def _look_for_more(self) -> None:
        """Find batches that the command line put back or that ended collectors left."""
        if self._spool is None:
            return
        try:
            await self._on_disk(self._spool.refresh)
            if adopted := await self._on_disk(self._spool.adopt):
                log.info("backlog_adopted", batches=adopted)
        except (SpoolError, OSError) as error:
            log.error("spool_read_failed", error=str(error))

    async def _store_some(self) -> None:
        """Store live batches, then a part of the backlog, or else the dropped polls."""
        if not self.open:
            msg = "the database has not been reached yet"
            raise DatabaseError(msg)
        if self._waiting:
            await self._store_live()
        if self._spool is not None and self._spool.polls:
            await self._replay(self._spool)
        elif self._refused.count:
            rows = self._refused.oldest(MAX_STATEMENT_POLLS)
            await self._write(Batch(polls=rows), late=True)
            self._refused.remove(rows)

    # -- the live lane -----------------------------------------------------------------------

    async def _store_live(self) -> None:
        parts = _fitting(self._waiting)
        await self._store(parts, self._write_live)
        self._pop(len(parts))

    async def _write_live(self, batch: Batch) -> None:
        await self._write(batch, deadline_s=LIVE_WRITE_DEADLINE_S)

    def _pop(self, count: int) -> None:
        """Forget the `count` oldest waiting batches: they are stored, on disk, or given up."""
        for _ in range(count):
            self._samples -= len(self._waiting.popleft().samples)
        if not self._waiting:
            self._idle.set()

    # -- the disk ----------------------------------------------------------------------------

    async def _spill(self) -> None:
        """Move the waiting batches to the disk; if that fails, they stay in memory."""
        parts = list(self._waiting)
        if self._spool is None or not parts:
            return
        try:
            await self._on_disk(partial(self._spool.append, parts))
        except SpoolError as error:
            self._metrics.spool_failures.inc()
            if self._disk_takes:
                log.error("spool_write_failed", error=str(error), waiting=len(parts))
            self._disk_takes = False
            return
        self._disk_takes = True
        for part in parts:
            for poll in part.polls:
                # Later polls are stored before this one, so they must announce their sessions.
                self._not_stored(poll.server)
        self._pop(len(parts))

    async def _pause(self, pause_s: float) -> None:
        """Wait, and meanwhile move arriving batches to the disk."""
        until = time.monotonic() + pause_s
        left_s = pause_s
        while left_s >= 0 and not self._in_a_hurry:
            await self._spill()
            await asyncio.sleep(min(left_s, GATHER_S))
            left_s = until - time.monotonic()
        self._in_a_hurry = False

    async def _replay(self, spool: Spool) -> None:
        """Store the oldest part of the backlog; batches that arrive meanwhile go to the disk."""
        entries = await self._on_disk(partial(spool.oldest, MAX_STATEMENT_SAMPLES))
        if not entries and spool.polls:
            msg = (
                "the oldest batches in the spool cannot be read, and cannot be moved to the "
                "quarantine: make room on the disk or raise spool.max_bytes"
            )
            raise SpoolError(msg)
        entries = await self._young_enough(spool, entries)
        entries = entries[: len(_fitting(entry.batch for entry in entries))]
        if entries:
            write = asyncio.create_task(self._store(entries, partial(self._write, late=True)))
            try:
                while not (await asyncio.wait({write}, timeout=LIVE_WRITE_DEADLINE_S))[0]:
                    await self._spill()
            finally:
                write.cancel()
                await asyncio.wait({write})
            write.result()
        await self._on_disk(partial(spool.remove, [entry.id for entry in entries]))

    async def _young_enough(self, spool: Spool, entries: list[Entry]) -> list[Entry]:
        """Return the entries that are not too old; move the others to the quarantine."""
        if self.late_days is None:
            return entries
        oldest = datetime.now(UTC) - timedelta(days=self.late_days)
        young = []
        for entry in entries:
            if min(poll.ts for poll in entry.batch.polls) >= oldest:
                young.append(entry)
                continue
            reason = (
                f"older than {self.late_days} days: the data it belongs to may be deleted already"
            )
            log.error("batch_too_old", servers=_servers(entry.batch), reason=reason)
            self._metrics.dropped_polls.labels(Outcome.TOO_OLD).inc(len(entry.batch.polls))
            await self._on_disk(partial(spool.quarantine, entry, reason))
        return young

    async def _on_disk(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, work)

    # -- the database ------------------------------------------------------------------------

    async def _store(
        self, parts: Sequence[Batch | Entry], write: Callable[[Batch], Coroutine[Any, Any, None]]
    ) -> None:
        """Store `parts` together, or one by one if the database rejects them together."""
        whole = Batch()
        for part in parts:
            whole.extend(_batch(part))
        try:
            await write(whole)
        except RejectedBatchError:
            for part in parts:
                try:
                    await write(_batch(part))
                except RejectedBatchError as error:
                    await self._reject(part, error)

    async def _reject(self, part: Batch | Entry, error: RejectedBatchError) -> None:
        """Move a batch that the database rejects to the quarantine, and store failed polls."""
        polls = _batch(part).polls
        for poll in polls:
            log.error("poll_rejected", server=poll.server, error=str(error))
            self._metrics.dropped_polls.labels(Outcome.REJECTED).inc()
            self._not_stored(poll.server)
        if self._spool is not None:
            try:
                await self._on_disk(partial(self._spool.quarantine, part, str(error)))
            except SpoolError as full:
                # The batch is lost: keeping it in memory would block all others.
                log.error("quarantine_full", error=str(full))
        try:
            failed = [poll.failed(Outcome.REJECTED) for poll in polls]
            await self._write(Batch(polls=failed), late=True)
        except RejectedBatchError as again:
            log.error("failed_poll_rejected", error=str(again))

    async def _write(
        self, batch: Batch, *, late: bool = False, deadline_s: float = WRITE_DEADLINE_S
    ) -> None:
        started = time.monotonic()
        stored = await self._writer.write(batch, late=late, deadline_s=deadline_s)
        self._metrics.write_seconds.observe(time.monotonic() - started)
        self._metrics.rows.labels("poll").inc(len(stored.polls))
        self._metrics.rows.labels("sample").inc(stored.samples)
        for poll in batch.polls:
            if (poll.server, poll.ts) not in stored.polls:
                self._metrics.repeated_polls.inc()
                self._not_stored(poll.server)
        newest = max(poll.ts for poll in batch.polls)
        self.newest_stored = max(self.newest_stored or newest, newest)


def _fitting(batches: Iterable[Batch]) -> list[Batch]:
    """Return the first `batches` that fit one statement: at least one, and no poll twice."""
    parts: list[Batch] = []
    seen: set[tuple[str, datetime]] = set()
    samples = 0
    for batch in batches:
        keys = {(poll.server, poll.ts) for poll in batch.polls}
        samples += len(batch.samples)
        full = samples > MAX_STATEMENT_SAMPLES or len(seen) + len(keys) > MAX_STATEMENT_POLLS
        if parts and (full or not seen.isdisjoint(keys)):
            break
        parts.append(batch)
        seen |= keys
    return parts


def _batch(part: Batch | Entry) -> Batch:
    return part.batch if isinstance(part, Entry) else part


def _servers(batch: Batch) -> list[str]:
    return sorted({poll.server for poll in batch.polls})
