"""The spool: what is acknowledged is there again, whatever happens to process, disk and file."""

import contextlib
import multiprocessing
import random
import shutil
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from collector.storage.spool import Spool
from tests.support.repository import ROOT
from tests.support.spools import MAX_BYTES, edit, make_batch, reopened, waiting


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
                # A loss is logged once.
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
from tests.support.spools import make_batch

spool = Spool.open(Path(sys.argv[1]), 2**30 if sys.argv[2] == "file" else 6_000_000)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
ballast = Path(sys.argv[1], "ballast")
if sys.argv[2] == "file":
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
    assert sys.argv[2] == "file", error
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
    done = subprocess.run(
        [*command, sys.executable, "-c", _FULL_DISK, str(directory), kind],
        cwd=ROOT,
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
