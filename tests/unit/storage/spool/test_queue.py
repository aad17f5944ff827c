"""The spool's queue: order, numbers, bounds, and the quarantine."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from collector.errors import SpoolError
from collector.model import Batch
from collector.storage.spool import Entry, Spool, payload
from collector.storage.spool.payload import pack, unpack
from tests.support.spools import MAX_BYTES, edit, make_batch, quarantine_rows, reopened, waiting

SMALL_BYTES = 2 * 1024**2


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    """An empty spool in slot 0."""
    with contextlib.closing(Spool.open(tmp_path, MAX_BYTES)) as opened:
        yield opened


def test_batches_come_back_in_order(spool: Spool) -> None:
    """What was put first comes first, and only what is removed goes."""
    batches = [make_batch(i) for i in range(10)]
    spool.append(batches[:4])
    spool.append(batches[4:])
    entries = spool.oldest(15)
    assert [entry.batch for entry in entries] == batches[:5]
    spool.remove([entries[0].id, entries[2].id])
    assert waiting(spool) == [batches[1], *batches[3:]]


def test_one_entry_at_least(spool: Spool) -> None:
    """A batch with more samples than asked for comes alone; an empty spool gives nothing."""
    assert spool.oldest(10) == []
    spool.append([make_batch(1, samples=20), make_batch(2)])
    assert waiting(spool, 10) == [make_batch(1, samples=20)]


def fill(spool: Spool) -> int:
    """Append batches until the spool is full; return how many it holds."""
    for number in range(10_000):
        try:
            spool.append([make_batch(number, samples=1000)])
        except SpoolError as error:
            assert "full" in str(error)  # noqa: PT017 - the last of many calls
            return number
    raise AssertionError


def test_the_bound_can_change_while_it_is_used(tmp_path: Path) -> None:
    """A higher bound makes room at once; a lower one keeps what is there and refuses more."""
    with contextlib.closing(Spool.open(tmp_path, SMALL_BYTES)) as opened:
        held = fill(opened)
        opened.resize(2 * SMALL_BYTES)
        assert opened.max_bytes == 2 * SMALL_BYTES
        opened.append([make_batch(held, samples=1000)])
        opened.resize(SMALL_BYTES)
        with pytest.raises(SpoolError, match="full"):
            opened.append([make_batch(held + 1, samples=1000)])
        assert opened.polls == held + 1
        assert len(waiting(opened)) == held + 1


def test_numbers_are_not_given_twice(spool: Spool) -> None:
    """An id of a removed entry never means another one."""
    spool.append([make_batch(1)])
    first = spool.oldest(10)[0].id
    spool.remove([first])
    spool.append([make_batch(2)])
    spool.remove([first])
    assert waiting(spool) == [make_batch(2)]


def test_what_waits_is_counted(tmp_path: Path) -> None:
    """Polls, samples and bytes are right after every change, and after reopening."""
    with reopened(tmp_path) as spool:
        spool.append([make_batch(i, samples=i) for i in range(5)])
        assert (spool.polls, spool.samples, spool.quarantined) == (5, 10, 0)
        size_bytes = spool.bytes
        assert size_bytes == sum(pack(make_batch(i, samples=i)).size_bytes for i in range(5))
        entries = spool.oldest(100)
        spool.remove([entries[4].id])
        spool.quarantine(entries[3], "no such tenant")
        assert (spool.polls, spool.samples, spool.quarantined) == (3, 3, 1)
    with reopened(tmp_path) as again:
        assert (again.polls, again.samples, again.quarantined) == (3, 3, 1)
        assert 0 < again.bytes < size_bytes
        again.remove([entry.id for entry in again.oldest(100)])
        assert (again.polls, again.samples, again.bytes, again.quarantined) == (0, 0, 0, 1)


def test_a_full_spool_refuses_the_newest(tmp_path: Path) -> None:
    """At the bound nothing is taken, all of the old is kept, and there is room after removal."""
    max_bytes = 1024**2
    with contextlib.closing(Spool.open(tmp_path, max_bytes)) as spool:
        stored: list[Batch] = []

        def fill() -> None:
            for i in range(10_000):
                spool.append([make_batch(i, samples=100)])
                stored.append(make_batch(i, samples=100))

        with pytest.raises(SpoolError, match=r"spool\.sqlite: full.*max_bytes"):
            fill()
        assert len(stored) > 100
        assert spool.polls == len(stored)
        used_bytes = sum(path.stat().st_size for path in (tmp_path / "0").iterdir())
        assert 0.8 * max_bytes < used_bytes <= 1.05 * max_bytes
        with pytest.raises(SpoolError, match="full"):
            spool.append([make_batch(i, samples=100) for i in range(10)])
        assert waiting(spool) == stored
        # A full spool still stores its state, and batches can be moved and removed.
        spool.met_database = True
        entries = spool.oldest(10_000_000)
        for entry in entries[:50]:
            spool.quarantine(entry, "refused")
        spool.remove([entry.id for entry in entries[50:100]])
        assert waiting(spool) == stored[100:]
        again = [make_batch(20_000 + i, samples=100) for i in range(40)]
        spool.append(again)
        assert waiting(spool) == stored[100:] + again


def test_room_is_given_back(tmp_path: Path) -> None:
    """When nothing waits any more the disk has its room back."""
    with contextlib.closing(Spool.open(tmp_path, 2 * 1024**2)) as spool:
        spool.append([make_batch(i, samples=500) for i in range(150)])
        assert spool.bytes > 600_000
        spool.remove([entry.id for entry in spool.oldest(10_000_000)])
        assert spool.bytes == 0
        spool.append([make_batch(0)])
        sizes = {path.name: path.stat().st_size for path in (tmp_path / "0").iterdir()}
    assert sizes["spool.sqlite"] < 100_000
    assert sizes["spool.sqlite-wal"] < 400_000


# The quarantine


def test_a_damaged_entry_is_quarantined(tmp_path: Path, spool: Spool) -> None:
    """One flipped byte in a payload costs that batch, which is kept, and no other."""
    batches = [make_batch(i) for i in range(3)]
    spool.append(batches)
    bad = bytearray(pack(batches[1]).payload)
    bad[20] ^= 1
    edit(tmp_path / "0/spool.sqlite", "UPDATE waiting SET payload = ? WHERE id = 2", bytes(bad))
    with capture_logs() as logs:
        assert waiting(spool) == [batches[0], batches[2]]
    assert [entry["log_level"] for entry in logs] == ["error"]
    assert (spool.polls, spool.samples, spool.quarantined) == (2, 6, 1)
    ((reason, _, polls, _, _, kept),) = quarantine_rows(tmp_path)
    assert (reason, polls, kept) == ("damaged", 1, bytes(bad))
    with capture_logs() as logs:
        assert waiting(spool) == [batches[0], batches[2]]
    assert logs == []


def test_an_unknown_format_is_kept(tmp_path: Path, spool: Spool) -> None:
    """What a later version wrote goes to the quarantine as it is, with the reason."""
    spool.append([make_batch(1), make_batch(2)])
    edit(tmp_path / "0/spool.sqlite", "UPDATE waiting SET format = 99 WHERE id = 1")
    assert waiting(spool) == [make_batch(2)]
    ((reason, _, _, form, checksum, kept),) = quarantine_rows(tmp_path)
    assert "99" in reason
    assert form == 99
    assert unpack(payload.FORMAT, checksum, kept) == make_batch(1)


def test_quarantine_takes_entries_and_batches(tmp_path: Path, spool: Spool) -> None:
    """An entry leaves the queue; a batch that never was in it can be put there as well."""
    spool.append([make_batch(1), make_batch(2, server="bbb2")])
    spool.quarantine(spool.oldest(1)[0], "numeric field overflow")
    spool.quarantine(make_batch(3, server="bbb3"), "duplicate key")
    assert waiting(spool) == [make_batch(2, server="bbb2")]
    assert spool.quarantined == 2
    assert [row[:3] for row in quarantine_rows(tmp_path)] == [
        ("numeric field overflow", "bbb1", 1),
        ("duplicate key", "bbb3", 1),
    ]
    spool.quarantine(Entry(4711, make_batch(9)), "lost from the queue in a rescue")
    assert (spool.polls, spool.quarantined) == (1, 3)
