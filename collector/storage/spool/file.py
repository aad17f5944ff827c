"""The SQLite file of a spool: how it is opened, bounded, written, and rescued when damaged.

WAL, so that the command line can look while a collector writes, and `synchronous=FULL`: with
WAL, less would let the last commits go with a power failure, and what is acknowledged must stay.
"""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Literal, TypeVar

from collector.errors import SpoolError

T = TypeVar("T")
Connection = sqlite3.Connection

FILE_MODE = 0o600
_BUSY_S = 10.0
_PAGE_BYTES = 4096
# SQLite moves the log into the file when it has so many pages, or an eighth of a small bound.
_LOG_PAGES = 1000
# Only batches fill the file up to here: removing one, and all else, finds these pages free.
_RESERVED_PAGES = 16
# A marker of a file that was made in full; another number is another version's.
_SCHEMA_VERSION = 1

_SCHEMA = (
    "CREATE TABLE slot (collector TEXT NOT NULL, met_database INTEGER NOT NULL) STRICT",
    # AUTOINCREMENT: no number is given twice, whoever still knows a removed batch by its own.
    """
    CREATE TABLE waiting (
        id INTEGER PRIMARY KEY AUTOINCREMENT, format INTEGER NOT NULL, checksum BLOB NOT NULL,
        polls INTEGER NOT NULL, samples INTEGER NOT NULL, bytes INTEGER NOT NULL,
        first_us INTEGER, last_us INTEGER, payload BLOB NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE quarantine (
        id INTEGER PRIMARY KEY AUTOINCREMENT, reason TEXT NOT NULL, servers TEXT NOT NULL,
        format INTEGER NOT NULL, checksum BLOB NOT NULL,
        polls INTEGER NOT NULL, samples INTEGER NOT NULL, bytes INTEGER NOT NULL,
        first_us INTEGER, last_us INTEGER, payload BLOB NOT NULL
    ) STRICT
    """,
)
ADD_WAITING = "INSERT INTO waiting VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
ADD_QUARANTINE = "INSERT INTO quarantine VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class DamagedError(SpoolError):
    """The file is no SQLite database any more, or not this one."""


class SpoolFile:
    """An open file. Every error of SQLite comes out as SpoolError, and names the file."""

    def __init__(self, path: Path, max_bytes: int | None = None) -> None:
        """Open `path`, which exists; without `max_bytes` nothing is to be added to it.

        `max_bytes` bounds file, log and reserve together, but a log that must hold one large
        transaction, or that is being read from all the time, can be larger than its share.
        """
        self.path = path
        self._bound(max_bytes)
        self._version: int | None = None
        try:
            # Without creating it: a file made by SQLite has the rights that the umask gives it.
            self._connection = connect(path)
        except sqlite3.Error as error:
            raise self._error(error) from error
        try:
            self._set_up()
        except sqlite3.Error as error:
            self._connection.close()
            raise self._error(error) from error
        self._reserve_disk()

    def resize(self, max_bytes: int) -> None:
        """Bound it by `max_bytes` from now on; what is more than that stays. Raises SpoolError."""
        self._bound(max_bytes)
        try:
            self._set_up()
        except sqlite3.Error as error:
            raise self._error(error) from error
        self._reserve_disk()

    def _bound(self, max_bytes: int | None) -> None:
        pages = (max_bytes or 0) // _PAGE_BYTES
        self._log_pages = min(_LOG_PAGES, pages // 8) if max_bytes else _LOG_PAGES
        self._max_pages = pages - 2 * self._log_pages if max_bytes else None

    def _set_up(self) -> None:
        for pragma in (
            "cell_size_check=ON",
            "journal_mode=WAL",
            "synchronous=FULL",
            # Nothing here is secret, and to overwrite what is removed would take room in the log.
            "secure_delete=OFF",
            f"wal_autocheckpoint={self._log_pages}",
            f"journal_size_limit={self._log_pages * _PAGE_BYTES}",
        ):
            self._connection.execute(f"PRAGMA {pragma}").fetchall()

    def close(self) -> None:
        """Close it; the last one to do so moves the log into the file."""
        with suppress(sqlite3.Error):
            self._connection.close()

    def write(self, work: Callable[[Connection], T], *, adds: bool = False) -> T:
        """Run `work` in a transaction, which is on disk when this returns; all or nothing of it.

        Raises DamagedError, or SpoolError where there is no room; nothing is lost then. Only
        what `adds` batches is held to the bound less the reserved pages.
        """
        try:
            return self._transaction("IMMEDIATE", work, adds=adds)
        except sqlite3.Error as error:
            if _code(error) not in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}:
                raise self._error(error) from error
        # Perhaps it was the log that could not grow. What it holds can move into the file, and
        # then it is written anew from its start, which takes no room. To move may take some.
        if not adds:
            self._reserve.unlink(missing_ok=True)
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            return self._transaction("IMMEDIATE", work, adds=adds)
        except sqlite3.Error as error:
            raise self._error(error) from error

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work`, which only reads, on one state of the file; DamagedError or SpoolError."""
        try:
            return self._transaction("DEFERRED", work)
        except sqlite3.Error as error:
            raise self._error(error) from error

    def changed(self) -> bool:
        """Say whether others have written to the file since this was last asked; True at first."""
        version = self.read(lambda connection: _number(connection, "PRAGMA data_version"))
        before, self._version = self._version, version
        return version != before

    def shrink(self) -> None:
        """Give the disk its room back when most of the file is unused; else do nothing."""
        self._reserve_disk()
        with suppress(sqlite3.Error):
            unused = _number(self._connection, "PRAGMA freelist_count")
            pages = _number(self._connection, "PRAGMA page_count")
            if unused > max(self._log_pages, pages // 2):
                self._connection.execute("VACUUM")
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def check(self) -> None:
        """Read all of it; DamagedError when it is not sound."""
        found = self.read(
            lambda connection: connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        )
        if found != "ok":
            msg = f"{self.path}: damaged: {found}"
            raise DamagedError(msg)
        version = self.read(lambda connection: _number(connection, "PRAGMA user_version"))
        if version != _SCHEMA_VERSION:
            msg = f"{self.path}: damaged, or of another version ({version})"
            raise DamagedError(msg)

    @property
    def _reserve(self) -> Path:
        return self.path.with_name("reserve")

    def _reserve_disk(self) -> None:
        """Set so much of the disk aside as batches need to be removed when it is full."""
        if self._max_pages is None:
            return
        size_bytes = self._log_pages * _PAGE_BYTES
        try:
            descriptor = os.open(self._reserve, os.O_CREAT | os.O_RDWR, FILE_MODE)
            try:
                os.fchmod(descriptor, FILE_MODE)
                if os.fstat(descriptor).st_size != size_bytes:
                    os.ftruncate(descriptor, 0)
                    os.posix_fallocate(descriptor, 0, size_bytes)
            finally:
                os.close(descriptor)
        except OSError:
            # The disk is full already. What was had of it is better used otherwise.
            self._reserve.unlink(missing_ok=True)

    def _transaction(
        self,
        begin: Literal["IMMEDIATE", "DEFERRED"],
        work: Callable[[Connection], T],
        *,
        adds: bool = False,
    ) -> T:
        if self._max_pages is not None:
            pages = self._max_pages - (_RESERVED_PAGES if adds else 0)
            self._connection.execute(f"PRAGMA max_page_count={pages}").fetchall()
        self._connection.execute(f"BEGIN {begin}")
        try:
            result = work(self._connection)
            self._connection.execute("COMMIT")
        finally:
            # After some errors SQLite has rolled back by itself.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        return result

    def _error(self, error: sqlite3.Error) -> SpoolError:
        code = _code(error)
        # An SQL error: the statements are right, so the tables are not what they were. No code:
        # the file is closed, as it was damaged and could not be rescued yet.
        if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, 0}:
            return DamagedError(f"{self.path}: damaged: {error}")
        if code == sqlite3.SQLITE_FULL:
            return SpoolError(f"{self.path}: {self._fullness()}")
        if code == sqlite3.SQLITE_BUSY:
            return SpoolError(f"{self.path}: another process has held it for {_BUSY_S:.0f} s")
        return SpoolError(f"{self.path}: {error}")

    def _fullness(self) -> str:
        """Say what was reached, bound or disk: SQLite has one error for both."""
        with suppress(sqlite3.Error, OSError):
            pages = _number(self._connection, "PRAGMA page_count")
            unused = _number(self._connection, "PRAGMA freelist_count")
            room_bytes = ((self._max_pages or 0) - pages + unused) * _PAGE_BYTES
            if shutil.disk_usage(self.path.parent).free < room_bytes:
                return "no room on the disk"
        return "full: it may have no more bytes (spool.max_bytes)"


def connect(path: Path) -> Connection:
    """Open the database `path`, which must exist, and may be damaged."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=_BUSY_S,
        isolation_level=None,
        check_same_thread=False,
    )
    # A damaged text is no reason to stop reading.
    connection.text_factory = lambda raw: raw.decode(errors="replace")
    return connection


def create(path: Path, collector: str, *, met_database: bool) -> None:
    """Make the database `path` with its tables, whose slot has the identity `collector`."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, FILE_MODE)
    try:
        os.fchmod(descriptor, FILE_MODE)
    finally:
        os.close(descriptor)
    with closing(connect(path)) as connection:
        connection.execute(f"PRAGMA page_size={_PAGE_BYTES}")
        # Nobody uses it before it is complete.
        connection.execute("PRAGMA journal_mode=OFF").fetchall()
        connection.execute("BEGIN")
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.execute("INSERT INTO slot VALUES (?, ?)", (collector, met_database))
        connection.execute(f"PRAGMA user_version={_SCHEMA_VERSION}")
        connection.execute("COMMIT")


def sync(path: Path) -> None:
    """Make a file, or the names in a directory, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _code(error: sqlite3.Error) -> int:
    """Return SQLite's primary code; 0 for an error of Python's module."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _number(connection: Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])
