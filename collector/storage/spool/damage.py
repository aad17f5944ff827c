"""Detects a damaged spool file, sets it aside, and rescues its batches into a new file."""

import os
import re
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from collector.errors import SpoolError
from collector.storage.spool.file import (
    ADD_QUARANTINE,
    ADD_WAITING,
    Connection,
    DamagedError,
    SpoolFile,
    connect,
    create,
    sync,
)
from collector.storage.spool.payload import Packed, UnreadableError, pack, unpack

log = structlog.get_logger(__name__)

_LOG_SUFFIX = "-wal"
_FRESH_SUFFIX = ".new"
_READ = {
    "waiting": "SELECT id, format, checksum, payload FROM waiting ORDER BY id",
    "quarantine": "SELECT id, format, checksum, payload, reason, servers FROM quarantine "
    "ORDER BY id",
}


def open_sound(path: Path, max_bytes: int) -> SpoolFile:
    """Open a slot's file after checking all of it; create or rescue it if necessary.

    Only the process that holds the slot may call this. Raises SpoolError.
    """
    try:
        if not path.exists():
            _put_in_place(path, _make(path, uuid.uuid4().hex, met_database=False))
        try:
            return _open_checked(path, max_bytes)
        except DamagedError as error:
            rescue(path, str(error))
            return _open_checked(path, max_bytes)
    except OSError as error:
        msg = f"{path}: {error.strerror}"
        raise SpoolError(msg) from error


def rescue(path: Path, reason: str) -> None:
    """Replace a damaged file by a new one with everything that can still be read.

    This process must not have the file open. The damaged file is kept beside the new one. Raises
    SpoolError or OSError if the disk has no room for the new file; then nothing has changed.
    """
    aside = path.with_name(f"{path.name}.damaged-{_stamp()}")
    try:
        with closing(connect(path)) as damaged:
            collector, met_database = _identity(damaged)
            fresh = _make(path, collector, met_database=met_database)
            with closing(connect(fresh)) as connection:
                counts = _copy(damaged, connection)
    except sqlite3.Error as error:
        path.with_name(path.name + _FRESH_SUFFIX).unlink(missing_ok=True)
        msg = f"{path}: the file is damaged and could not be rescued: {error}"
        raise SpoolError(msg) from error
    os.link(path, aside)
    # SQLite would apply a log of the damaged file to the new one.
    _move_log(path, aside)
    _put_in_place(path, fresh)
    log.error(
        "spool_damaged",
        error=reason,
        damaged=str(aside),
        **counts,
    )


def report_missing(path: Path, missing: int) -> None:
    """Log that `missing` acknowledged batches are not in the file, and keep a copy of its log.

    They were in that log. SQLite reads a log up to the first page with a wrong checksum, and
    ignores the rest without an error.
    """
    aside = path.with_name(f"{path.name}.damaged-{_stamp()}{_LOG_SUFFIX}")
    with suppress(OSError):
        shutil.copy(_log_of(path), aside)
    log.error(
        "spool_log_damaged",
        damaged=str(aside),
        batches=missing,
    )


def _open_checked(path: Path, max_bytes: int) -> SpoolFile:
    file = SpoolFile(path, max_bytes)
    try:
        file.check()
    except SpoolError:
        file.close()
        raise
    return file


def _identity(damaged: Connection) -> tuple[str, bool]:
    """Return the slot's identity, and whether it ever reached its database.

    If they cannot be read, the identity is new and the second value is False.
    """
    with suppress(sqlite3.Error, TypeError):
        collector, met_database = damaged.execute(
            "SELECT collector, met_database FROM slot"
        ).fetchone()
        if re.fullmatch("[0-9a-f]{32}", str(collector)):
            return str(collector), met_database == 1
    return uuid.uuid4().hex, False


def _copy(damaged: Connection, fresh: Connection) -> dict[str, int]:
    """Copy all readable batches with their numbers; return the counts by outcome."""
    counts = {"rescued": 0, "quarantined": 0}
    fresh.execute("PRAGMA journal_mode=OFF")
    fresh.execute("BEGIN")
    for key, form, checksum, payload, reason, servers in _rows(damaged, "quarantine"):
        try:
            row = pack(unpack(form, checksum, payload))
        except UnreadableError:
            row = _unreadable(form, checksum, payload)
        fresh.execute(ADD_QUARANTINE, (key, str(reason), str(servers), *row))
        counts["quarantined"] += 1
    for key, form, checksum, payload in _rows(damaged, "waiting"):
        try:
            fresh.execute(ADD_WAITING, (key, *pack(unpack(form, checksum, payload))))
            counts["rescued"] += 1
        except UnreadableError as error:
            row = _unreadable(form, checksum, payload)
            fresh.execute(ADD_QUARANTINE, (None, str(error), "", *row))
            counts["quarantined"] += 1
    # New numbers start far above all earlier ones, so that a lost batch's number is not reused.
    fresh.execute("DELETE FROM sqlite_sequence WHERE name = 'waiting'")
    fresh.execute(
        "INSERT INTO sqlite_sequence SELECT 'waiting', max(ifnull(max(id), 0), unixepoch()) "
        "FROM waiting"
    )
    fresh.execute("COMMIT")
    return counts


def _unreadable(form: object, checksum: object, payload: object) -> Packed:
    """Return a row that keeps the bytes of an unreadable batch as they were read."""
    kept = payload if isinstance(payload, bytes) else b""
    return Packed(
        form if isinstance(form, int) else 0,
        checksum if isinstance(checksum, bytes) else b"",
        polls=0,
        samples=0,
        size_bytes=len(kept),
        first_us=None,
        last_us=None,
        payload=kept,
    )


def _rows(damaged: Connection, table: str) -> Iterator[tuple[Any, ...]]:
    """Yield the rows up to the first damaged page, then from the end back to the last one."""
    seen = set()
    for order in ("", " DESC"):
        with suppress(sqlite3.Error):
            for row in damaged.execute(_READ[table] + order):
                if row[0] not in seen:
                    seen.add(row[0])
                    yield row
            return


def _make(path: Path, collector: str, *, met_database: bool) -> Path:
    """Create a new file beside `path`, and return its path. Raises SpoolError."""
    fresh = path.with_name(path.name + _FRESH_SUFFIX)
    fresh.unlink(missing_ok=True)
    try:
        create(fresh, collector, met_database=met_database)
    except sqlite3.Error as error:
        fresh.unlink()
        msg = f"{path}: the file could not be created: {error}"
        raise SpoolError(msg) from error
    return fresh


def _put_in_place(path: Path, fresh: Path) -> None:
    sync(fresh)
    fresh.replace(path)
    sync(path.parent)


def _move_log(path: Path, aside: Path) -> None:
    with suppress(FileNotFoundError):
        _log_of(path).rename(_log_of(aside))
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)


def _log_of(path: Path) -> Path:
    return path.with_name(path.name + _LOG_SUFFIX)


def _stamp() -> str:
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
