"""Batches and spools for tests."""

import contextlib
import random
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from collector.model import Batch, PollRow, Sample, SessionRow
from collector.storage.spool import Spool

START = datetime(2026, 2, 2, 8, tzinfo=UTC)
MAX_BYTES = 64 * 1024**2


def make_batch(number: int, samples: int = 3, server: str = "bbb1") -> Batch:
    """Return a batch with one tick; each `number` gives another batch."""
    ts = START + timedelta(seconds=30 * number)
    rng = random.Random(number)
    yes, no = True, False
    return Batch(
        [PollRow(ts, server, yes, "ok", number, 30, sessions=samples)],
        [SessionRow(ts, server, 7, f"{number}", ts, "art", "room", None, None, no, yes)],
        [
            Sample(ts, server, ts, "art", rng.getrandbits(63), 5, 4, 3, 2, 1, 30, no, no)
            for _ in range(samples)
        ],
    )


def waiting(spool: Spool, max_samples: int = 1_000_000_000) -> list[Batch]:
    """Return the waiting batches."""
    return [entry.batch for entry in spool.oldest(max_samples)]


def reopened(directory: Path) -> contextlib.closing[Spool]:
    """Open the spool again."""
    return contextlib.closing(Spool.open(directory, MAX_BYTES))


def edit(spool_file: Path, statement: str, *values: object) -> None:
    """Change a spool's file from outside."""
    with contextlib.closing(sqlite3.connect(spool_file)) as connection, connection:
        connection.execute(statement, values)


def quarantine_rows(directory: Path, slot: int = 0) -> list[tuple[Any, ...]]:
    """Return the reason, servers, polls and payload of each batch in quarantine."""
    path = directory / str(slot) / "spool.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(
            "SELECT reason, servers, polls, format, checksum, payload FROM quarantine ORDER BY id"
        ).fetchall()
