"""The spool: what is acknowledged is there again, whatever happens to process, disk and file."""

import base64
import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from collector.errors import SpoolError
from collector.model import Batch, PollRow, Sample, SessionRow
from collector.storage.spool import Entry, Spool, payload, slots
from collector.storage.spool.payload import UnreadableError, pack, unpack

START = datetime(2026, 2, 2, 8, tzinfo=UTC)
MAX_BYTES = 64 * 1024**2
SMALL_BYTES = 2 * 1024**2


def make_batch(number: int, samples: int = 3, server: str = "bbb1") -> Batch:
    """Return the batch of a tick, that no other `number` has."""
    ts = START + timedelta(seconds=30 * number)
    rng = random.Random(number)
    yes, no = True, False
    return Batch(
        [PollRow(ts, server, yes, None, number, 30, sessions=samples)],
        [SessionRow(ts, server, 7, f"{number}", ts, "art", "room", None, None, no, yes)],
        [
            Sample(ts, server, ts, "art", rng.getrandbits(63), 5, 4, 3, 2, 1, 30, no, no)
            for _ in range(samples)
        ],
    )


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    """An empty spool in slot 0."""
    with contextlib.closing(Spool.open(tmp_path, MAX_BYTES)) as opened:
        yield opened


def waiting(spool: Spool, max_samples: int = 1_000_000_000) -> list[Batch]:
    """Return the batches that wait."""
    return [entry.batch for entry in spool.oldest(max_samples)]


def reopened(directory: Path) -> contextlib.closing[Spool]:
    """Open the spool again."""
    return contextlib.closing(Spool.open(directory, MAX_BYTES))


# Order, numbers, bounds


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
        # A full spool can still be told things, and batches can be moved and removed.
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


# The content


SMALL = st.integers(-(2**31), 2**31 - 1)
BIG = st.integers(0, 2**63 - 1)
TIMES = st.datetimes(timezones=st.just(UTC)).map(lambda ts: ts.replace(fold=0))
TEXTS = st.text(max_size=20)
OPTIONAL = st.none() | TEXTS
POLLS = st.builds(
    PollRow,
    *(TIMES, TEXTS, st.booleans(), OPTIONAL, SMALL, SMALL, SMALL),
    *([st.none() | SMALL] * 7),
)
SESSIONS = st.builds(
    SessionRow,
    *(TIMES, TEXTS, BIG, TEXTS, TIMES, TEXTS, OPTIONAL, OPTIONAL, OPTIONAL),
    *(st.booleans(), st.booleans(), OPTIONAL),
)
SAMPLES = st.builds(
    Sample,
    *(TIMES, TEXTS, TIMES, TEXTS, BIG, SMALL, SMALL, SMALL, SMALL, SMALL, SMALL),
    *(st.booleans(), st.booleans()),
)
BATCHES = st.builds(Batch, st.lists(POLLS), st.lists(SESSIONS), st.lists(SAMPLES))


@given(batch=BATCHES)
def test_a_batch_comes_back_as_it_was(batch: Batch) -> None:
    """Whatever is in a batch comes back, value and type."""
    row = pack(batch)
    again = unpack(row.format, row.checksum, row.payload)
    assert again == batch
    assert repr(again) == repr(batch)


def test_the_format_has_these_fields() -> None:
    """Who changes a row's fields must give the payload another FORMAT (and read the older one)."""
    assert payload.FORMAT == 2
    assert PollRow._fields == (
        *("ts", "server", "ok", "error", "latency_ms", "seconds", "skipped", "sessions"),
        *("participants", "voice", "video", "listeners", "dialins", "breakouts"),
    )
    assert SessionRow._fields == (
        *("ts", "server", "session_id", "internal_id", "started_at", "tenant", "room"),
        *("room_name", "parent_internal_id", "breakout", "recording", "origin"),
    )
    assert Sample._fields == (
        *("poll_ts", "server", "ts", "tenant", "session_id", "participants", "voice", "video"),
        *("listeners", "dialins", "seconds", "breakout", "filled"),
    )


def test_a_payload_of_format_1_is_read() -> None:
    """What the version before had spooled is stored; its sessions lack an origin."""
    written = base64.b85decode(
        "cwU8&%?iUH5QN{wa}VQRtj{7IA~Yx4fKA@NJE@@*np7BPam8=el#&hs(9xi;d`YU5qLma&TW?~IwN^2REH_Gj&U"
        "^dV<mxFVkO=~Rg&EtzmTL2SXYtLM#`<K&E$Tne$@A8GYX)3l;SmQH9Vhf6$FW7GPrZG?j(vO1FOc(I3I"
    )
    checksum = bytes.fromhex("c4b7edbbe5c2da04d4e22a2d96bf7021")
    assert unpack(1, checksum, written) == make_batch(0, samples=1)
    assert make_batch(0).sessions[0].origin is None


def test_a_damaged_payload_is_not_believed() -> None:
    """No single flipped bit of a payload goes unnoticed."""
    row = pack(make_batch(1))
    for at in range(len(row.payload)):
        damaged = bytearray(row.payload)
        damaged[at] ^= 1 << at % 8
        with pytest.raises(UnreadableError, match="damaged"):
            unpack(row.format, row.checksum, bytes(damaged))
    with pytest.raises(UnreadableError, match="damaged"):
        unpack(row.format, row.checksum, pack(make_batch(2)).payload)


# The quarantine


def edit(spool_file: Path, statement: str, *values: object) -> None:
    """Change a spool's file behind its back."""
    with contextlib.closing(sqlite3.connect(spool_file)) as connection, connection:
        connection.execute(statement, values)


def quarantine_rows(directory: Path, slot: int = 0) -> list[tuple[Any, ...]]:
    """Return reason, servers, polls and payload of each batch in quarantine."""
    path = directory / str(slot) / "spool.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(
            "SELECT reason, servers, polls, format, checksum, payload FROM quarantine ORDER BY id"
        ).fetchall()


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


# Slots


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


# Crashes, damage, and a disk that is full


def _append_for_ever(directory: Path, out: Connection) -> None:
    """Append pairs of batches, and tell each number when it is acknowledged."""
    spool = Spool.open(directory, MAX_BYTES)
    number = spool.polls
    out.send(-1)
    while True:
        spool.append([make_batch(number), make_batch(number + 1)])
        number += 2
        out.send(number)


def test_kill_9_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """After `kill -9` all that was acknowledged is there, in order, and no half append."""
    context = multiprocessing.get_context("forkserver")
    rng = random.Random(1)
    for _ in range(6):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_append_for_ever, args=(tmp_path, sender))
        process.start()
        sender.close()
        acknowledged = 0
        with contextlib.suppress(EOFError), receiver:
            # Anywhere between two acknowledgements, or in the midst of one.
            for _ in range(rng.randrange(2, 60)):
                acknowledged = receiver.recv()
            receiver.poll(rng.random() * 0.005)
            process.kill()
            while True:
                acknowledged = receiver.recv()
        process.join()
        process.close()
        with reopened(tmp_path) as spool, capture_logs() as logs:
            stored = waiting(spool)
            assert logs == []
            assert len(stored) >= acknowledged
            assert len(stored) % 2 == 0
            assert stored == [make_batch(i) for i in range(len(stored))]
            assert spool.polls == len(stored)


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spool whose process died: 120 batches in the file and 60 more in its log, two refused."""
    directory = tmp_path_factory.mktemp("crashed")
    with reopened(directory / "live") as spool:
        spool.append([make_batch(i, samples=20) for i in range(120)])
        spool.quarantine(make_batch(1000), "refused")
    with reopened(directory / "live") as spool:
        for i in range(120, 180, 5):
            spool.append([make_batch(i + k, samples=20) for k in range(5)])
        spool.quarantine(make_batch(1001), "refused")
        shutil.copytree(directory / "live", directory / "dead")
    return directory / "dead"


def _damage(path: Path, rng: random.Random) -> str:
    """Do to a file what bad disks do, in one of several ways."""
    content = bytearray(path.read_bytes())
    match rng.randrange(5):
        case 0:
            kind, at = "torn", rng.randrange(len(content))
            del content[at:]
        case 1:
            kind, at = "flipped", rng.randrange(len(content))
            content[at] ^= 1 << rng.randrange(8)
        case 2:
            kind, at = "zeroed", rng.randrange(len(content)) & ~4095
            content[at : at + 4096] = bytes(len(content[at : at + 4096]))
        case 3:
            kind, at = "noise", rng.randrange(len(content))
            content[at : at + 64] = rng.randbytes(len(content[at : at + 64]))
        case _:
            # Where SQLite keeps the structure of a page.
            kind, at = "page header", (rng.randrange(len(content)) & ~4095) + rng.randrange(12)
            content[at] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    return f"{kind} at {at}"


@pytest.mark.parametrize("name", ["spool.sqlite", "spool.sqlite-wal", "spool.sqlite-shm"])
def test_a_damaged_file_is_survived(tmp_path: Path, crashed: Path, name: str) -> None:
    """Whatever becomes of a file: it opens, what comes back is true, and a loss is logged."""
    original = [make_batch(i, samples=20) for i in range(180)]
    position = {batch.polls[0].ts: i for i, batch in enumerate(original)}
    whole = 0
    for seed in range(40):
        directory = tmp_path / str(seed)
        shutil.copytree(crashed, directory)
        what = f"{seed}: {_damage(directory / '0' / name, random.Random(seed))}"
        with capture_logs() as logs:
            with reopened(directory) as spool:
                stored = waiting(spool)
                found = len(logs)
                at = [position[batch.polls[0].ts] for batch in stored]
                assert stored == [original[i] for i in at], what
                assert at == sorted(set(at)), what
                assert spool.polls == len(stored), what
                identity = spool.collector
                # It is of full use again.
                spool.append([make_batch(5000)])
                assert waiting(spool)[-1] == make_batch(5000), what
            with reopened(directory) as spool:
                assert spool.polls == len(stored) + 1, what
                assert spool.collector == identity
                # A loss is told once.
                assert len(logs) == found, what
        lost = len(original) - len(stored)
        errors = [entry for entry in logs if entry["log_level"] == "error"]
        assert errors or not lost, what
        whole += not lost
        for entry in errors:
            assert Path(entry.get("damaged", tmp_path)).exists(), what
        shutil.rmtree(directory)
    assert whole < 40 or name == "spool.sqlite-shm"


def test_damage_found_while_running_is_survived(tmp_path: Path, crashed: Path) -> None:
    """A file that is damaged under a running collector is set aside; work goes on at once."""
    shutil.copytree(crashed, tmp_path / "spool")
    path = tmp_path / "spool/0/spool.sqlite"
    with reopened(tmp_path / "spool") as spool:
        identity = spool.collector
        spool.met_database = True
        entries = spool.oldest(100)
        with path.open("r+b") as stream:
            stream.seek(12 * 4096)
            stream.write(b"\xff" * 4096 * 4)
        # SQLite has pages in memory; another connection's write makes it read them again.
        edit(path, "DELETE FROM quarantine WHERE id = 1")
        with capture_logs() as logs:
            stored = spool.oldest(1_000_000)
        assert [entry["event"] for entry in logs] == ["spool_damaged"]
        assert 100 < len(stored) < 180
        assert stored[: len(entries)] == entries
        assert (spool.polls, spool.collector) == (len(stored), identity)
        spool.remove([entry.id for entry in entries])
        spool.append([make_batch(5000)])
        assert waiting(spool) == [e.batch for e in stored[len(entries) :]] + [make_batch(5000)]
        (aside,) = [p for p in path.parent.glob("*.damaged-*") if not p.name.endswith("-wal")]
        assert aside.stat().st_size > 100_000
    with reopened(tmp_path / "spool") as spool:
        assert spool.met_database


def test_what_is_no_database_is_set_aside(tmp_path: Path) -> None:
    """A file of something else is kept under another name, and a new one made."""
    with reopened(tmp_path) as spool:
        identity = spool.collector
    (tmp_path / "0/spool.sqlite").write_bytes(b"something else" * 1000)
    with capture_logs() as logs, reopened(tmp_path) as spool:
        assert spool.oldest(1) == []
        assert spool.collector != identity
    (entry,) = logs
    assert Path(entry["damaged"]).read_bytes() == b"something else" * 1000


_FULL_DISK = """
import os, resource, signal, sys
from pathlib import Path
from collector.errors import SpoolError
from collector.storage.spool import Spool
sys.path.insert(0, sys.argv[2])
from test_spool import make_batch

spool = Spool.open(Path(sys.argv[1]), 2**30 if sys.argv[3] == "file" else 6_000_000)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
ballast = Path(sys.argv[1], "ballast")
if sys.argv[3] == "file":
    # No file may grow beyond this: the write fails much as it does on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
else:
    disk = os.statvfs(sys.argv[1])
    ballast.write_bytes(bytes(disk.f_bavail * disk.f_frsize - 1_000_000))
stored = 0
try:
    while True:
        spool.append([make_batch(stored, samples=50)])
        stored += 1
except SpoolError as error:
    print(error)
assert stored > 50, stored
for _ in range(3):
    try:
        spool.append([make_batch(9999, samples=50)] * 100)
    except SpoolError:
        pass
    else:
        raise AssertionError
entries = spool.oldest(10**9)
assert [e.batch for e in entries] == [make_batch(i, samples=50) for i in range(stored)]
assert spool.polls == stored
# As the replay does it, on a disk that is as full as before.
removed = 0
try:
    for entry in entries[:40]:
        spool.remove([entry.id])
        removed += 1
except SpoolError as error:
    assert sys.argv[3] == "file", error
left = [e.batch for e in spool.oldest(10**9)]
assert left == [make_batch(i, samples=50) for i in range(removed, stored)]
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
ballast.unlink(missing_ok=True)
spool.remove([e.id for e in entries[removed:40]])
spool.quarantine(entries[40], "refused")
spool.append([make_batch(5000)])
left = [e.batch for e in spool.oldest(10**9)]
assert left == [make_batch(i, samples=50) for i in range(41, stored)] + [make_batch(5000)]
assert (spool.polls, spool.quarantined) == (len(left), 1)
spool.close()
"""


def _run_full_disk(directory: Path, kind: str, *command: str) -> str:
    here = Path(__file__).parent
    done = subprocess.run(
        [*command, sys.executable, "-c", _FULL_DISK, str(directory), str(here), kind],
        cwd=here.parent.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_file_that_cannot_grow_loses_nothing(tmp_path: Path) -> None:
    """When a write fails: SpoolError, all that was stored is there, and a later try succeeds."""
    assert str(tmp_path / "0/spool.sqlite") in _run_full_disk(tmp_path, "file")


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """When the disk is full, the newest are refused, and the oldest can still be removed."""
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    mount = ["sh", "-c", 'mount -t tmpfs -o size=8m tmpfs "$1" && shift && exec "$@"', "sh"]
    small_disk = [*unshare, *mount, str(tmp_path)]
    try:
        subprocess.run([*small_disk, "true"], check=True, capture_output=True, timeout=20)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no user may mount a file system here")
    out = _run_full_disk(tmp_path, "disk", *small_disk)
    assert out == f"{tmp_path}/0/spool.sqlite: no room on the disk\n"
