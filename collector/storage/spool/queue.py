"""One collector's batches on disk, in the order in which they came."""

import json
from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import RLock

import structlog

from collector.errors import SpoolError
from collector.model import Batch
from collector.storage.spool.file import ADD_QUARANTINE, ADD_WAITING, Connection
from collector.storage.spool.payload import Packed, UnreadableError, pack, rows_of, unpack
from collector.storage.spool.slot import TakenSlot, take_slot

log = structlog.get_logger(__name__)

# So many at once at most: polls without samples are small, but not nothing.
_MAX_ENTRIES = 10_000
_ADOPTED_SAMPLES = 20_000
_TOTALS = """
SELECT
    count(*), ifnull(sum(polls), 0), ifnull(sum(samples), 0), ifnull(sum(bytes), 0),
    (SELECT count(*) FROM quarantine)
FROM waiting
"""
_OLDEST = "SELECT id, format, checksum, payload FROM waiting ORDER BY id"
_REMOVE = """
DELETE FROM waiting WHERE id IN (SELECT value FROM json_each(?))
RETURNING format, checksum, polls, samples, bytes, first_us, last_us, payload
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A batch that waits; a later one has a greater `id`, and no `id` is given twice."""

    id: int
    batch: Batch


class Spool:
    """One collector's spool: a SQLite file in a slot of its own below `directory`.

    `polls`, `samples` and `bytes` (of compressed payload) are what waits, without what is in
    quarantine; `quarantined` is how many batches are there. `collector` is the slot's identity,
    which no other living process has.

    The methods can be called from any thread, one at a time. Each raises SpoolError when the
    disk or the bound leaves no room, or the file cannot be used; nothing that was stored is lost
    by that, and it can be tried again. A damaged file is set aside and logged, and what can be
    read of it is in the new one.
    """

    def __init__(self, slot: TakenSlot) -> None:
        """Use `slot`, which is this object's from here on; `Spool.open` takes one."""
        self._slot = slot
        self._one_at_a_time = RLock()
        self._entries = self.polls = self.samples = self.bytes = self.quarantined = 0
        self.collector, self._met_database = slot.read(_identity)
        self.refresh()

    @classmethod
    def open(cls, directory: Path, max_bytes: int) -> "Spool":
        """Take a slot below `directory`, one where a dead collector left something first.

        Raises SpoolError, which names the path.
        """
        try:
            slot = take_slot(directory, max_bytes)
        except OSError as error:
            msg = f"{error.filename or directory}: {error.strerror}"
            raise SpoolError(msg) from error
        with ExitStack() as stack:
            stack.callback(slot.close)
            spool = cls(slot)
            stack.pop_all()
        return spool

    def close(self) -> None:
        """Give the slot up."""
        with self._one_at_a_time:
            self._slot.close()

    @property
    def met_database(self) -> bool:
        """Whether this slot's collector was ever connected to its database. Kept on disk."""
        return self._met_database

    @met_database.setter
    def met_database(self, value: bool) -> None:
        def work(connection: Connection) -> None:
            connection.execute("UPDATE slot SET met_database = ?", (value,))

        with self._one_at_a_time:
            self._slot.write(work)
            self._met_database = value

    @property
    def max_bytes(self) -> int:
        """How many bytes the file may have."""
        return self._slot.max_bytes

    def resize(self, max_bytes: int) -> None:
        """Let the file have up to `max_bytes` from now on; what is there already stays."""
        with self._one_at_a_time:
            self._slot.resize(max_bytes)

    def append(self, batches: Sequence[Batch]) -> None:
        """Put `batches` at the end, in order: on disk when this returns, all of them or none."""
        packed = [pack(batch) for batch in batches]

        def work(connection: Connection) -> None:
            connection.executemany(ADD_WAITING, ((None, *row) for row in packed))

        with self._one_at_a_time:
            self._slot.write(work, adds=True)
            self._count(packed, 1)

    def oldest(self, max_samples: int) -> list[Entry]:
        """Return the oldest entries with at most `max_samples` samples together, at least one.

        One that cannot be read goes to the quarantine instead, and is logged.
        """

        def work(connection: Connection) -> tuple[list[Entry], dict[int, str]]:
            entries: list[Entry] = []
            unreadable: dict[int, str] = {}
            samples = 0
            with closing(connection.execute(_OLDEST)) as rows:
                for key, *content in rows:
                    try:
                        batch = unpack(*content)
                    except UnreadableError as error:
                        unreadable[key] = str(error)
                        continue
                    samples += len(batch.samples)
                    if entries and (samples > max_samples or len(entries) == _MAX_ENTRIES):
                        break
                    entries.append(Entry(key, batch))
            return entries, unreadable

        with self._one_at_a_time:
            self.refresh()
            entries, unreadable = self._slot.read(work)
            for key, reason in unreadable.items():
                log.error("spool_batch_quarantined", id=key, reason=reason)
                # Without room it stays where it is, and is passed over.
                with suppress(SpoolError):
                    self._move(key, reason)
            return entries

    def remove(self, ids: Collection[int]) -> None:
        """Remove entries, such as were stored; an unknown id is none."""

        def work(connection: Connection) -> list[Packed]:
            return _remove(connection, ids)

        with self._one_at_a_time:
            self._count(self._slot.write(work), -1)
            if not self._entries:
                self._slot.file.shrink()

    def adopt(self) -> int:
        """Take over what collectors that are gone left in their slots; return how many batches.

        As after a scale-down. A batch that is in both for a moment is stored once all the same.
        """
        adopted = 0
        with self._one_at_a_time:
            for taken in self._slot.others():
                with closing(taken):
                    if not taken.has_batches:
                        continue
                    left = Spool(taken)
                    while entries := left.oldest(_ADOPTED_SAMPLES):
                        self.append([entry.batch for entry in entries])
                        left.remove([entry.id for entry in entries])
                        adopted += len(entries)
        return adopted

    def quarantine(self, what: Entry | Batch, reason: str) -> None:
        """Move an entry to the quarantine, or put a batch there; the bound holds there as well."""
        if isinstance(what, Entry):
            with self._one_at_a_time:
                self._move(what.id, reason, what.batch)
            return
        row = pack(what)

        def work(connection: Connection) -> None:
            connection.execute(ADD_QUARANTINE, (None, reason, _servers(what), *row))

        with self._one_at_a_time:
            self._slot.write(work, adds=True)
            self.quarantined += 1
            self.refresh()

    def refresh(self) -> None:
        """Count again what waits, if the command line has changed it, or a rescue."""
        with self._one_at_a_time:
            if self._slot.changed():
                self._entries, self.polls, self.samples, self.bytes, self.quarantined = (
                    self._slot.read(lambda connection: connection.execute(_TOTALS).fetchone())
                )

    def _move(self, key: int, reason: str, batch: Batch | None = None) -> None:
        """Move an entry to the quarantine; out first, so that its own room is enough.

        If a rescue has not found it, the `batch` goes there.
        """
        servers = "" if batch is None else _servers(batch)

        def work(connection: Connection) -> tuple[list[Packed], list[Packed]]:
            removed = _remove(connection, [key])
            kept = removed if removed or batch is None else [pack(batch)]
            connection.executemany(ADD_QUARANTINE, ((None, reason, servers, *row) for row in kept))
            return removed, kept

        removed, kept = self._slot.write(work)
        self.quarantined += len(kept)
        self._count(removed, -1)

    def _count(self, rows: Iterable[Packed], sign: int) -> None:
        for row in rows:
            self._entries += sign
            self.polls += sign * row.polls
            self.samples += sign * row.samples
            self.bytes += sign * row.size_bytes
        self.refresh()


def _identity(connection: Connection) -> tuple[str, bool]:
    collector, met_database = connection.execute(
        "SELECT collector, met_database FROM slot"
    ).fetchone()
    return str(collector), bool(met_database)


def _remove(connection: Connection, ids: Iterable[int]) -> list[Packed]:
    return [Packed._make(row) for row in connection.execute(_REMOVE, (json.dumps(list(ids)),))]


def _servers(batch: Batch) -> str:
    return " ".join(sorted({row[1] for row in rows_of(batch)}))
