"""A fleet's answers follow from its plan and the instant, and from nothing else."""

import random
from datetime import timedelta
from itertools import pairwise

import pytest

from collector.simulator import Fleet
from collector.simulator.render import NO_MEETINGS, MeetingView
from tests.support.fleets import MILLISECOND, START, moments, plan
from tests.support.repository import SAMPLES


class TestAnswers:
    """`Fleet.answer`."""

    def test_same_seed_same_answers(self) -> None:
        """Two fleets of one plan answer alike, byte by byte; another seed's fleet does not."""
        at = START + timedelta(hours=1)
        one, two, other = Fleet(plan()), Fleet(plan()), Fleet(plan(seed=2))
        assert [one.answer(s, at) for s in one.plan.server_names] == [
            two.answer(s, at) for s in two.plan.server_names
        ]
        assert one.answer("sim01", at) != other.answer("sim01", at)

    def test_order_of_calls_does_not_matter(self) -> None:
        """Going back in time, or asking the truth first, gives the same answers."""
        instants = moments(3, 40, timedelta(hours=2))
        fleet = Fleet(plan())
        forward = {at: fleet.answer("sim02", at) for at in instants}
        shuffled = random.Random(4).sample(instants, len(instants))
        other = Fleet(plan())
        other.truth(START, START + timedelta(hours=3))
        assert {at: other.answer("sim02", at) for at in shuffled} == forward

    def test_unchanged_meetings_are_not_rendered_again(self) -> None:
        """Between two events a meeting's bytes are the very same object."""
        (meeting, *_) = Fleet(plan()).meetings(START, START + timedelta(hours=1))
        view = MeetingView(meeting)
        edges = sorted({edge for s in meeting.stays for edge in (s.join_ms, s.left_ms)})
        before_ms, after_ms = max(pairwise(edges), key=lambda pair: pair[1] - pair[0])
        # Voice and webcams may change in between, the second half of the gap is quiet enough.
        quiet_ms = after_ms - 2
        assert view.at(before_ms)
        quiet = view.at(quiet_ms)
        assert view.at(quiet_ms + 1) is quiet
        assert view.at(after_ms) != quiet

    def test_what_cannot_be_answered(self) -> None:
        """Unknown servers and instants before the plan's start are errors of the caller."""
        fleet = Fleet(plan())
        with pytest.raises(KeyError):
            fleet.answer("sim99", START)
        with pytest.raises(ValueError, match="before the start"):
            fleet.answer("sim01", START - MILLISECOND)
        with pytest.raises(ValueError, match="since must be before until"):
            fleet.truth(START, START)

    def test_no_meetings(self) -> None:
        """A server without meetings answers as BigBlueButton does."""
        late = START + timedelta(days=3)
        assert Fleet(plan()).answer("sim01", late) == NO_MEETINGS
        assert (SAMPLES / "no-meetings.xml").read_bytes() == NO_MEETINGS
