"""What a batch is on disk: it comes back as it was, or is known to be damaged."""

import json
import zlib
from datetime import UTC
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.model import Batch, PollRow, Sample, SessionRow
from collector.storage.spool import payload
from collector.storage.spool.payload import UnreadableError, pack, unpack
from tests.support.spools import make_batch

# The rows' fields as of FORMAT 1.
POLL = """
    ts server ok outcome latency_ms seconds skipped sessions participants voice video listeners
    dialins breakouts
"""
SESSION = """
    ts server session_id internal_id started_at tenant room room_name parent_internal_id breakout
    recording origin
"""
SAMPLE = """
    poll_ts server ts tenant session_id participants voice video listeners dialins seconds breakout
    filled
"""
SMALL = st.integers(-(2**31), 2**31 - 1)
BIG = st.integers(0, 2**63 - 1)
TIMES = st.datetimes(timezones=st.just(UTC)).map(lambda ts: ts.replace(fold=0))
TEXTS = st.text(max_size=20)
OPTIONAL = st.none() | TEXTS
POLLS = st.builds(
    PollRow,
    *(TIMES, TEXTS, st.booleans(), TEXTS, SMALL, SMALL, SMALL),
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
    """A row only grows at its end, by fields with a default; else FORMAT is another one."""
    assert payload.FORMAT == 2
    for kind, fields, defaults in (
        (PollRow, POLL, 8),
        (SessionRow, SESSION, 1),
        (Sample, SAMPLE, 0),
    ):
        known = fields.split()
        assert list(kind._fields[: len(known)]) == known
        added = kind._fields[len(known) :]
        assert len(kind._field_defaults) == defaults + len(added)


def packed(batch: Batch, polls: slice, sessions: slice, samples: slice) -> tuple[int, bytes, bytes]:
    """Return a payload with a part of the columns of each row, as another version would write."""
    tables = json.loads(zlib.decompress(pack(batch).payload))
    parts = [table[part] for table, part in zip(tables, (polls, sessions, samples), strict=False)]
    written = zlib.compress(json.dumps(parts).encode())
    return 1, blake2b(written, digest_size=16).digest(), written


def test_a_payload_of_an_earlier_version_is_read() -> None:
    """Columns that were added since then get their defaults; one that always was must be there."""
    batch = make_batch(0, samples=1)
    whole = slice(None)
    read = unpack(*packed(batch, whole, slice(11), whole))
    assert read == batch
    assert read.sessions[0].origin is None
    with pytest.raises(UnreadableError, match="damaged"):
        unpack(*packed(batch, whole, slice(10), whole))
    with pytest.raises(UnreadableError, match="damaged"):
        unpack(*packed(batch, whole, whole, slice(12)))


def test_a_payload_of_a_later_version_is_not_read() -> None:
    """What its further columns mean is unknown: it waits in quarantine for that version."""
    batch = make_batch(0, samples=1)
    row = pack(batch)
    tables = json.loads(zlib.decompress(row.payload))
    tables[2].append([0])
    written = zlib.compress(json.dumps(tables).encode())
    with pytest.raises(UnreadableError, match="a later version"):
        unpack(row.format, blake2b(written, digest_size=16).digest(), written)
    with pytest.raises(UnreadableError, match="format 3"):
        unpack(3, row.checksum, row.payload)


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
