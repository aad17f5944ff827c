"""What is left of a damaged spool: found, set aside, and rescued into a new file."""

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
    """Open a slot's file, which is made or rescued if need be, after reading all of it.

    Only for the process that has the slot. Raises SpoolError where that cannot be.
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
    """Set a damaged file aside, and put a new one in its place with all that can still be read.

    This process must not have it open. The damaged one is kept. Raises SpoolError or OSError
    where the disk has no room for the new one; all is then as it was.
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
        msg = f"{path}: damaged, and cannot be rescued: {error}"
        raise SpoolError(msg) from error
    os.link(path, aside)
    # A log beside the new file would be taken for its own.
    _move_log(path, aside)
    _put_in_place(path, fresh)
    log.error(
        "spool_damaged",
        error=reason,
        damaged=str(aside),
        **counts,
    )


def report_missing(path: Path, missing: int) -> None:
    """Say that acknowledged batches are not in the file, and keep its log, where they were.

    SQLite reads a log up to the first page whose checksum is wrong, and is silent about the rest.
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
    """Return the slot's identity and whether it met its database; a new one if unreadable."""
    with suppress(sqlite3.Error, TypeError):
        collector, met_database = damaged.execute(
            "SELECT collector, met_database FROM slot"
        ).fetchone()
        if re.fullmatch("[0-9a-f]{32}", str(collector)):
            return str(collector), met_database == 1
    return uuid.uuid4().hex, False


def _copy(damaged: Connection, fresh: Connection) -> dict[str, int]:
    """Copy all batches that can be read, under their numbers; return the counts by outcome."""
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
    # Numbers go on far above all that were given, so that none of a lost batch comes again.
    fresh.execute("DELETE FROM sqlite_sequence WHERE name = 'waiting'")
    fresh.execute(
        "INSERT INTO sqlite_sequence SELECT 'waiting', max(ifnull(max(id), 0), unixepoch()) "
        "FROM waiting"
    )
    fresh.execute("COMMIT")
    return counts


def _unreadable(form: object, checksum: object, payload: object) -> Packed:
    """Return a row for what was read of a batch, to be kept as it is."""
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
    """Yield the rows up to the first damaged page, and then from the end back to one."""
    seen = set()
    for order in ("", " DESC"):
        with suppress(sqlite3.Error):
            for row in damaged.execute(_READ[table] + order):
                if row[0] not in seen:
                    seen.add(row[0])
                    yield row
            return


def _make(path: Path, collector: str, *, met_database: bool) -> Path:
    """Make a new file beside `path`, and return its path."""
    fresh = path.with_name(path.name + _FRESH_SUFFIX)
    fresh.unlink(missing_ok=True)
    try:
        create(fresh, collector, met_database=met_database)
    except sqlite3.Error as error:
        fresh.unlink()
        msg = f"{path}: cannot be made: {error}"
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
