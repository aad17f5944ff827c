"""The contents of each collector's spool, and the batches that the database rejected.

All functions work while collectors run. A collector notices batches that were put back into its
queue.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from collector.errors import SpoolError
from collector.model import PollRow, Sample, SessionRow
from collector.storage.spool.file import ADD_WAITING, Connection
from collector.storage.spool.payload import UnreadableError, rows_of, to_datetime, unpack
from collector.storage.spool.slot import Slot, slots

ALL = "all"
_KINDS = {PollRow: "poll", SessionRow: "session", Sample: "sample"}
_ID = re.compile(r"([0-9]{1,9}):([0-9]{1,18})")
_WAITING = """
SELECT
    count(*), ifnull(sum(polls), 0), ifnull(sum(samples), 0), ifnull(sum(bytes), 0),
    min(first_us), max(last_us)
FROM waiting
"""
_QUARANTINED = """
SELECT id, reason, servers, polls, samples, bytes, first_us, last_us FROM quarantine
WHERE ?1 IS NULL OR id = ?1
ORDER BY id
"""
_PAYLOAD = "SELECT format, checksum, payload FROM quarantine WHERE id = ?"
_TAKE_OUT = """
DELETE FROM quarantine WHERE id = ?
RETURNING format, checksum, polls, samples, bytes, first_us, last_us, payload
"""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A batch in quarantine; `id` is `slot:number`. An unreadable batch has no servers."""

    id: str
    reason: str
    servers: tuple[str, ...]
    polls: int
    samples: int
    size_bytes: int
    first: datetime | None
    last: datetime | None


@dataclass(frozen=True, slots=True)
class SlotState:
    """The contents of one collector's spool, or the problem with it.

    `first` and `last` are ticks.
    """

    number: int
    in_use: bool
    problem: str | None = None
    batches: int = 0
    polls: int = 0
    samples: int = 0
    size_bytes: int = 0
    first: datetime | None = None
    last: datetime | None = None
    quarantined: tuple[Quarantined, ...] = ()


def spool_state(directory: Path) -> list[SlotState]:
    """Return the state of each slot in `directory`. Raises SpoolError if it cannot be read."""
    return [_state(slot) for slot in _slots(directory)]


def show_batch(directory: Path, batch_id: str) -> Iterator[str]:
    """Yield the rows of a batch in quarantine, each as a line of JSON with its kind in `row`.

    Raises SpoolError for an unknown id and for an unreadable batch.
    """
    slot, number = _find(directory, batch_id)
    with closing(slot.look()) as file:
        found = file.read(lambda connection: connection.execute(_PAYLOAD, (number,)).fetchone())
    if found is None:
        raise _unknown(batch_id)
    try:
        batch = unpack(*found)
    except UnreadableError as error:
        msg = f"{batch_id}: the batch cannot be shown: {error}"
        raise SpoolError(msg) from error
    for row in rows_of(batch):
        # Times are the only values that JSON cannot represent.
        yield json.dumps({"row": _KINDS[type(row)], **row._asdict()}, default=datetime.isoformat)


def retry(directory: Path, batch_id: str) -> list[Quarantined]:
    """Move a batch, or `all`, to the end of its slot's queue; return the moved batches.

    Raises SpoolError for an unknown id, and if the disk cannot be written.
    """

    def put_back(connection: Connection, number: int) -> None:
        # Remove it first, so that its own room is sufficient.
        row = connection.execute(_TAKE_OUT, (number,)).fetchone()
        connection.execute(ADD_WAITING, (None, *row))

    return _each(directory, batch_id, put_back)


def drop(directory: Path, batch_id: str) -> list[Quarantined]:
    """Delete a batch, or `all`; return the deleted batches. Raises SpoolError as `retry` does."""

    def take_out(connection: Connection, number: int) -> None:
        connection.execute(_TAKE_OUT, (number,)).fetchall()

    return _each(directory, batch_id, take_out)


def _each(
    directory: Path, batch_id: str, act: Callable[[Connection, int], None]
) -> list[Quarantined]:
    """Act on a batch or on `all`, in one transaction per slot; return them."""
    if batch_id == ALL:
        return [done for slot in _slots(directory) for done in _act(slot, None, act)]
    slot, number = _find(directory, batch_id)
    done = _act(slot, number, act)
    if not done:
        raise _unknown(batch_id)
    return done


def _act(
    slot: Slot, number: int | None, act: Callable[[Connection, int], None]
) -> list[Quarantined]:
    def work(connection: Connection) -> list[Quarantined]:
        batches = _quarantined(connection, slot, number)
        for batch in batches:
            act(connection, int(batch.id.partition(":")[2]))
        return batches

    with closing(slot.look()) as file:
        return file.write(work)


def _slots(directory: Path) -> list[Slot]:
    try:
        return [slot for slot in slots(directory) if slot.path.exists()]
    except OSError as error:
        raise _not_readable(error, directory) from error


def _find(directory: Path, batch_id: str) -> tuple[Slot, int]:
    match = _ID.fullmatch(batch_id)
    if match is None:
        msg = f"{batch_id!r} is not a valid batch id; expected an id such as 0:17, or {ALL!r}"
        raise SpoolError(msg)
    for slot in _slots(directory):
        if slot.number == int(match[1]):
            return slot, int(match[2])
    raise _unknown(batch_id)


def _unknown(batch_id: str) -> SpoolError:
    return SpoolError(
        f"{batch_id}: there is no such batch in quarantine; `bbbmeter spool list` shows them"
    )


def _not_readable(error: OSError, directory: Path) -> SpoolError:
    return SpoolError(f"{error.filename or directory}: {error.strerror}")


def _state(slot: Slot) -> SlotState:
    try:
        in_use = slot.in_use()
    except OSError as error:
        raise _not_readable(error, slot.directory) from error

    def work(connection: Connection) -> SlotState:
        row = connection.execute(_WAITING).fetchone()
        batches, polls, samples, size_bytes, first_us, last_us = row
        return SlotState(
            slot.number,
            in_use,
            batches=batches,
            polls=polls,
            samples=samples,
            size_bytes=size_bytes,
            first=_tick(first_us),
            last=_tick(last_us),
            quarantined=tuple(_quarantined(connection, slot, None)),
        )

    try:
        with closing(slot.look()) as file:
            return file.read(work)
    except SpoolError as error:
        return SlotState(slot.number, in_use, problem=str(error))


def _quarantined(connection: Connection, slot: Slot, number: int | None) -> list[Quarantined]:
    rows = connection.execute(_QUARANTINED, (number,))
    return [
        Quarantined(
            id=f"{slot.number}:{key}",
            reason=reason,
            servers=tuple(servers.split()),
            polls=polls,
            samples=samples,
            size_bytes=size_bytes,
            first=_tick(first_us),
            last=_tick(last_us),
        )
        for key, reason, servers, polls, samples, size_bytes, first_us, last_us in rows
    ]


def _tick(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else to_datetime(microseconds)
