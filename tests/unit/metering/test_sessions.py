"""Known in part is not known: a session that an answer lacks or contradicts has not ended."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.metering.pipeline import Pipeline
from collector.model import Batch
from tests.support.polls import START, failed, meeting, ok
from tests.support.settings import make_settings

TICK = timedelta(seconds=30)


@pytest.fixture
def pipeline() -> Pipeline:
    """A pipeline with one server, bbb1, and 30 s ticks."""
    return Pipeline(make_settings())


def unseen(batch: Batch) -> list[float]:
    """Return the ticks that the batch says were not seen, in seconds after START."""
    return sorted((row.at - START).total_seconds() for row in batch.unseen)


def test_a_meeting_that_cannot_be_read_is_filled_like_a_missed_poll(pipeline: Pipeline) -> None:
    """It is not gone: its tick is filled, and told as not seen."""
    session = pipeline.process(ok(0, meeting(participants=10))).samples[0].session_id
    batch = pipeline.process(ok(30, meeting("other"), unread=["room-internal"]))
    assert [(row.tenant, row.session_id) for row in batch.unseen] == [("unassigned", session)]
    batch = pipeline.process(ok(60, meeting("other"), meeting(participants=20)))
    filled = [sample for sample in batch.samples if sample.filled]
    assert [(s.ts, s.session_id, s.participants) for s in filled] == [(START + TICK, session, 15)]
    # It was told before.
    assert not batch.unseen


def test_a_meeting_without_a_readable_id_can_be_any(pipeline: Pipeline) -> None:
    """It has no tenant and no session; one whose id is new is none of the known sessions."""
    pipeline.process(ok(0, meeting()))
    batch = pipeline.process(ok(30, meeting(), skipped=3, unread=["new"]))
    rows = sorted(batch.unseen, key=lambda row: row.sessions)
    assert [(row.tenant, row.session_id is None, row.sessions) for row in rows] == [
        (None, False, 1),
        (None, True, 2),
    ]


def test_a_contradiction_counts_and_is_told(pipeline: Pipeline) -> None:
    """A meeting that is there twice has a sample, and its tick is told as doubtful."""
    batch = pipeline.process(ok(0, meeting(participants=10), doubtful=["room-internal"]))
    assert [sample.participants for sample in batch.samples] == [10]
    assert unseen(batch) == [0]


@pytest.mark.parametrize("missed", [1, 10, 11])
def test_a_session_that_comes_back(pipeline: Pipeline, missed: int) -> None:
    """Within max_gap_s, the time is filled. In any case the answers without it are told."""
    first = pipeline.process(ok(0, meeting(participants=4)))
    for tick in range(1, missed + 1):
        assert not pipeline.process(ok(30 * tick)).unseen
    batch = pipeline.process(ok(30 * (missed + 1), meeting(participants=4)))
    assert len(batch.sessions) == 1
    assert {sample.session_id for sample in batch.samples} == {first.samples[0].session_id}
    filled = [sample for sample in batch.samples if sample.filled]
    assert len(filled) == (missed if missed <= 10 else 0)
    assert unseen(batch) == [30 * tick for tick in range(1, missed + 1)]


def test_a_long_pause(pipeline: Pipeline) -> None:
    """After an hour without polls nothing is filled, and sessions go on."""
    first = pipeline.process(ok(0, meeting(), meeting("gone")))
    pipeline.process(ok(30, meeting()))
    batch = pipeline.process(ok(3630, meeting(), meeting("gone")))
    assert [s.session_id for s in batch.samples] == [s.session_id for s in first.samples]
    assert [row.internal_id for row in batch.sessions] == ["gone-internal"]
    assert unseen(batch) == [30]


def test_failed_polls_are_no_answers_without_it(pipeline: Pipeline) -> None:
    """They lower the coverage already. Both kinds of ticks are filled."""
    pipeline.process(ok(0, meeting()))
    pipeline.process(failed(30))
    pipeline.process(ok(60))
    pipeline.process(failed(90))
    batch = pipeline.process(ok(120, meeting()))
    assert [(s.ts - START).seconds for s in batch.samples] == [120, 30, 60, 90]
    assert unseen(batch) == [60]


def test_another_meeting_with_the_same_id_does_not_come_back(pipeline: Pipeline) -> None:
    """A session is the same only if BigBlueButton created it at the same millisecond."""
    pipeline.process(ok(0, meeting()))
    pipeline.process(ok(30))
    batch = pipeline.process(ok(60, meeting(created_ms=1_770_020_000_001)))
    assert len(batch.samples) == 1
    assert not batch.unseen


def test_nobody_came(pipeline: Pipeline) -> None:
    """A room that nobody ever joined is announced as empty, and has no samples."""
    rooms = [meeting(f"empty{n}", 0, joined=False) for n in range(9)]
    batch = pipeline.process(ok(0, meeting(joined=True), *rooms))
    assert (len(batch.samples), len(batch.sessions)) == (1, 1)
    assert batch.polls[0].sessions == 1
    assert [row.is_known for row in batch.empties] == [True] * 9
    assert not pipeline.process(ok(30, meeting(joined=True), *rooms)).empties


def test_somebody_came_at_last(pipeline: Pipeline) -> None:
    """The session begins when somebody was seen, and stays one when all have left."""
    empty = pipeline.process(ok(0, meeting(participants=0, joined=False))).empties[0]
    batch = pipeline.process(ok(30, meeting(participants=2, joined=True)))
    (row,) = batch.sessions
    assert (row.session_id, row.started_at) == (empty.session_id, START + TICK)
    assert (len(batch.samples), batch.empties) == (1, [])
    batch = pipeline.process(ok(60, meeting(participants=0, joined=True)))
    assert ([s.participants for s in batch.samples], batch.sessions) == ([0], [])


def test_whether_somebody_came_can_be_unknown(pipeline: Pipeline) -> None:
    """Where a balancer leaves hasUserJoined out, an empty room counts, and is told as unknown."""
    batch = pipeline.process(ok(0, meeting(participants=0), meeting("other")))
    assert len(batch.samples) == 2
    assert [row.is_known for row in batch.empties] == [False]


def test_what_is_known_of_an_empty_room_stays_known(pipeline: Pipeline) -> None:
    """One answer without hasUserJoined makes no session of it."""
    pipeline.process(ok(0, meeting(participants=0, joined=False)))
    batch = pipeline.process(ok(30, meeting(participants=0)))
    assert (batch.samples, batch.sessions, batch.empties) == ([], [], [])
    assert len(pipeline.process(ok(60, meeting(participants=1))).sessions) == 1


@given(st.lists(st.sampled_from("sufh"), min_size=1, max_size=30))
def test_no_tick_counts_twice(kinds: list[str]) -> None:
    """Whatever polls see, miss or cannot read, each tick of a session has one sample at most.

    s: seen, u: unread, f: failed, h: hidden. If no poll failed and nothing is told as not seen, the
    session was seen at each tick from its first to its last sample.
    """
    pipeline = Pipeline(make_settings(max_gap_s=3600))
    ticks: list[float] = []
    told: list[float] = []
    for number, kind in enumerate("s" + "".join(kinds) + "s"):
        at_s = 30 * number
        result = {
            "s": ok(at_s, meeting()),
            "u": ok(at_s, unread=["room-internal"]),
            "f": failed(at_s),
            "h": ok(at_s),
        }[kind]
        batch = pipeline.process(result)
        ticks += [(sample.ts - START).total_seconds() for sample in batch.samples]
        told += unseen(batch)
    assert sorted(ticks) == [30 * n for n in range(len(kinds) + 2)]
    assert sorted(told) == [30 * (n + 1) for n, kind in enumerate(kinds) if kind in "uh"]
