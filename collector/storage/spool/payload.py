"""Converts a batch to the bytes of one row in the spool's file, and back.

A payload is compressed JSON: for polls, sessions, samples, empty sessions and what was not seen, in
this order, a list of columns. A column is a list of the values of all rows. The columns have the
order of the model's fields. Columns compress better than rows. Times are microseconds since the
epoch.
"""

import json
import zlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, NamedTuple, TypeVar

from collector.model import Batch, EmptyRow, PollRow, Sample, SessionRow, Unseen

# Raise this number when fields of the row types move, are removed or change their meaning,
# and keep reading the older format. A field with a default that is added at a row's end needs no
# new format: a payload of an earlier version lacks its column and gets the default.
# Format 1 had the first three tables only.
FORMAT = 2
_READABLE = (1, 2)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# zlib's compression level: a higher one is far slower, and hardly smaller.
_LEVEL = 3

Row = TypeVar("Row", PollRow, SessionRow, Sample, EmptyRow, Unseen)


class UnreadableError(Exception):
    """A payload is damaged, or has an unknown format; the text says which."""

    def __init__(self, reason: str = "damaged") -> None:
        """Keep the reason, which is stored in the quarantine."""
        super().__init__(reason)


class Packed(NamedTuple):
    """A batch as a row of the spool's tables.

    `first_us` and `last_us` are its first and last tick in microseconds; None if it has no rows.
    """

    format: int
    checksum: bytes
    polls: int
    samples: int
    size_bytes: int
    first_us: int | None
    last_us: int | None
    payload: bytes


def pack(batch: Batch) -> Packed:
    """Return `batch` as a row of the spool's tables."""
    tables = (
        _columns(PollRow, batch.polls),
        _columns(SessionRow, batch.sessions),
        _columns(Sample, batch.samples),
        _columns(EmptyRow, batch.empties),
        _columns(Unseen, batch.unseen),
    )
    # ASCII: this also preserves text that is not valid Unicode.
    text = json.dumps(tables, separators=(",", ":"), ensure_ascii=True)
    payload = zlib.compress(text.encode("ascii"), _LEVEL)
    ticks = {row[0] for row in rows_of(batch)}
    return Packed(
        FORMAT,
        _checksum(payload),
        polls=len(batch.polls),
        samples=len(batch.samples),
        size_bytes=len(payload),
        first_us=_to_us(min(ticks)) if ticks else None,
        last_us=_to_us(max(ticks)) if ticks else None,
        payload=payload,
    )


def unpack(form: object, checksum: object, payload: object) -> Batch:
    """Return the batch from the values of a row of the spool's tables, which may be damaged.

    Raises UnreadableError; its text is a reason for the quarantine.
    """
    if not (isinstance(form, int) and isinstance(checksum, bytes) and isinstance(payload, bytes)):
        raise UnreadableError
    if form not in _READABLE:
        reason = f"unknown format {form}: written by another version of bbbmeter"
        raise UnreadableError(reason)
    if checksum != _checksum(payload):
        raise UnreadableError
    try:
        polls, sessions, samples, *more = json.loads(zlib.decompress(payload))
        empties, unseen = more or ([], [])
        return Batch(
            _rows(PollRow, polls),
            _rows(SessionRow, sessions),
            _rows(Sample, samples),
            _rows(EmptyRow, empties),
            _rows(Unseen, unseen),
        )
    except (ValueError, TypeError, OverflowError, zlib.error) as error:
        raise UnreadableError from error


def rows_of(batch: Batch) -> Iterable[PollRow | SessionRow | Sample | EmptyRow | Unseen]:
    """Yield all rows; the first two fields of each are its tick and its server."""
    yield from batch.polls
    yield from batch.sessions
    yield from batch.samples
    yield from batch.empties
    yield from batch.unseen


def to_datetime(microseconds: int) -> datetime:
    """Return the instant that many microseconds after the epoch."""
    return _EPOCH + timedelta(microseconds=microseconds)


def _checksum(payload: bytes) -> bytes:
    return blake2b(payload, digest_size=16).digest()


def _columns(kind: type[Row], rows: Sequence[Row]) -> list[Sequence[Any]]:
    return [
        [_to_us(value) for value in column] if kind.__annotations__[name] is datetime else column
        for name, column in zip(kind._fields, zip(*rows, strict=True), strict=False)
    ]


def _rows(kind: type[Row], columns: list[list[Any]]) -> list[Row]:
    if not columns:
        return []
    if len(columns) > len(kind._fields):
        reason = "written by a later version of bbbmeter, with columns that this one does not know"
        raise UnreadableError(reason)
    readable = [
        map(to_datetime, column) if kind.__annotations__[name] is datetime else column
        for name, column in zip(kind._fields, columns, strict=False)
    ]
    return [kind(*row) for row in zip(*readable, strict=True)]


def _to_us(ts: datetime) -> int:
    return (ts - _EPOCH) // _MICROSECOND
