"""What a batch is on disk: it comes back as it was, or is known to be damaged."""

import base64
from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.model import Batch, PollRow, Sample, SessionRow
from collector.storage.spool import payload
from collector.storage.spool.payload import UnreadableError, pack, unpack
from tests.support.spools import make_batch

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
