"""The rows' ids and batches."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from collector.model import (
    COUNTS,
    LATER_COUNTS,
    Batch,
    EmptyRow,
    Meeting,
    PollRow,
    Sample,
    SessionRow,
    Unseen,
    session_id,
)

TS = datetime(2026, 2, 2, 8, tzinfo=UTC)
INTERNAL_ID = "183f0bf3a0982a127bdb8161e0c44eb696b3e75c-1770000000000"


def test_counts_are_in_one_order() -> None:
    """They are copied by their place: later counts are the last fields, and may be None."""
    for row in (Meeting, Sample):
        assert tuple(field for field in row._fields if field in COUNTS) == COUNTS
        assert row._fields[-len(LATER_COUNTS) :] == LATER_COUNTS
        assert all(row._field_defaults[count] is None for count in LATER_COUNTS)


def test_a_sessions_id_never_changes() -> None:
    """It is stored: another value for the same session would count it twice."""
    identity = session_id("bbb1", "acme", INTERNAL_ID, 1770000000000)
    assert identity == 5_359_959_831_473_950_359


def test_a_sessions_id_is_of_all_that_identifies_it() -> None:
    """Two servers can show the same internal id, and clients can choose that of a breakout."""
    ids = {
        session_id("bbb1", "acme", "x", 1),
        session_id("bbb2", "acme", "x", 1),
        session_id("bbb1", "law", "x", 1),
        session_id("bbb1", "acme", "y", 1),
        session_id("bbb1", "acme", "x", 2),
        session_id("bbb1", "acme", "x", 1, nested=True),
        session_id("bbb", "1acme", "x", 1),
    }
    assert len(ids) == 7


@given(st.text(), st.text(), st.text(), st.integers(), st.booleans())
def test_a_sessions_id_fits_a_bigint(
    server: str,
    tenant: str,
    internal_id: str,
    created_ms: int,
    nested: bool,  # noqa: FBT001 - generated
) -> None:
    """It is not negative and has 63 bits at most, whatever the names are."""
    assert 0 <= session_id(server, tenant, internal_id, created_ms, nested=nested) < 2**63


def test_batches_add_up() -> None:
    """Rows of another batch come after one's own, and the other one stays as it is."""

    def batch(server: str) -> Batch:
        identity = session_id(server, "acme", "x", 0)
        session = SessionRow(
            *(TS, server, identity, "x", TS, "acme", "room", None, None, False, False)
        )
        sample = Sample(TS, server, TS, "acme", identity, 1, 0, 0, 0, 0, 30, False, False)  # noqa: FBT003
        poll = PollRow(TS, server, True, "ok", 1, 30)  # noqa: FBT003
        empty = EmptyRow(TS, server, 1, TS, "acme", None, is_known=True)
        unseen = Unseen(TS, server, TS, "acme", 1, 1, 30)
        return Batch([poll], [session], [sample], [empty], [unseen])

    total, other = batch("bbb1"), batch("bbb2")
    total.extend(other)
    for rows in (total.polls, total.sessions, total.samples, total.empties, total.unseen):
        assert [row.server for row in rows] == ["bbb1", "bbb2"]
    assert other == batch("bbb2")
    total.extend(Batch())
    assert len(total.polls) == len(total.sessions) == len(total.samples) == 2
