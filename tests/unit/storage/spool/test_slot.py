"""The spool's slots: each collector has one of its own, and free ones are taken over."""

import multiprocessing
import os
import signal
import stat
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from collector.errors import SpoolError
from collector.storage.spool import Spool, slots
from tests.support.spools import MAX_BYTES, make_batch, reopened, waiting


def test_each_collector_has_a_slot_of_its_own(tmp_path: Path) -> None:
    """Two open spools never share a slot or an identity; a free one is taken again."""
    with reopened(tmp_path) as first, reopened(tmp_path) as second:
        assert first.collector != second.collector
        assert [slot.in_use() for slot in slots(tmp_path)] == [True, True]
        names = {first.collector, second.collector}
    assert [slot.in_use() for slot in slots(tmp_path)] == [False, False]
    with reopened(tmp_path) as third, reopened(tmp_path) as fourth:
        assert {third.collector, fourth.collector} == names
    assert len(slots(tmp_path)) == 2


def test_a_slot_with_batches_is_taken_first(tmp_path: Path) -> None:
    """What a dead collector left is adopted, before an empty slot with a smaller number."""
    with reopened(tmp_path), reopened(tmp_path), reopened(tmp_path) as third:
        third.append([make_batch(1)])
        name = third.collector
    with reopened(tmp_path) as adopted, reopened(tmp_path) as other:
        assert adopted.collector == name
        assert waiting(adopted) == [make_batch(1)]
        assert waiting(other) == []


def test_what_others_left_is_taken_over(tmp_path: Path) -> None:
    """As after a scale-down: from slots that nobody has, in order, behind one's own."""
    second = Spool.open(tmp_path, MAX_BYTES)
    with reopened(tmp_path) as first, reopened(tmp_path) as third:
        first.append([make_batch(0)])
        second.append([make_batch(i) for i in range(1, 5)])
        second.quarantine(make_batch(9), "poison")
        third.append([make_batch(5)])
        assert first.adopt() == 0
        second.close()
        assert first.adopt() == 4
        assert waiting(first) == [make_batch(i) for i in range(5)]
        assert (first.polls, first.quarantined) == (5, 0)
        assert first.adopt() == 0
        assert waiting(third) == [make_batch(5)]
        with reopened(tmp_path) as again:
            assert (waiting(again), again.quarantined) == ([], 1)


def test_meeting_the_database_is_remembered(tmp_path: Path) -> None:
    """`met_database` outlives the process."""
    with reopened(tmp_path) as spool:
        assert not spool.met_database
        spool.met_database = True
    with reopened(tmp_path) as spool:
        assert spool.met_database


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
def test_nobody_else_may_read(tmp_path: Path, umask: int) -> None:
    """Directories are 0700 and files 0600 under any umask."""
    before = os.umask(umask)
    try:
        with reopened(tmp_path / "spool") as spool:
            spool.append([make_batch(1)])
            for path in [tmp_path / "spool", *(tmp_path / "spool").rglob("*")]:
                mode = stat.S_IMODE(path.stat().st_mode)
                assert mode == (0o700 if path.is_dir() else 0o600), path
            assert (tmp_path / "spool/0/spool.sqlite-wal").exists()
    finally:
        os.umask(before)


def test_a_place_that_cannot_be_is_named(tmp_path: Path) -> None:
    """Where no directory can be made the error says where."""
    (tmp_path / "file").touch()
    with pytest.raises(SpoolError, match=str(tmp_path / "file")):
        Spool.open(tmp_path / "file" / "spool", MAX_BYTES)


def _take(directory: Path, out: Connection) -> None:
    """Take a slot, tell its identity, and keep it until killed."""
    spool = Spool.open(directory, MAX_BYTES)
    out.send(spool.collector)
    signal.pause()


def test_processes_that_start_together_share_no_slot(tmp_path: Path) -> None:
    """Six at once take six slots; after `kill -9` the next six take the same ones."""
    context = multiprocessing.get_context("forkserver")
    rounds: list[set[str]] = []
    for _ in range(2):
        receiver, sender = context.Pipe(duplex=False)
        processes = [context.Process(target=_take, args=(tmp_path, sender)) for _ in range(6)]
        try:
            for process in processes:
                process.start()
            rounds.append({receiver.recv() for _ in processes})
        finally:
            for process in processes:
                process.kill()
                process.join()
                process.close()
            receiver.close()
            sender.close()
        assert len(rounds[-1]) == 6
    assert rounds[0] == rounds[1]
