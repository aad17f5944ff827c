"""`bbbmeter spool`: what it shows, and that it works while a collector runs."""

import contextlib
import io
import json
import multiprocessing
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from rich.console import Console

from collector.commands.spool import print_spool
from collector.errors import SpoolError
from collector.model import Batch, PollRow, Sample, SessionRow
from collector.storage.spool import Spool
from collector.storage.spool.quarantine import drop, retry, show_batch, spool_state

START = datetime(2026, 2, 2, 8, tzinfo=UTC)
MAX_BYTES = 16 * 1024**2


def make_batch(number: int, server: str = "bbb1") -> Batch:
    """Return the batch of a tick."""
    ts = START + timedelta(seconds=30 * number)
    return Batch(
        [PollRow(ts, server, ok=True, outcome="ok", latency_ms=number, seconds=30, sessions=1)],
        [SessionRow(ts, server, 7, "abc-1", ts, "physics", "room", None, None, False, True)],  # noqa: FBT003 - a row
        [Sample(ts, server, ts, "physics", 7, 5, 1, 2, 3, 4, 30, breakout=False, filled=False)] * 2,
    )


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    """A spool in slot 0, in use: three batches wait, two are in quarantine."""
    with contextlib.closing(Spool.open(tmp_path, MAX_BYTES)) as opened:
        opened.append([make_batch(i) for i in range(4)])
        opened.quarantine(opened.oldest(2)[0], "value [red] out of range")
        opened.quarantine(make_batch(10, "bbb2"), "duplicate key")
        yield opened


def printed(directory: Path) -> str:
    """Return what `bbbmeter spool list` prints."""
    out = io.StringIO()
    print_spool(directory, Console(file=out, width=140))
    return out.getvalue()


def test_list_shows_what_waits_and_what_is_in_quarantine(tmp_path: Path, spool: Spool) -> None:
    """Each slot with counts and ticks, each batch with id, reason, servers and ticks."""
    with contextlib.closing(Spool.open(tmp_path, MAX_BYTES)):
        pass
    first, second = spool_state(tmp_path)
    assert (first.number, first.in_use, first.problem) == (0, True, None)
    assert (first.batches, first.polls, first.samples) == (3, 3, 6)
    assert first.size_bytes == spool.bytes
    assert (first.first, first.last) == (
        START + timedelta(seconds=30),
        START + timedelta(seconds=90),
    )
    assert [(b.id, b.reason, b.servers, b.polls, b.samples) for b in first.quarantined] == [
        ("0:1", "value [red] out of range", ("bbb1",), 1, 2),
        ("0:2", "duplicate key", ("bbb2",), 1, 2),
    ]
    assert first.quarantined[1].first == START + timedelta(seconds=300)
    assert (second.number, second.in_use, second.polls, second.first) == (1, False, 0, None)
    text = printed(tmp_path)
    assert "value [red] out of range" in text
    assert "2026-02-02 08:00:30 to 08:01:30 UTC" in text
    assert "0:2" in text


def test_list_of_nothing(tmp_path: Path) -> None:
    """No spool, and an empty one, are no error."""
    assert "no spool" in printed(tmp_path / "none")
    with contextlib.closing(Spool.open(tmp_path, MAX_BYTES)):
        assert "nothing in quarantine" in printed(tmp_path)


def test_list_names_a_damaged_slot(tmp_path: Path, spool: Spool) -> None:
    """A slot that cannot be read does not hide the others."""
    with contextlib.closing(Spool.open(tmp_path, MAX_BYTES)):
        pass
    (tmp_path / "1/spool.sqlite").write_bytes(b"nonsense" * 1000)
    first, second = spool_state(tmp_path)
    assert first.polls == spool.polls
    assert second.problem is not None
    assert str(tmp_path / "1/spool.sqlite") in second.problem
    assert "damaged" in printed(tmp_path)


@pytest.mark.usefixtures("spool")
def test_show_gives_the_rows(tmp_path: Path) -> None:
    """Every row of the batch is a line of JSON with names, values and its kind."""
    rows = [json.loads(line) for line in show_batch(tmp_path, "0:2")]
    assert [row["row"] for row in rows] == ["poll", "session", "sample", "sample"]
    assert rows[0]["ts"] == "2026-02-02T08:05:00+00:00"
    assert (rows[0]["server"], rows[0]["latency_ms"], rows[0]["voice"]) == ("bbb2", 10, None)
    assert rows[1]["internal_id"] == "abc-1"
    assert rows[2]["filled"] is False


def test_retry_puts_one_back(tmp_path: Path, spool: Spool) -> None:
    """It comes last in the queue of the running collector, which notices."""
    (done,) = retry(tmp_path, "0:1")
    assert (done.id, done.servers) == ("0:1", ("bbb1",))
    assert [entry.batch for entry in spool.oldest(100)] == [make_batch(i) for i in (1, 2, 3, 0)]
    assert (spool.polls, spool.samples, spool.quarantined) == (4, 8, 1)


def test_retry_all(tmp_path: Path, spool: Spool) -> None:
    """All come back, in the order in which they went; `refresh` is enough to count them."""
    assert [batch.id for batch in retry(tmp_path, "all")] == ["0:1", "0:2"]
    spool.refresh()
    assert (spool.polls, spool.quarantined) == (5, 0)
    assert [entry.batch for entry in spool.oldest(100)][3:] == [
        make_batch(0),
        make_batch(10, "bbb2"),
    ]
    assert retry(tmp_path, "all") == []


def test_counts_hold_when_both_write(tmp_path: Path, spool: Spool) -> None:
    """A retry just before the collector writes is counted once."""
    retry(tmp_path, "0:1")
    spool.append([make_batch(20)])
    assert (spool.polls, spool.quarantined) == (5, 1)
    drop(tmp_path, "all")
    spool.remove([entry.id for entry in spool.oldest(100)])
    assert (spool.polls, spool.samples, spool.bytes, spool.quarantined) == (0, 0, 0, 0)


def test_drop_deletes(tmp_path: Path, spool: Spool) -> None:
    """What is dropped is gone, and is returned."""
    assert [batch.reason for batch in drop(tmp_path, "0:2")] == ["duplicate key"]
    assert [batch.id for batch in drop(tmp_path, "all")] == ["0:1"]
    spool.refresh()
    assert (spool.polls, spool.quarantined) == (3, 0)


@pytest.mark.usefixtures("spool")
@pytest.mark.parametrize("batch_id", ["0:99", "7:1", "nonsense", "0:", "", "0:1 "])
def test_an_unknown_id_is_named(tmp_path: Path, batch_id: str) -> None:
    """No command takes an id that is none, and each says which; nothing is changed."""
    for command in (retry, drop, lambda *args: list(show_batch(*args))):
        with pytest.raises(SpoolError, match=batch_id or "''"):
            command(tmp_path, batch_id)
    assert len(spool_state(tmp_path)[0].quarantined) == 2


def test_a_damaged_batch_cannot_be_shown_but_dropped(tmp_path: Path, spool: Spool) -> None:
    """`show` says why not; `retry` only brings it back into quarantine."""
    path = tmp_path / "0/spool.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE quarantine SET checksum = x'00' WHERE id = 1")
    with pytest.raises(SpoolError, match=r"0:1.*damaged"):
        list(show_batch(tmp_path, "0:1"))
    retry(tmp_path, "0:1")
    assert [entry.batch for entry in spool.oldest(100)] == [make_batch(i) for i in (1, 2, 3)]
    assert [batch.reason for batch in drop(tmp_path, "all")] == ["duplicate key", "damaged"]


def _write_for_ever(directory: Path, out: Connection) -> None:
    """Append, quarantine and remove until killed."""
    spool = Spool.open(directory, MAX_BYTES)
    number = 0
    while True:
        spool.append([make_batch(number + i) for i in range(4)])
        entries = spool.oldest(8)
        spool.quarantine(entries[0], "refused")
        spool.remove([entry.id for entry in entries[1:]])
        number += 4
        out.send(number)


def test_the_command_line_works_beside_a_writer(tmp_path: Path) -> None:
    """Looking, retrying and dropping while another process writes disturbs neither."""
    context = multiprocessing.get_context("forkserver")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_write_for_ever, args=(tmp_path, sender))
    process.start()
    sender.close()
    try:
        receiver.recv()
        acted = turns = 0
        # However slow the other process is: until it was disturbed a few times.
        while turns < 30 or acted <= 5:
            turns += 1
            (state,) = spool_state(tmp_path)
            assert state.in_use
            assert state.problem is None
            assert state.polls == state.batches
            acted += len((retry if turns % 2 else drop)(tmp_path, "all"))
            while receiver.poll():
                receiver.recv()
        receiver.recv()
        assert receiver.recv() > 4
    finally:
        process.kill()
        process.join()
        process.close()
        receiver.close()
    with contextlib.closing(Spool.open(tmp_path, MAX_BYTES)) as spool:
        assert spool.polls == len(spool.oldest(10_000))
