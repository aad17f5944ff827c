"""One collector's batches on disk, in the order of their arrival."""

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

# The most entries that are read at once. It bounds the memory, as entries without samples do not
# count against the limit of samples.
_MAX_ENTRIES = 10_000
# The most samples that are moved at once from the slot of an ended collector.
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
    """A waiting batch; a later one has a greater `id`, and no `id` is used twice."""

    id: int
    batch: Batch


class Spool:
    """One collector's spool: a SQLite file in a separate slot below `directory`.

    `polls`, `samples` and `bytes` (of compressed payload) count the waiting batches, without those
    in quarantine. `quarantined` counts the batches in quarantine. `collector` is the slot's
    identity; no other living process has the same one.

    The methods can be called from any thread; a lock runs them one after the other. Each raises
    SpoolError if the disk or the maximum size leaves no room, or if the file cannot be used. Then
    no stored data are lost, and the call can be repeated. A damaged file is logged and set aside;
    its readable batches are copied to a new file.
    """

    def __init__(self, slot: TakenSlot) -> None:
        """Use `slot`, which this object owns from now on; `Spool.open` finds one."""
        self._slot = slot
        self._one_at_a_time = RLock()
        self._entries = self.polls = self.samples = self.bytes = self.quarantined = 0
        self.collector, self._met_database = slot.read(_identity)
        self.refresh()

    @classmethod
    def open(cls, directory: Path, max_bytes: int) -> "Spool":
        """Take a slot below `directory`, preferably one where an ended collector left batches.

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
        """Release the slot."""
        with self._one_at_a_time:
            self._slot.close()

    @property
    def met_database(self) -> bool:
        """Whether this slot's collector ever reached its database. Stored on disk."""
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
        """The maximum size of the file in bytes."""
        return self._slot.max_bytes

    def resize(self, max_bytes: int) -> None:
        """Set the maximum size of the file to `max_bytes`; existing data stay."""
        with self._one_at_a_time:
            self._slot.resize(max_bytes)

    def append(self, batches: Sequence[Batch]) -> None:
        """Append `batches` in order; when this returns, all of them or none are on disk."""
        packed = [pack(batch) for batch in batches]

        def work(connection: Connection) -> None:
            connection.executemany(ADD_WAITING, ((None, *row) for row in packed))

        with self._one_at_a_time:
            self._slot.write(work, adds=True)
            self._count(packed, 1)

    def oldest(self, max_samples: int) -> list[Entry]:
        """Return the oldest entries with at most `max_samples` samples in total, but at least one.

        An unreadable entry is logged and moved to the quarantine instead.
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
                # If the quarantine has no room, the entry stays, and is skipped next time too.
                with suppress(SpoolError):
                    self._move(key, reason)
            return entries

    def remove(self, ids: Collection[int]) -> None:
        """Remove entries by their ids, for example stored ones; unknown ids are ignored."""

        def work(connection: Connection) -> list[Packed]:
            return _remove(connection, ids)

        with self._one_at_a_time:
            self._count(self._slot.write(work), -1)
            if not self._entries:
                self._slot.file.shrink()

    def adopt(self) -> int:
        """Move batches from the slots of ended collectors to this one; return how many.

        This happens after a scale-down. For a moment a batch is in both slots; it is still stored
        only once.
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
        """Move an entry, or add a batch, to the quarantine; the maximum size includes it."""
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
        """Count the waiting batches again if the command line or a rescue changed them."""
        with self._one_at_a_time:
            if self._slot.changed():
                self._entries, self.polls, self.samples, self.bytes, self.quarantined = (
                    self._slot.read(lambda connection: connection.execute(_TOTALS).fetchone())
                )

    def _move(self, key: int, reason: str, batch: Batch | None = None) -> None:
        """Move an entry to the quarantine; it is removed first, so that its own room is sufficient.

        If a rescue has lost the entry, `batch` is stored there instead.
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
