"""The SQLite file of a spool: opening, limiting its size, reading, writing and checking it.

It uses WAL, so that the command line can read while a collector writes. It uses
`synchronous=FULL`: with less, a power failure would lose the last commits, although they were
acknowledged.
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
# Seconds to wait for a lock that another process holds.
_BUSY_S = 10.0
_PAGE_BYTES = 4096
# SQLite moves the log into the file when the log has this many pages. If the maximum size is small,
# an eighth of it applies instead.
_LOG_PAGES = 1000
# Batches may not use these last pages, so that removing a batch always has room.
_RESERVED_PAGES = 16
# The version of the tables, written last: another number means an incomplete file or another
# version of bbbmeter.
_SCHEMA_VERSION = 1

_SCHEMA = (
    "CREATE TABLE slot (collector TEXT NOT NULL, met_database INTEGER NOT NULL) STRICT",
    # AUTOINCREMENT: no number is used twice, because a caller may still hold a removed batch's.
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
    """The file is not a valid SQLite database, or not a spool of this version."""


class SpoolFile:
    """An open file. Every SQLite error is raised as a SpoolError that names the file."""

    def __init__(self, path: Path, max_bytes: int | None = None) -> None:
        """Open `path`, which must exist; without `max_bytes` nothing may be added to it.

        `max_bytes` limits file, log and reserve together. The log can exceed its share while it
        holds one large transaction, or while readers use it without a break.
        """
        self.path = path
        self._bound(max_bytes)
        self._version: int | None = None
        try:
            # Do not create the file here: SQLite would give it the permissions of the umask.
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
        """Set the maximum size to `max_bytes`; existing data stay. Raises SpoolError."""
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
            # The data are not secret, and overwriting removed data would take room in the log.
            "secure_delete=OFF",
            f"wal_autocheckpoint={self._log_pages}",
            f"journal_size_limit={self._log_pages * _PAGE_BYTES}",
        ):
            self._connection.execute(f"PRAGMA {pragma}").fetchall()

    def close(self) -> None:
        """Close the file. The last process to close it moves the log into the file."""
        with suppress(sqlite3.Error):
            self._connection.close()

    def write(self, work: Callable[[Connection], T], *, adds: bool = False) -> T:
        """Run `work` in a transaction; it is on disk when this returns, all of it or nothing.

        Raises DamagedError, or SpoolError if there is no room; then nothing is lost. Only work
        that `adds` batches must leave the reserved pages free.
        """
        try:
            return self._transaction("IMMEDIATE", work, adds=adds)
        except sqlite3.Error as error:
            if _code(error) not in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}:
                raise self._error(error) from error
        # Perhaps the log could not grow. A checkpoint moves its pages into the file, and then
        # SQLite reuses the log from its start, which takes no room. The checkpoint may take some.
        if not adds:
            self._reserve.unlink(missing_ok=True)
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            return self._transaction("IMMEDIATE", work, adds=adds)
        except sqlite3.Error as error:
            raise self._error(error) from error

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work`, which only reads, on one snapshot of the file.

        Raises DamagedError or SpoolError.
        """
        try:
            return self._transaction("DEFERRED", work)
        except sqlite3.Error as error:
            raise self._error(error) from error

    def changed(self) -> bool:
        """Return whether others wrote to the file since the last call; True at the first call."""
        version = self.read(lambda connection: _number(connection, "PRAGMA data_version"))
        before, self._version = self._version, version
        return version != before

    def shrink(self) -> None:
        """Shrink the file if most of it is unused; else do nothing."""
        self._reserve_disk()
        with suppress(sqlite3.Error):
            unused = _number(self._connection, "PRAGMA freelist_count")
            pages = _number(self._connection, "PRAGMA page_count")
            if unused > max(self._log_pages, pages // 2):
                self._connection.execute("VACUUM")
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def check(self) -> None:
        """Check the whole file. Raises DamagedError if it is damaged."""
        found = self.read(
            lambda connection: connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        )
        if found != "ok":
            msg = f"{self.path}: the file is damaged: {found}"
            raise DamagedError(msg)
        version = self.read(lambda connection: _number(connection, "PRAGMA user_version"))
        if version != _SCHEMA_VERSION:
            msg = (
                f"{self.path}: the file is damaged, or written by another version of bbbmeter "
                f"(format {version}, expected {_SCHEMA_VERSION})"
            )
            raise DamagedError(msg)

    @property
    def _reserve(self) -> Path:
        return self.path.with_name("reserve")

    def _reserve_disk(self) -> None:
        """Reserve disk space, so that batches can be removed when the disk is full."""
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
            # The disk is full already: free the part that was reserved.
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
            # After some errors SQLite has rolled back already.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        return result

    def _error(self, error: sqlite3.Error) -> SpoolError:
        code = _code(error)
        # SQLITE_ERROR: the statements are correct, so the tables must be damaged. No code (0): the
        # file is closed, because it was damaged and could not be rescued yet.
        if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, 0}:
            return DamagedError(f"{self.path}: the file is damaged: {error}")
        if code == sqlite3.SQLITE_FULL:
            return SpoolError(f"{self.path}: {self._fullness()}")
        if code == sqlite3.SQLITE_BUSY:
            return SpoolError(
                f"{self.path}: another process has locked the file for {_BUSY_S:.0f} s"
            )
        return SpoolError(f"{self.path}: {error}")

    def _fullness(self) -> str:
        """Return which limit was reached, size or disk: SQLite has one error for both."""
        with suppress(sqlite3.Error, OSError):
            pages = _number(self._connection, "PRAGMA page_count")
            unused = _number(self._connection, "PRAGMA freelist_count")
            room_bytes = ((self._max_pages or 0) - pages + unused) * _PAGE_BYTES
            if shutil.disk_usage(self.path.parent).free < room_bytes:
                return "no room on the disk"
        return "full: it has reached its maximum size (spool.max_bytes)"


def connect(path: Path) -> Connection:
    """Open the database `path`, which must exist, and may be damaged."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=_BUSY_S,
        isolation_level=None,
        check_same_thread=False,
    )
    # Invalid UTF-8 must not stop reading.
    connection.text_factory = lambda raw: raw.decode(errors="replace")
    return connection


def create(path: Path, collector: str, *, met_database: bool) -> None:
    """Create the database `path` with its tables; its slot has the identity `collector`."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, FILE_MODE)
    try:
        os.fchmod(descriptor, FILE_MODE)
    finally:
        os.close(descriptor)
    with closing(connect(path)) as connection:
        connection.execute(f"PRAGMA page_size={_PAGE_BYTES}")
        # No journal is necessary: the file is used only once it is complete.
        connection.execute("PRAGMA journal_mode=OFF").fetchall()
        connection.execute("BEGIN")
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.execute("INSERT INTO slot VALUES (?, ?)", (collector, met_database))
        connection.execute(f"PRAGMA user_version={_SCHEMA_VERSION}")
        connection.execute("COMMIT")


def sync(path: Path) -> None:
    """Flush a file, or the names in a directory, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _code(error: sqlite3.Error) -> int:
    """Return SQLite's primary error code; 0 for an error of Python's sqlite3 module."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _number(connection: Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])
