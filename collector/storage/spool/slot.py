"""The slots of a spool's directory: `<directory>/<number>/`, each used by at most one collector.

A slot contains the files `spool.sqlite` and `lock`. Its collector locks `lock` while it lives; the
kernel releases the lock however the process ends. `lock` contains the number of acknowledged
batches, written after each one. If `spool.sqlite` has a lower number when it is opened, batches
are lost.
"""

import fcntl
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TypeVar

import structlog

from collector.errors import SpoolError
from collector.storage.spool.damage import open_sound, report_missing, rescue
from collector.storage.spool.file import FILE_MODE, Connection, DamagedError, SpoolFile, sync

log = structlog.get_logger(__name__)

T = TypeVar("T")

_FILE_NAME = "spool.sqlite"
_LOCK_NAME = "lock"
_DIRECTORY_MODE = 0o700
# A process that checks whether a slot is free locks it for an instant. So a failed attempt to take
# a slot is repeated this often, after this pause.
_LOCK_TRIES = 3
_LOCK_PAUSE_S = 0.02
_NUMBER_DIGITS = 20


@dataclass(frozen=True, slots=True)
class Slot:
    """One of the directories, free or in use."""

    number: int
    directory: Path

    @property
    def path(self) -> Path:
        """The spool's file; it may not exist yet."""
        return self.directory / _FILE_NAME

    def in_use(self) -> bool:
        """Return whether a living collector uses the slot. Raises OSError."""
        lock = self._lock(fcntl.LOCK_SH)
        if lock is None:
            return True
        os.close(lock)
        return False

    def look(self) -> SpoolFile:
        """Open the file, also if a collector uses the slot. Raises SpoolError.

        The caller may not add batches.
        """
        return SpoolFile(self.path)

    def take(self) -> int | None:
        """Lock the slot for this process; return None if another process uses it.

        Else returns a file descriptor: `os.close` it to release the slot. Raises OSError.
        """
        for _ in range(_LOCK_TRIES):
            lock = self._lock(fcntl.LOCK_EX)
            if lock is not None:
                return lock
            time.sleep(_LOCK_PAUSE_S)
        return None

    def _lock(self, kind: int) -> int | None:
        lock = os.open(self.directory / _LOCK_NAME, os.O_CREAT | os.O_RDWR, FILE_MODE)
        try:
            os.fchmod(lock, FILE_MODE)
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        except OSError:
            os.close(lock)
            raise
        return lock


class TakenSlot:
    """A slot that this process holds, with its file open; a damaged file is replaced."""

    def __init__(self, slot: Slot, lock: int, max_bytes: int) -> None:
        """Open the file of `slot`, locked by `lock`, which this object owns from now on.

        `has_batches` says whether batches waited in it. Raises SpoolError; then the lock is
        released.
        """
        self.slot = slot
        self._lock = lock
        self.max_bytes = max_bytes
        self._is_open = True
        with ExitStack() as stack:
            stack.callback(os.close, lock)
            self.file = open_sound(slot.path, max_bytes)
            stack.pop_all()
        with ExitStack() as stack:
            stack.callback(self.close)
            self.has_batches = self.read(_has_batches)
            number = self.read(_acknowledged)
            missing = self._read_number() - number
            self._write_number(number)
            stack.pop_all()
        if missing > 0:
            report_missing(slot.path, missing)

    def resize(self, max_bytes: int) -> None:
        """Set the maximum size of the file to `max_bytes`. Raises SpoolError."""
        self.max_bytes = max_bytes
        self.file.resize(max_bytes)

    def close(self) -> None:
        """Release the slot."""
        self.file.close()
        os.close(self._lock)

    def others(self) -> Iterator["TakenSlot"]:
        """Yield the other free slots, each taken by this process; the caller must close them."""
        for slot in slots(self.slot.directory.parent):
            try:
                if slot.number == self.slot.number or (lock := slot.take()) is None:
                    continue
                taken = TakenSlot(slot, lock, self.max_bytes)
            except (SpoolError, OSError) as error:
                log.error("spool_slot_unusable", path=str(slot.path), error=str(error))
                continue
            yield taken

    def write(self, work: Callable[[Connection], T], *, adds: bool = False) -> T:
        """Do as `SpoolFile.write`; if the file is damaged, rescue it and try once more."""

        def numbered(connection: Connection) -> tuple[T, int]:
            return work(connection), _acknowledged(connection)

        try:
            result, number = self.file.write(numbered, adds=adds)
        except DamagedError as error:
            self._rescue(error)
            result, number = self.file.write(numbered, adds=adds)
        self._write_number(number)
        return result

    def read(self, work: Callable[[Connection], T]) -> T:
        """Do as `SpoolFile.read`; if the file is damaged, rescue it and try once more."""
        try:
            return self.file.read(work)
        except DamagedError as error:
            self._rescue(error)
            return self.file.read(work)

    def changed(self) -> bool:
        """Return whether the file changed since the last call; True at the first call.

        It changes when other processes write to it, or when it is rescued.
        """
        try:
            return self.file.changed()
        except DamagedError as error:
            self._rescue(error)
            return self.file.changed()

    def _read_number(self) -> int:
        """Return the number in `lock`; 0 if it is empty or, after a power failure, invalid."""
        content = os.pread(self._lock, _NUMBER_DIGITS, 0)
        return int(content) if content.isdigit() else 0

    def _write_number(self, number: int) -> None:
        # It need not be durable: with an older number fewer losses are noticed, no more.
        with suppress(OSError):
            os.pwrite(self._lock, b"%0*d" % (_NUMBER_DIGITS, number), 0)

    def _rescue(self, error: DamagedError) -> None:
        # If there is no room for a rescue, the file stays closed until there is.
        if self._is_open:
            self._is_open = False
            self.file.close()
            try:
                rescue(self.slot.path, str(error))
            except OSError as problem:
                msg = (
                    f"{self.slot.path}: the file is damaged and could not be rescued: "
                    f"{problem.strerror}"
                )
                raise SpoolError(msg) from problem
        self.file = open_sound(self.slot.path, self.max_bytes)
        self._is_open = True


def slots(directory: Path) -> list[Slot]:
    """Return the slots below `directory`, in order; none if it does not exist. Raises OSError."""
    if not directory.exists():
        return []
    names = [entry.name for entry in directory.iterdir() if entry.is_dir()]
    numbers = sorted({int(name) for name in names if re.fullmatch("0|[1-9][0-9]{0,8}", name)})
    return [Slot(number, directory / str(number)) for number in numbers]


def take_slot(directory: Path, max_bytes: int) -> TakenSlot:
    """Take the first free slot with waiting batches, else the first free one, else a new one.

    Raises SpoolError or OSError.
    """
    if not directory.exists():
        directory.mkdir(_DIRECTORY_MODE, parents=True, exist_ok=True)
        directory.chmod(_DIRECTORY_MODE)
    spare: TakenSlot | None = None
    for slot in slots(directory):
        try:
            lock = slot.take()
            if lock is None:
                continue
            taken = TakenSlot(slot, lock, max_bytes)
        except (SpoolError, OSError) as error:
            log.error("spool_slot_unusable", path=str(slot.path), error=str(error))
            continue
        if taken.has_batches:
            if spare is not None:
                spare.close()
            return taken
        if spare is None:
            spare = taken
        else:
            taken.close()
    return spare or _make(directory, max_bytes)


def _make(directory: Path, max_bytes: int) -> TakenSlot:
    for number in count():
        slot = Slot(number, directory / str(number))
        try:
            slot.directory.mkdir(_DIRECTORY_MODE)
        except FileExistsError:
            continue
        slot.directory.chmod(_DIRECTORY_MODE)
        sync(directory)
        # Another process that looks for a free slot may have taken it already.
        if (lock := slot.take()) is not None:
            try:
                return TakenSlot(slot, lock, max_bytes)
            except SpoolError:
                # Without this, each start on a full disk would leave another slot.
                shutil.rmtree(slot.directory, ignore_errors=True)
                raise
    raise AssertionError  # there is always another number


def _acknowledged(connection: Connection) -> int:
    """Return how many numbers batches have been given so far."""
    row = connection.execute("SELECT ifnull(sum(seq), 0) FROM sqlite_sequence").fetchone()
    return int(row[0])


def _has_batches(connection: Connection) -> bool:
    return bool(connection.execute("SELECT EXISTS (SELECT 1 FROM waiting)").fetchone()[0])
