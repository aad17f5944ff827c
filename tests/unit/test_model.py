"""The rows' ids and batches."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from collector.model import (
    COUNTS,
    LATER_COUNTS,
    Batch,
    Meeting,
    PollRow,
    Sample,
    SessionRow,
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
    assert session_id("bbb1", INTERNAL_ID) == 2_197_131_529_124_633_205


def test_a_sessions_id_is_of_its_server() -> None:
    """Two servers behind two load balancers' APIs can show the same internal id."""
    ids = {
        session_id("bbb1", "x"),
        session_id("bbb2", "x"),
        session_id("bbb1", "y"),
        session_id("bbb", "1x"),
    }
    assert len(ids) == 4


@given(st.text(), st.text())
def test_a_sessions_id_fits_a_bigint(server: str, internal_id: str) -> None:
    """It is not negative and has 63 bits at most, whatever the names are."""
    assert 0 <= session_id(server, internal_id) < 2**63


def test_batches_add_up() -> None:
    """Rows of another batch come after one's own, and the other one stays as it is."""

    def batch(server: str) -> Batch:
        identity = session_id(server, "x")
        session = SessionRow(
            *(TS, server, identity, "x", TS, "acme", "room", None, None, False, False)
        )
        sample = Sample(TS, server, TS, "acme", identity, 1, 0, 0, 0, 0, 30, False, False)  # noqa: FBT003
        return Batch([PollRow(TS, server, True, "ok", 1, 30)], [session], [sample])  # noqa: FBT003

    total, other = batch("bbb1"), batch("bbb2")
    total.extend(other)
    for rows in (total.polls, total.sessions, total.samples):
        assert [row.server for row in rows] == ["bbb1", "bbb2"]
    assert other == batch("bbb2")
    total.extend(Batch())
    assert len(total.polls) == len(total.sessions) == len(total.samples) == 2
