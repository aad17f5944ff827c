"""The slots of a spool's directory: `<directory>/<number>/`, each for one collector at a time.

A slot holds the file `spool.sqlite`, and `lock`, which its collector has locked for as long as
it lives: the kernel unlocks it however the process ends. In `lock` stands how many batches were
acknowledged, written after each: if the file knows fewer when it is opened, some are lost.
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
# Who looks whether a slot is free has it for an instant.
_LOCK_TRIES = 3
_LOCK_PAUSE_S = 0.02
_NUMBER_DIGITS = 20


@dataclass(frozen=True, slots=True)
class Slot:
    """One of the directories, whoever has it."""

    number: int
    directory: Path

    @property
    def path(self) -> Path:
        """The spool's file; it may not exist yet."""
        return self.directory / _FILE_NAME

    def in_use(self) -> bool:
        """Say whether a living collector has it."""
        lock = self._lock(fcntl.LOCK_SH)
        if lock is None:
            return True
        os.close(lock)
        return False

    def look(self) -> SpoolFile:
        """Open its file, whoever has the slot; SpoolError. Nothing may be added there."""
        return SpoolFile(self.path)

    def take(self) -> int | None:
        """Make it this process's; return what to `os.close` to give it up, None if it is taken."""
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
    """A slot that this process has, with its file open; a damaged file is replaced when found."""

    def __init__(self, slot: Slot, lock: int, max_bytes: int) -> None:
        """Open the file of `slot`, locked by `lock`, which is this object's from here on.

        `has_batches` says whether something waited in it. Raises SpoolError; the lock is given
        up then.
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
        """Bound the file by `max_bytes` from now on. Raises SpoolError."""
        self.max_bytes = max_bytes
        self.file.resize(max_bytes)

    def close(self) -> None:
        """Give the slot up."""
        self.file.close()
        os.close(self._lock)

    def others(self) -> Iterator["TakenSlot"]:
        """Yield the other slots that nobody has, each taken; whoever gets one closes it."""
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
        """As `SpoolFile.write`, but a second time after a rescue."""

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
        """As `SpoolFile.read`, but a second time after a rescue."""
        try:
            return self.file.read(work)
        except DamagedError as error:
            self._rescue(error)
            return self.file.read(work)

    def changed(self) -> bool:
        """Say whether the file holds something else than this process knows: True at first.

        That is when others have written to it, or it was rescued, since this was last asked.
        """
        try:
            return self.file.changed()
        except DamagedError as error:
            self._rescue(error)
            return self.file.changed()

    def _read_number(self) -> int:
        """Return what `lock` says; 0 where it says nothing, or nonsense after a power failure."""
        content = os.pread(self._lock, _NUMBER_DIGITS, 0)
        return int(content) if content.isdigit() else 0

    def _write_number(self, number: int) -> None:
        # It need not be durable: an older number only finds less.
        with suppress(OSError):
            os.pwrite(self._lock, b"%0*d" % (_NUMBER_DIGITS, number), 0)

    def _rescue(self, error: DamagedError) -> None:
        # When there was no room for a rescue the file stays closed, until there is.
        if self._is_open:
            self._is_open = False
            self.file.close()
            try:
                rescue(self.slot.path, str(error))
            except OSError as problem:
                msg = f"{self.slot.path}: damaged, cannot be rescued: {problem.strerror}"
                raise SpoolError(msg) from problem
        self.file = open_sound(self.slot.path, self.max_bytes)
        self._is_open = True


def slots(directory: Path) -> list[Slot]:
    """Return the slots below `directory`, in order; none where it does not exist. OSError."""
    if not directory.exists():
        return []
    names = [entry.name for entry in directory.iterdir() if entry.is_dir()]
    numbers = sorted({int(name) for name in names if re.fullmatch("0|[1-9][0-9]{0,8}", name)})
    return [Slot(number, directory / str(number)) for number in numbers]


def take_slot(directory: Path, max_bytes: int) -> TakenSlot:
    """Take the first free slot where batches wait, else the first free one, else a new one.

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
        # Another process that looks for a free slot may have found it already.
        if (lock := slot.take()) is not None:
            try:
                return TakenSlot(slot, lock, max_bytes)
            except SpoolError:
                # Each start on a full disk would leave another one.
                shutil.rmtree(slot.directory, ignore_errors=True)
                raise
    raise AssertionError  # there is always another number


def _acknowledged(connection: Connection) -> int:
    """Return how many numbers have been given to batches."""
    row = connection.execute("SELECT ifnull(sum(seq), 0) FROM sqlite_sequence").fetchone()
    return int(row[0])


def _has_batches(connection: Connection) -> bool:
    return bool(connection.execute("SELECT EXISTS (SELECT 1 FROM waiting)").fetchone()[0])
