"""Whose word counts: a client can call any meeting a breakout, and name any parent."""

from typing import Any

import pytest

from collector.metering.pipeline import Pipeline
from collector.model import Batch, PollResult, Sample
from tests.support.polls import breakout, meeting, ok
from tests.support.settings import make_settings

TENANTS = [{"type": "metadata", "key": "bbblb-tenant"}, {"type": "parent"}]


@pytest.fixture
def pipeline() -> Pipeline:
    """A pipeline with one server and the tenants of BBBLB's mark."""
    return Pipeline(make_settings(attribution={"rules": TENANTS}))


def of(tenant: str) -> dict[str, Any]:
    """Return what a load balancer writes into a meeting of `tenant`."""
    return {"metadata": {"bbblb-tenant": tenant}}


def billed(batch: Batch) -> dict[str, int]:
    """Return the participants that each tenant's usage gets."""
    people: dict[str, int] = {}
    for sample in batch.samples:
        if not sample.breakout:
            people[sample.tenant] = people.get(sample.tenant, 0) + sample.participants
    return people


def process(pipeline: Pipeline, result: PollResult) -> dict[str, Sample]:
    """Return the samples of a poll by room."""
    batch = pipeline.process(result)
    rooms = {row.session_id: row.internal_id for row in batch.sessions}
    return {rooms[sample.session_id].removesuffix("-internal"): sample for sample in batch.samples}


def test_people_count_through_the_parent(pipeline: Pipeline) -> None:
    """Twenty people of a room in two breakouts are twenty people."""
    rooms = (breakout("a", 12, "room"), breakout("b", 8, "room"))
    samples = process(pipeline, ok(0, meeting(participants=20), *rooms))
    assert samples["room"].participants == 20
    assert samples["a"].breakout
    assert samples["b"].breakout


def test_a_breakout_hides_nobody(pipeline: Pipeline) -> None:
    """A room of 1 with a breakout of 40: one counts through the parent, and 39 beside it."""
    parent = meeting(participants=1, voice=1, video=0, **of("acme"))
    hidden = breakout("b", 40, "room", voice=20, video=40, **of("acme"))
    samples = process(pipeline, ok(0, hidden, parent))
    room = samples["room"]
    assert (room.tenant, room.participants) == ("acme", 40)
    # 39 of 40 of the breakout's voices and webcams.
    assert (room.voice, room.video) == (1 + 20, 39)
    # The old figure stays: who was in breakouts.
    assert (samples["b"].breakout, samples["b"].participants) == (True, 40)


@pytest.mark.parametrize("parent", ["unknown", "b", "c"])
def test_a_parent_that_is_none(pipeline: Pipeline, parent: str) -> None:
    """Without a parent in the answer, or with a breakout as parent, it is a session of its own."""
    rooms = (breakout("b", 40, parent, **of("acme")), breakout("c", 2, "b", **of("acme")))
    batch = pipeline.process(ok(0, meeting(participants=1, **of("acme")), *rooms))
    assert billed(batch) == {"acme": 43}
    assert batch.polls[0].participants == 43
    assert {row.room for row in batch.sessions} == {"room", "b", "c"}


def test_a_parent_that_nobody_joined(pipeline: Pipeline) -> None:
    """A parent without people, not even samples, hides nobody either."""
    parent = meeting(participants=0, joined=False, **of("acme"))
    batch = pipeline.process(ok(0, parent, breakout("b", 40, "room", **of("acme"))))
    assert billed(batch) == {"acme": 40}


def test_a_foreign_parent(pipeline: Pipeline) -> None:
    """Law's breakout names acme's meeting as its parent: law pays, and acme's figures stay."""
    rooms = (
        meeting(participants=5, **of("acme")),
        breakout("own", 5, "room", **of("acme")),
        breakout("foreign", 40, "room", **of("law")),
    )
    batch = pipeline.process(ok(0, *rooms))
    assert billed(batch) == {"acme": 5, "law": 40}
    assert {row.tenant: row.room for row in batch.sessions if row.internal_id[0] == "f"} == {
        "law": "foreign"
    }


def test_a_stolen_identity(pipeline: Pipeline) -> None:
    """The internal id of an ended meeting of acme, used again by law, is another session."""
    first = pipeline.process(ok(0, meeting("x", **of("acme"))))
    pipeline.process(ok(30))
    stolen = breakout("x", 300, "gone", created_ms=1_770_020_000_000, **of("law"))
    for at_s in (60, 90):
        batch = pipeline.process(ok(at_s, stolen))
        assert {sample.tenant for sample in batch.samples} == {"law"}
        assert len(batch.samples) == 1
        assert not batch.unseen
        assert batch.samples[0].session_id != first.samples[0].session_id


def test_a_stolen_identity_at_once(pipeline: Pipeline) -> None:
    """Also at the tick after acme's meeting was seen last."""
    first = pipeline.process(ok(0, meeting("x", **of("acme"))))
    stolen = breakout("x", 300, "gone", created_ms=1_770_020_000_000, **of("law"))
    batch = pipeline.process(ok(30, stolen))
    assert [(sample.tenant, sample.participants) for sample in batch.samples] == [("law", 300)]
    assert batch.sessions[0].session_id != first.samples[0].session_id


def test_an_orphan_counts(pipeline: Pipeline) -> None:
    """When the parent has ended, a breakout's people count, from then on, for the same room."""
    room, group = meeting(participants=9, **of("acme")), breakout("b", 9, "room", **of("acme"))
    pipeline.process(ok(0, room, group))
    batch = pipeline.process(ok(30, group))
    (row,) = batch.sessions
    assert billed(batch) == {"acme": 9}
    assert (row.room, row.breakout, row.started_at) == ("room", False, batch.polls[0].ts)
    assert billed(pipeline.process(ok(60, group))) == {"acme": 9}


def test_a_parent_that_comes_back_counts_nobody_twice(pipeline: Pipeline) -> None:
    """Its filled samples leave out who was counted in its breakouts meanwhile."""
    room, group = meeting(participants=9, **of("acme")), breakout("b", 7, "room", **of("acme"))
    pipeline.process(ok(0, room, group))
    pipeline.process(ok(30, group))
    batch = pipeline.process(ok(60, room, group))
    filled = [sample for sample in batch.samples if sample.filled]
    assert [(sample.breakout, sample.participants) for sample in filled] == [(False, 2)]


def test_a_parent_that_could_not_be_read(pipeline: Pipeline) -> None:
    """Its breakouts count by themselves meanwhile: else it could hide them."""
    room, group = meeting(participants=9, **of("acme")), breakout("b", 7, "room", **of("acme"))
    pipeline.process(ok(0, room, group))
    batch = pipeline.process(ok(30, group, unread=["room-internal"]))
    assert billed(batch) == {"acme": 7}
    assert [(row.tenant, row.at) for row in batch.unseen] == [("acme", batch.polls[0].ts)]
    batch = pipeline.process(ok(60, room, group))
    filled = [sample for sample in batch.samples if sample.filled]
    assert [(sample.breakout, sample.participants) for sample in filled] == [(False, 2)]


def test_a_breakout_of_nobody_knows_whom(pipeline: Pipeline) -> None:
    """Its tenant is not decided on a partial view: a parent that may tell it is awaited."""
    group = breakout("b", 7, "room")
    batch = pipeline.process(ok(0, group, unread=["room-internal"]))
    assert not batch.samples
    assert sum(row.sessions for row in batch.unseen) == 2
    room = meeting(participants=9, **of("acme"))
    batch = pipeline.process(ok(30, room, group))
    assert {(s.tenant, s.breakout) for s in batch.samples} == {("acme", False), ("acme", True)}
    # With a mark of its own it is not awaited.
    other = breakout("c", 3, "lost", **of("law"))
    assert billed(pipeline.process(ok(60, other, unread=["lost-internal"]))) == {"law": 3}


def test_more_people_in_a_breakout_that_a_poll_left_out(pipeline: Pipeline) -> None:
    """They are missing in the parent's figures of that time, which is told; others are not."""
    room = meeting(participants=5, **of("acme"))
    for people, told in ((5, 0), (40, 1)):
        group = breakout(f"b{people}", people, "room", **of("acme"))
        at_s = 300 * people
        pipeline.process(ok(at_s, room, group))
        pipeline.process(ok(at_s + 30, room))
        batch = pipeline.process(ok(at_s + 60, room, group))
        assert len(batch.unseen) == told, people
        assert {row.tenant for row in batch.unseen} == ({"acme"} if told else set())
